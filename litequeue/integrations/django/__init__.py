"""litequeue at home in Django: an app for INSTALLED_APPS, `on_commit(task)`, and the command `litequeue_worker`.

In INSTALLED_APPS, 'litequeue.integrations.django' tells `on_commit=True` of Django's commits, and has the database
connections that are not to be used any more closed before and after each job. Knows no queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from litequeue.core.after_commit import install
from litequeue.core.around_jobs import Around, prepare_children_by, surround

if TYPE_CHECKING:
    from litequeue.task import Task

__all__ = ["on_commit"]

P = ParamSpec("P")
R = TypeVar("R")


def on_commit(task: Task[P, R], using: str | None = None) -> Task[P, R]:
    """Return the task so that its calls are stored after the commit of Django's transaction, at once if none is open.

    `using`: the alias of the database whose commit is meant; Django's default one unless given. Nothing is stored if
    the transaction, or the `atomic()` block in it, is rolled back. Arguments are checked at the call.
    """
    return task.using(on_commit=AfterCommit(using))


class AfterCommit:
    """Django's `transaction.on_commit`, for the database of one alias."""

    def __init__(self, using: str | None = None) -> None:
        self.using: str | None = using

    def __call__(self, run: Callable[[], object]) -> None:
        """Call `run` after the commit of the transaction that this thread has open, or at once."""
        from django.db import transaction

        transaction.on_commit(run, using=self.using)

    async def acall(self, run: Callable[[], object]) -> None:
        """The same for a coroutine: in the thread in which Django's database calls are made for it."""
        from asgiref.sync import sync_to_async

        await sync_to_async(self)(run)


def close_old_connections() -> None:
    """Close this thread's connections that are broken or older than CONN_MAX_AGE."""
    from django.db import close_old_connections as close

    close()


async def aclose_old_connections() -> None:
    """The same for a coroutine."""
    from asgiref.sync import sync_to_async

    await sync_to_async(close_old_connections)()


def take_part() -> None:
    """Tell litequeue of Django's commits, and see to its connections around jobs."""
    install(AfterCommit())
    surround(Around(close_old_connections, aclose_old_connections))
    prepare_children_by(f"{__name__}:set_up")


def set_up() -> None:
    """Set Django up, for a program that is not `manage.py`; take part, also where Django does not have us as an app."""
    import django
    from django.apps import apps

    if not apps.ready:  # else its settings for logging would be applied again
        django.setup()
    take_part()
