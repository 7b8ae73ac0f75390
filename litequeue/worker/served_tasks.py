"""The tasks that a worker runs, by the names under which their calls are stored. Knows no job.

Those of its queue, also those that are declared while it runs: see `Task.served`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from litequeue.core.logger import log
from litequeue.core.store import NewWorker
from litequeue.errors import StoreError, Unsupported
from litequeue.ipc.process_identity import Identity
from litequeue.limits.settings import encoded
from litequeue.limits.task_rules import encoded_rules
from litequeue.scheduling.declared import has_modules_amid_execution, is_being_imported
from litequeue.serialization.upgrading import names_in_order
from litequeue.worker.executor.executor import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from litequeue.core.engine import RunOptions
    from litequeue.core.registry import Registry
    from litequeue.core.store import Parameters, Store
    from litequeue.limits.declared import DeclaredLimits
    from litequeue.scheduling.declared import DeclaredSchedules
    from litequeue.task import Task
    from litequeue.worker.maintenance import Maintenance
    from litequeue.worker.running_jobs import RunningJobs


class ServedTasks:
    """Follows what a queue declares; `wake` is called, in any thread, when there is something new."""

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        schedules: DeclaredSchedules,
        limits: DeclaredLimits,
        wake: Callable[[], object],
        *,
        children: bool,
    ) -> None:
        self._registry, self._wake = cast("Registry[Task[..., Any]]", tasks), wake
        self._schedules, self._declared, self._limits = schedules, -1, limits
        self._stale = False
        limits.followers.append(self._note)
        schedules.followers.append(self._note)
        self._registry.followers.append(self._note)  # before the copy: what is declared in between is seen later
        self._children = children  # else those that want a child process are left to others
        self.tasks: dict[str, Task[..., Any]] = self._served(tasks)
        self._refused: set[Task[..., Any]] = set()
        self._once: set[str] = set()

    @property
    def at_most_once(self) -> tuple[str, ...]:
        """The names of those that may not be repeated, also if that is not said of them any more."""
        return self._once_among(self.tasks)

    def _once_among(self, tasks: Mapping[str, Task[..., Any]]) -> tuple[str, ...]:
        self._once |= {name for name, task in tasks.items() if task.options.policy.at_most_once}  # a run goes on yet
        return tuple(sorted(self._once))

    @property
    def names(self) -> frozenset[str]:
        """The stored names of what they run."""
        return frozenset(self.tasks)

    def close(self) -> None:
        """Follow no more."""
        for followers in (self._registry.followers, self._schedules.followers, self._limits.followers):
            if self._note in followers:
                followers.remove(self._note)

    def left_out(self) -> frozenset[str]:
        """Return the stored names of tasks that this worker leaves to others, since it has no child processes."""
        left = [] if self._children else [task for task in list(self._registry.values()) if task.options.process]
        return frozenset(name for task in left for name in task.served)

    @property
    def parameters(self) -> Parameters:
        """What calls of them give by position."""
        return _parameters(self.tasks)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that declare these tasks, and schedules."""
        return tuple(sorted(self._schedules.modules))

    def worker(self, token: str, options: RunOptions) -> NewWorker:
        """Return what is put on record of a worker that serves them in this process."""
        return NewWorker(
            token=token,
            identity=Identity.current().to_text(),
            queues=options.queues,
            tasks=tuple(sorted(self.names)),
            modules=self.modules,
            parameters=self.parameters,
            at_most_once=self.at_most_once,
            threads=options.threads,
            coroutines=options.coroutines,
            slots=options.slots,
            offers=options.offers,
        )

    def declare(self, store: Store) -> None:
        """Make the file's declared schedules and limits those of the code."""
        self._declare_limits(store, self.tasks)
        self._declare(store, self.names)

    def _declare_limits(self, store: Store, tasks: Mapping[str, Task[..., Any]]) -> None:
        limits = dict(self._limits.all) | {use.name: use for task in tasks.values() for use in task.limits}
        rules = {
            name: encoded_rules(task.limits, ordered=task.options.ordered, uses=task.options.uses)
            for task in tasks.values()
            for name in (task.name, *task.options.aliases)
        }
        store.limits.declare({name: encoded(limit.allowed) for name, limit in limits.items()}, rules)

    def _declare(self, store: Store, names: frozenset[str]) -> None:
        changes = self._schedules.changes  # before they are read
        code = self._schedules.code(names)
        store.ticks.declare(code)
        self._schedules.note_stored(code)
        if self._schedules.are_ready:
            self._declared = changes
        else:  # their modules are still being imported
            self._stale = True

    def remove_undeclared(self, store: Store) -> None:
        """At the end of the worker remove what a script that is still being executed declares no more."""
        if not has_modules_amid_execution(self.modules):
            return
        try:
            store.ticks.declare(self._schedules.code(self.names, at_end=True))
        except StoreError as error:
            log.warning("schedules that are declared no more were not removed: %s", error)

    def follow(self, worker: int, store: Store, runs: RunningJobs, maintenance: Maintenance, *, idle: bool) -> bool:
        """Run also what was declared meanwhile, or again; return whether there was any. `idle`: no job is here.

        Where this fails it is done again at the next call.
        """
        new = self._new(idle=idle) if self._stale else {}
        new = self._taken(new, runs)
        if not new and self._declared == self._schedules.changes:
            return False
        try:
            names = self.names | new.keys()
            self._declare_limits(store, new)
            all_tasks = {**self.tasks, **new}
            once = self._once_among(all_tasks)
            store.workers.serve(worker, names, self.modules, _parameters(all_tasks), once)
            self._declare(store, names)
        except BaseException:
            self._stale = True
            raise
        self.tasks |= new
        maintenance.serve(self.names)
        if new:
            log.info("now also serving %s", ", ".join(sorted({task.name for task in new.values()})))
        return bool(new)

    def _note(self) -> None:
        self._stale = True
        self._wake()

    def _new(self, *, idle: bool) -> dict[str, Task[..., Any]]:
        """The tasks to run from now on; the others later, after the next look."""
        self._stale = False  # first: what is declared from here on says so again
        changed = {
            name: task for name, task in self._served(self._registry).items() if self.tasks.get(name) is not task
        }
        ready = {name: task for name, task in changed.items() if self._is_ready(name, task, idle=idle)}
        self._stale = self._stale or len(ready) < len(changed)
        return {name: task for name, task in ready.items() if task not in self._refused}

    def _served(self, tasks: Mapping[str, Task[..., Any]]) -> dict[str, Task[..., Any]]:
        here = [task for task in list(tasks.values()) if self._children or not task.options.process]
        return {name: task for task in here for name in task.served}

    def _is_ready(self, name: str, task: Task[..., Any], *, idle: bool) -> bool:
        """Whether its module has been executed to its end, and no job runs that is of the other kind."""
        old = self.tasks.get(name)
        module = getattr(task.function, "__module__", None) or ""
        return not is_being_imported(module) and (old is None or kind_of(old) is kind_of(task) or idle)

    def _taken(self, new: dict[str, Task[..., Any]], runs: RunningJobs) -> dict[str, Task[..., Any]]:
        by_task: dict[Task[..., Any], dict[str, Task[..., Any]]] = {}
        for name, task in new.items():
            by_task.setdefault(task, {})[name] = task
        taken: dict[str, Task[..., Any]] = {}
        for task, names in by_task.items():
            taken |= names if self._is_taken(task, names, runs) else {}
        return taken

    def _is_taken(self, task: Task[..., Any], names: dict[str, Task[..., Any]], runs: RunningJobs) -> bool:
        try:
            added = runs.serve(names)
        except Unsupported as error:
            self._refused.add(task)
            log.error("%s is not run here: %s", task.name, error)
            return False
        if not added:  # a job came meanwhile: later
            self._stale = True
        return added


def _parameters(tasks: Mapping[str, Task[..., Any]]) -> Parameters:
    return {task.stored_name: names_in_order(task.signature.calling.parameters) for task in tasks.values()}
