"""The engine of one queue: the one it was given, or a file opened on first use. Knows no task, and no kind of file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from litequeue.core.absent_runner import Absent
from litequeue.core.engine import Engine, Feature, require, runner_of
from litequeue.core.engine_choice import chosen_engine
from litequeue.core.in_child import in_child
from litequeue.core.owner_process import lock_of_this_process
from litequeue.errors import Unsupported

if TYPE_CHECKING:
    from litequeue.core.engine import Home, Runner, RunOptions

Place = str | os.PathLike[str]


class EngineOnFile(Engine, Protocol):
    """An engine that keeps the jobs in a file."""

    @property
    def path(self) -> Path:
        """The file's absolute path."""


F = TypeVar("F", bound=EngineOnFile)


class OpenedEngine(Generic[F]):
    """What keeps and runs the jobs of `home`: `engine`, else what `make_file` makes of the path.

    `default_path` says where the file is if no path is given or bound; `file_options`: whether any was given for it.
    """

    def __init__(
        self,
        home: Home,
        engine: Engine | str | None,
        path: Place | None,
        make_file: Callable[[Place], F],
        default_path: Callable[[], str],
        *,
        file_options: bool,
    ) -> None:
        self._home, self._path, self._make_file, self._default_path = home, path, make_file, default_path
        self._opening: dict[int, threading.Lock] = {}
        self.opened: Engine | None = chosen_engine(engine, file_was_given=file_options or path is not None)
        self._has_file = self.opened is None
        if self.opened is not None:
            self.opened.attach(home)
        elif in_child():  # it is opened later, if at all, and a job may have left the current folder by then
            here = os.getcwd()  # noqa: PTH109  joined to what may be text or bytes
            self._path = None if path is None else os.path.abspath(path)  # noqa: PTH100
            self._default_path = lambda: os.path.join(here, default_path())  # noqa: PTH118
        elif path is not None:
            self.get()  # a problem with the file is an error where the queue is declared

    def get(self) -> Engine:
        """Return the engine; the file is opened on first use."""
        return self.opened or self._open()

    def _open(self) -> Engine:
        with lock_of_this_process(self._opening, threading.Lock):
            if self.opened is None:
                made = self._make_file(self._default_path() if self._path is None else self._path)
                made.attach(self._home)
                self.opened = made
            return self.opened

    def bind(self, path: Place) -> None:
        """Say where the file is, and open it. Raises `ValueError` if there is another one already, or an engine."""
        if not self._has_file:
            raise ValueError(f"this queue is on {self.get().name}, and has no file to bind")
        if self.opened is None:
            self._path = path
            self.get()
        elif os.path.realpath(there := self.file("bind()").path) != os.path.realpath(path):
            how = "was used before bind(), so it is" if self._path is None else "is"
            raise ValueError(f"this queue {how} at {there}; make it without a path, and bind it before its first use")

    def file(self, what: str) -> F:
        """Return the engine on the file; `Unsupported` where another engine keeps the jobs."""
        engine = self.get()
        if not self._has_file:
            raise Unsupported(
                f"{engine.name}: {what} is not supported, for this queue has no file; use the tools of {engine.name}"
            )
        return cast("F", engine)

    def check_file(self, what: str) -> None:
        """Raise `Unsupported` if another engine keeps the jobs. Opens nothing."""
        if not self._has_file:
            self.file(what)

    def require(self, features: Iterable[Feature]) -> None:
        """Raise `Unsupported` if the engine lacks one of them. Opens nothing."""
        if self.opened is not None:  # else it is a file, which lacks nothing that can be asked for
            require(self.opened, features)

    def declare(self, task: Any) -> None:
        """Tell the engine of a task, if it is there: a file keeps every task."""
        if self.opened is not None:
            self.opened.declare(task)

    def runner(self, options: RunOptions) -> Runner:
        """Return what runs the jobs in this process; in a child process of a worker, what runs none."""
        return Absent(options.name) if in_child() else runner_of(self.get(), options)

    def close(self) -> None:
        """Close what is open."""
        if self.opened is not None:
            self.opened.close()

    @property
    def place(self) -> str:
        """Where the jobs are, in words."""
        if not self._has_file:
            return f"on {self.get().name}"
        if self._path is not None:
            return os.fspath(self._path)
        return "not bound" if self.opened is None else os.fspath(self.file("path").path)
