"""Find the target of a command: a file, or the `Queue` of an app, imported from the current folder."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import click

from litequeue.cli.mistake import Mistake
from litequeue.core.clock import SystemClock
from litequeue.core.duration import seconds
from litequeue.core.module_patterns import checked_patterns, import_matching
from litequeue.errors import LiteQueueError, StoreError
from litequeue.queue import Queue, default_path, default_queue
from litequeue.sqlite.file.opening import Driver
from litequeue.sqlite.store import SqliteStore

_APP = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d][\w.]*)?")
_FILE_ENDINGS = (".db", ".db3", ".sqlite", ".sqlite3")


class BrokenModule(click.ClickException):
    """The user's module raised while it was imported: shown with its own traceback."""

    def __init__(self, module: str, error: BaseException, failed: str = "could not be imported") -> None:
        super().__init__(f"{module} {failed}: {type(error).__name__}: {error}")
        self.trace: str = "".join(traceback.format_exception(type(error), error, _from_user_code(error.__traceback__)))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the traceback, then what failed."""
        click.echo(self.trace.rstrip(), file=file, err=True)
        super().show(file)


@dataclass(frozen=True)
class Place:
    """The target of a command: a store, and the queue declared on it if an app was named."""

    store: SqliteStore
    queue: Queue | None
    target: str

    def close(self) -> None:
        """Close the file."""
        (self.store if self.queue is None else self.queue).close()


def open_place(target: str | None, driver: Driver) -> Place:
    """Open the app's queue, or a file that has one in it; a file without one is left as it is."""
    if target is not None and names_app(target):
        queue, name = load(target)
        return Place(file_of(queue, name), queue, name)
    path = default_path() if target is None else target
    return Place(open_file(path, driver), None, path)


def file_of(queue: Queue, name: str) -> SqliteStore:
    """Return the SQLite file of the app's queue; a usage error where another engine keeps its jobs."""
    engine = queue.engine
    if not isinstance(engine, SqliteStore):
        raise Mistake(f"{name} runs on {engine.name}, and has no file of its own; use the tools of {engine.name}")
    return engine


def open_file(path: str, driver: Driver, *, allow_unsafe_filesystem: bool = False) -> SqliteStore:
    """Open a file that has a queue in it; raises `StoreError` for any other, and makes nothing."""
    if not path or "\0" in path:
        raise Mistake(f"{path!r} is not a path; name the queue's file (app.db) or the app (app:queue)")
    if not Path(path).exists():
        raise StoreError(f"{path} does not exist; name the queue's file (app.db) or the app (app:queue)")
    return SqliteStore.open(
        path,
        driver=driver,
        durability="full",
        clock=SystemClock(),
        result_ttl=seconds("1d"),
        failed_ttl=seconds("30d"),
        create=False,
        allow_unsafe_filesystem=allow_unsafe_filesystem,
    )


def names_app(target: str) -> bool:
    """Tell `app:queue` and `app` from the path of a file."""
    if not _APP.fullmatch(target) or Path(target).is_file():
        return False
    return ":" in target or not target.endswith(_FILE_ENDINGS)


def load(target: str) -> tuple[Queue, str]:
    """Import an app's module; return its queue and a name under which a worker process finds the same queue."""
    if target.endswith(".py") and os.sep not in target:
        raise Mistake(f"{target!r} is a file of Python code; name its module: {target.removesuffix('.py')!r}")
    if not _APP.fullmatch(target):
        raise Mistake(f"{target!r} is not an app; name a module and the queue in it, such as app:queue")
    module_name, _, attribute = target.partition(":")
    module = import_named(module_name)
    if attribute:
        return _named(module, module_name, attribute), target
    return _only(module, module_name)


def import_named(name: str) -> ModuleType:
    """Import a module of the user's; a misspelt name gets a suggestion, an error of its own its traceback."""
    _prepare_imports()
    try:
        return importlib.import_module(name)
    except LiteQueueError as error:
        where = [f"{frame.filename}:{frame.lineno}" for frame in _user_frames(error)]
        raise click.ClickException(f"{error} (raised {'at ' + where[0] + ' ' if where else ''}by {name})") from error
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise Mistake(_no_module(name, error.name)) from None
        raise BrokenModule(name, error) from error


def _prepare_imports() -> None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    _set_up_django()


def _set_up_django() -> None:
    """Set Django up before a module may import its models, where the environment names its settings."""
    settings = os.environ.get("DJANGO_SETTINGS_MODULE")
    if not settings or importlib.util.find_spec("django") is None:
        return
    from litequeue.integrations.django import set_up

    try:
        set_up()
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{settings}.".startswith(f"{error.name}."):
            raise Mistake(
                f"DJANGO_SETTINGS_MODULE is {settings!r}, but {_no_module(settings, error.name)}; correct or unset it"
            ) from None
        raise BrokenModule(f"Django with the settings {settings}", error, "could not be set up") from error


