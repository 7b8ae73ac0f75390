"""The store: everything on one SQLite file, composed of parts over one kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litequeue.core.dispatch import Dispatch
from litequeue.core.engine import Feature
from litequeue.errors import StoreError
from litequeue.sqlite.file.opening import Driver, Durability, File, OnConnect
from litequeue.sqlite.kernel import Kernel, Retention
from litequeue.sqlite.parts.admin import Admin
from litequeue.sqlite.parts.bulk import Bulk
from litequeue.sqlite.parts.compositions import Compositions
from litequeue.sqlite.parts.jobs import Jobs
from litequeue.sqlite.parts.limits import Limits
from litequeue.sqlite.parts.maintenance import FileMaintenance
from litequeue.sqlite.parts.rules import StoredRules
from litequeue.sqlite.parts.run_logs import RunLogs
from litequeue.sqlite.parts.runs import Runs
from litequeue.sqlite.parts.schedules import StoredSchedules
from litequeue.sqlite.parts.ticks import Ticks
from litequeue.sqlite.parts.transactions import Transactions
from litequeue.sqlite.parts.workers import Workers

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from litequeue.core.clock import Clock
    from litequeue.core.engine import Home, Runner, RunOptions


class SqliteStore:
    """One file, open in this process. Safe for threads, event loops and forks.

    The parts are the protocols of `core/engine.py`: an engine's (`jobs`, `schedules`, `rules`, `transactions`), a
    worker's
    (`runs`, `workers`, `ticks`, `maintenance`, `dispatch`), and an operator's (`admin`, `bulk`).
    """

    name: str = "sqlite"
    features: frozenset[Feature] = frozenset(Feature) - {Feature.WORKFLOWS}

    kernel: Kernel
    jobs: Jobs
    schedules: StoredSchedules
    rules: StoredRules
    compositions: Compositions
    transactions: Transactions
    runs: Runs
    run_logs: RunLogs
    workers: Workers
    ticks: Ticks
    limits: Limits
    maintenance: FileMaintenance
    dispatch: Dispatch
    admin: Admin
    bulk: Bulk

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        driver: Driver,
        durability: Durability,
        allow_unsafe_filesystem: bool = False,
        foreign_keys: bool = False,
        on_connect: OnConnect | None = None,
    ) -> None:
        self._file = File(
            path,
            driver,
            durability,
            allow_unsafe_filesystem=allow_unsafe_filesystem,
            foreign_keys=foreign_keys,
            on_connect=on_connect,
        )
        self._keep_hooks = on_connect is not None
        self._home: Home | None = None

    def attach(self, home: Home) -> None:
        """Open the file, and make its tables, for this queue. Raises `StoreError` and its kinds."""
        if self._home is not None:
            raise ValueError("this engine has a queue already; make another engine for another queue")
        self._open(home.clock, Retention(home.defaults.result_ttl, home.defaults.failed_ttl), create=True)
        self.jobs.codec = home.codec
        self._home = home

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        clock: Clock,
        result_ttl: float,
        failed_ttl: float,
        create: bool,
        driver: Driver,
        durability: Durability,
        **options: Any,
    ) -> SqliteStore:
        """Open a file without a queue, as the command line does: no tasks are known then. `options`: as above."""
        store = cls(path, driver=driver, durability=durability, **options)
        store._open(clock, Retention(result_ttl, failed_ttl), create=create)
        return store

    def _open(self, clock: Clock, retention: Retention, *, create: bool) -> None:
        self.kernel = kernel = Kernel(self._file, clock, retention, create=create, keep_hooks=self._keep_hooks)
        self.jobs = Jobs(kernel)
        self.schedules = StoredSchedules(kernel)
        self.rules = StoredRules(kernel)
        self.compositions = Compositions(kernel)
        self.transactions = Transactions(kernel)
        self.runs = Runs(kernel, self.transactions)
        self.run_logs = RunLogs(kernel)
        self.workers = Workers(kernel)
        self.ticks = Ticks(kernel)
        self.limits = Limits(kernel)
        self.maintenance = FileMaintenance(kernel)
        self.dispatch = kernel.idle
        self.admin = Admin(kernel)
        self.bulk = Bulk(kernel)

    def declare(self, task: Any) -> None:
        """Accept any task: the file keeps every option."""

    def runner(self, options: RunOptions) -> Runner:
        """Make a worker."""
        from litequeue.worker.worker import Worker

        if self._home is None:
            raise StoreError("this file was opened without a queue, so there are no tasks to run")
        return Worker(self._home, self, options)

    @property
    def path(self) -> Path:
        """The file's absolute path."""
        return self.kernel.path

    @property
    def directory(self) -> Path:
        """The folder beside the file, for locks and sockets."""
        return self.kernel.directory

    @property
    def driver_name(self) -> str:
        """The name of the driver in use."""
        return self.kernel.file.driver.LIBRARY

    @property
    def library_version(self) -> str:
        """The version of the SQLite library in use."""
        return self.kernel.file.driver.library_version()

    @property
    def durability(self) -> Durability:
        """What a commit survives: power loss ("full"), or a crash of the process ("normal")."""
        return self.kernel.file.durability

    @property
    def clock(self) -> Clock:
        """The clock that the store goes by."""
        return self.kernel.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self.kernel.clock = clock

    def check_process(self) -> None:
        """Raise `StoreError` in a process that was forked, without Python's hooks, while the file was open."""
        self.kernel.owner.enter()

    def close(self) -> None:
        """Close the connections; they are opened again when they are needed."""
        self.kernel.close()

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path} driver={self.driver_name}>"
