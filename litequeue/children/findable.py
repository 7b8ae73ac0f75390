"""Whether a child will find a task, and where, as the worker tells it: by module and name. Knows no process.

A name under which the task itself stands is enough. Where the plain function stands there, as in
`queue.task(process=True)(shop.images.shrink)`, the task's options travel along, pickled.
"""

from __future__ import annotations

import operator
import pickle
import sys
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from litequeue.children.command import has_interpreter, why_no_child
from litequeue.children.main_module import is_guarded, main_file
from litequeue.children.messages import Found
from litequeue.core.attached import Attached
from litequeue.errors import Unsupported

if TYPE_CHECKING:
    from litequeue.task import Task

INSTEAD = "put the function at the top level of a module that a fresh interpreter can import"


def found(task: Task[..., Any], place: str) -> Found:
    """Return where a child finds this task; raises `Unsupported`, which says why not. `place`: the queue's file."""
    if refusal := why_no_child():
        raise _refused(task, *refusal, what="no child process can be started")
    function = task.function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str)):
        raise _refused(task, "its function has no name in a module")
    if "<lambda>" in name:
        raise _refused(task, "its function is a lambda")
    if "<locals>" in name:
        raise _refused(task, "its function is defined inside another one")
    if module == "__main__":
        _check_main(task)
    standing = attribute(sys.modules.get(module), name)
    recipe = None
    if standing is not task:
        if getattr(standing, "function", standing) is not function:
            raise _refused(task, f"{module}.{name} is something else than its function")
        recipe = _recipe(task, place)
    return Found(module, name, getattr(sys.modules.get(module), "__file__", None), recipe)


def _check_main(task: Task[..., Any]) -> None:
    file = main_file()
    if not has_interpreter():
        raise _refused(task, "its function is in the program's own file, which is not there in a frozen program")
    if file is None:
        raise _refused(task, "its function was defined in a notebook, or in a session")
    if not is_guarded(file):
        guard = f'{file} has no `if __name__ == "__main__":` around what it does when it is started'
        raise _refused(task, guard, "put such a line there, or put the function into another module")


def _refused(
    task: Task[..., Any], why: str, instead: str = INSTEAD, *, what: str = "a child process cannot find it"
) -> Unsupported:
    return Unsupported(f"task {task.name!r} has process=True, and {what}: {why}; {instead}")


def _recipe(task: Task[..., Any], place: str) -> bytes:
    kept = replace(task.options, schedules=(), attached=Attached(), own_limit=None, limits=(), on_commit=None)
    try:
        return pickle.dumps((task.name, kept, place, {"codec": task.signature.codec, **task.owner.file_options}))
    except Exception as error:
        raise _refused(
            task,
            f"it is declared outside of its function's module, and its options or those of the queue cannot be pickled "
            f"({type(error).__name__}: {error})",
            "put @queue.task(process=True, ...) above the function",
        ) from error


def attribute(module: Any, name: str) -> Any:
    """Return what stands under a qualified name in a module; None: nothing does."""
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        return None
