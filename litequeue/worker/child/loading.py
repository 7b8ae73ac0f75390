"""Loads a task in a child process: imports its module, and makes it of its function where it is declared elsewhere."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from typing import TYPE_CHECKING, Any

from litequeue.children.findable import attribute
from litequeue.queue import Queue
from litequeue.task import Task

if TYPE_CHECKING:
    from types import ModuleType

    from litequeue.children.messages import Found


def load(found: Found) -> Task[..., Any]:
    """Import the module, and return the task. Raises what the import raises, and `ImportError`."""
    module = _imported(found)
    standing = attribute(module, found.name)
    if found.recipe is not None:
        name, options, place, of_queue = pickle.loads(found.recipe)  # noqa: S301  of the worker that has started us
        function = getattr(standing, "function", standing)
        if callable(function):
            return Task(function, name, options, Queue(place, **of_queue))
    elif isinstance(standing, Task):
        return standing
    raise ImportError(
        f"{found.module}.{found.name} is not there when the module is imported in a child process; "
        "it must not depend on how the program was started"
    )


def _imported(found: Found) -> ModuleType:
    try:
        return importlib.import_module(found.module)
    except ModuleNotFoundError as error:
        if found.file is None or error.name is None or not f"{found.module}.".startswith(f"{error.name}."):
            raise
    # it was loaded from its file, as test runners do
    spec = importlib.util.spec_from_file_location(found.module, found.file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{found.file} cannot be imported as {found.module}")
    module = sys.modules[found.module] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:  # else the next look finds half a module, and tells nothing of this
        sys.modules.pop(found.module, None)
        raise
    return module