def import_patterns(patterns: Iterable[str], importer: Callable[[str], object] = import_named) -> None:
    """Import modules of a user's by names and patterns such as `shop.*`."""
    try:
        checked = checked_patterns(patterns)
        if checked:
            _prepare_imports()  # packages are imported to look into them
        import_matching(checked, importer)
    except (ImportError, ValueError) as error:
        raise Mistake(str(error)) from None


def import_apps(
    targets: tuple[str, ...], imports: tuple[str, ...], unserved: list[click.ClickException] | None
) -> dict[str, Queue]:
    """Import the other modules, then the apps, then those of the queues: each may declare tasks of the default queue.

    `unserved`: where to put the errors of modules that cannot be imported; None: they are raised.
    """

    def importer(module: str) -> object:
        try:
            return import_named(module)
        except click.ClickException as error:
            if unserved is None:
                raise
            unserved.append(error)
            return None

    import_patterns(imports, importer)
    if not targets:
        return {"the default queue": default_queue}
    found: dict[str, Queue] = {}
    for target in targets:
        if not names_app(target) and not target.endswith(".py"):
            raise Mistake(f"{target!r} is a file, and tasks are in code; name the app: litequeue run app:queue")
        found[target] = queue = load(target)[0]
        queue.import_modules(lambda patterns: import_patterns(patterns, importer))
    _refuse_one_file(found)
    return found


def _refuse_one_file(queues: dict[str, Queue]) -> None:
    """Refuse two apps on one file: they would be one worker twice, and neither would have the tasks of the other."""
    files: dict[str, str] = {}
    for app, queue in queues.items():
        if not isinstance(queue.engine, SqliteStore):
            continue
        path = os.path.realpath(queue.engine.path)
        if path in files:
            raise Mistake(
                f"{files[path]} and {app} use the same file, {path}; name one of them, and import the modules with the "
                "tasks of the other by -I MODULE"
            )
        files[path] = app


def _named(module: ModuleType, module_name: str, attribute: str) -> Queue:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Mistake(f"{module_name} has no {attribute!r}{_hint(attribute, list(queues_in(module)))}") from None
    if not isinstance(found, Queue):
        kind = type(found).__name__
        raise Mistake(f"{module_name}:{attribute} is a {kind}, not a Queue{_hint('', list(queues_in(module)))}")
    return found


def _only(module: ModuleType, module_name: str) -> tuple[Queue, str]:
    """Return the one queue in the module, or the default queue if tasks were declared on that."""
    found = queues_in(module)
    own = {name: queue for name, queue in found.items() if queue is not default_queue}
    distinct = {id(queue): f"{module_name}:{name}" for name, queue in reversed(own.items())}
    if len(distinct) > 1:
        raise Mistake(f"{module_name} has several queues; name one: {', '.join(sorted(distinct.values()))}")
    if own:
        name, queue = next(iter(own.items()))
        return queue, f"{module_name}:{name}"
    if found or default_queue.tasks:
        return default_queue, module_name
    raise Mistake(f"{module_name} contains no Queue, and declares no task on the default queue (from litequeue ...)")


def queues_in(module: ModuleType) -> dict[str, Queue]:
    """Return the queues that stand in a module, by name."""
    return {name: value for name, value in vars(module).items() if isinstance(value, Queue)}


def suggestion(word: str, known: list[str]) -> str:
    """Return `; did you mean 'x'?` where something is near, or nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _hint(attribute: str, names: list[str]) -> str:
    return suggestion(attribute, names) or (f"; its queues: {', '.join(names)}" if names else "; it contains no Queue")


def _no_module(name: str, missing: str) -> str:
    near = suggestion(name, modules_here())
    file = "" if "." in name else f", and no file {name!r}"
    return f"there is no module {missing!r} in {Path.cwd()} or on the Python path{file}{near}"


def modules_here() -> list[str]:
    """Name the modules in the current folder, and those in its packages."""
    names = []
    for found in pkgutil.iter_modules([str(Path.cwd())]):
        names.append(found.name)
        if found.ispkg:
            names += [f"{found.name}.{inner.name}" for inner in pkgutil.iter_modules([str(Path.cwd() / found.name)])]
    return names


def _from_user_code(trace: Any) -> Any:
    """Skip our own frames and those of the import system."""
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_machinery(filename: str) -> bool:
    return filename == __file__ or "importlib" in filename


def _user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of the user's own code, the innermost first."""
    package = str(Path(__file__).parent.parent)
    frames = traceback.extract_tb(error.__traceback__)
    return [f for f in reversed(frames) if not f.filename.startswith(package) and not _is_machinery(f.filename)]
