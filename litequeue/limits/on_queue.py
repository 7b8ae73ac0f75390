"""The part of a queue that declares limits, shows and changes them, and pauses queues and tasks. Knows no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litequeue.core.engine import Engine, Feature
from litequeue.core.names import check_name, task_name
from litequeue.limits.declared import DeclaredLimits
from litequeue.limits.stored import Limits, Pause

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from litequeue.core.limits import PauseKind
    from litequeue.limits.limit import Limit


class DeclaresLimits:
    """What a queue has of limits and pauses."""

    limits_declared: DeclaredLimits

    @property
    def engine(self) -> Engine:
        """What keeps and runs the jobs."""
        raise NotImplementedError

    @property
    def tasks(self) -> Mapping[str, Any]:
        """The tasks declared on the queue, by name, also by their old names."""
        raise NotImplementedError

    def require(self, features: Iterable[Feature]) -> None:
        """Raise `Unsupported` if the engine lacks one of them."""
        raise NotImplementedError

    def limit(
        self, name: str, *, concurrency: int | None = None, rate: str | None = None, smooth: bool = False
    ) -> Limit:
        """Declare a limit that tasks share: `@queue.task(limits=[queue.limit("openai", concurrency=8, rate="500/m")])`.

        It is kept in the file, and holds for all workers together. `concurrency`: how many run at once. `rate`: how
        many start in any window, such as "10/s" or "500/m"; `smooth`: spaced evenly. `.cost()` and `.key()` of what
        this returns say what a task takes of it. Raises `ValueError` where the name is declared otherwise already.
        """
        self.require([Feature.LIMITS])
        own = self.tasks.get(name) if isinstance(name, str) else None
        if own is not None and any(limit.name == name for limit in own.limits):
            raise ValueError(
                f"{name!r} is the name of a task with a limit of its own; give the shared one another name"
            )
        return self.limits_declared.add(name, concurrency, rate, smooth=smooth)

    @property
    def limits(self) -> Limits:
        """The limits kept in the file, by name: `queue.limits["openai"].set(rate="250/m")`."""
        self.require([Feature.LIMITS])
        return Limits(self.engine.rules, self._declared_here)

    def _declared_here(self) -> Collection[str]:
        return self.limits_declared.all.keys()

    def pause(self, queue: str | None = None, *, task: Any = None) -> bool:
        """Let no job of a queue, or of a task (its name, or itself), start until `resume`; return whether that is new.

        It holds at once, in all processes, over restarts too. What runs goes on; what is enqueued, and what schedules
        enqueue, waits.
        """
        changed = [self.engine.rules.pause(*each) for each in self._paused(queue, task)]
        return any(changed)

    async def apause(self, queue: str | None = None, *, task: Any = None) -> bool:
        """Async twin of `pause`."""
        changed = [await self.engine.rules.apause(*each) for each in self._paused(queue, task)]
        return any(changed)

    def resume(self, queue: str | None = None, *, task: Any = None) -> bool:
        """Let the jobs of a queue, or of a task, start again; return whether it was paused."""
        changed = [self.engine.rules.resume(*each) for each in self._paused(queue, task)]
        return any(changed)

    async def aresume(self, queue: str | None = None, *, task: Any = None) -> bool:
        """Async twin of `resume`."""
        changed = [await self.engine.rules.aresume(*each) for each in self._paused(queue, task)]
        return any(changed)

    def _paused(self, queue: str | None, task: Any) -> list[tuple[PauseKind, str]]:
        """What is to be paused: of a task that is declared here also its other names."""
        self.require([Feature.LIMITS])
        if (queue is None) is (task is None):
            raise TypeError('give the name of a queue, such as pause("email"), or a task: pause(task="send_email")')
        if queue is not None:
            return [("queue", check_name(queue, "a queue's name"))]
        name = task_name(task if isinstance(task, str) else getattr(task, "name", task))
        declared = self.tasks.get(name)
        names = [name] if declared is None else [declared.name, *declared.options.aliases]
        return [("task", each) for each in names]

    @property
    def pauses(self) -> list[Pause]:
        """The queues and tasks that are paused, each with since when."""
        self.require([Feature.LIMITS])
        return [Pause.of(record) for record in self.engine.rules.pauses()]

    async def apauses(self) -> list[Pause]:
        """Async twin of `pauses`."""
        self.require([Feature.LIMITS])
        return [Pause.of(record) for record in await self.engine.rules.apauses()]
