"""The schedules that the code of one queue declares, and which modules did. Knows no SQL."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

import msgspec

from litequeue.core.declaration import Declaration, declared_here
from litequeue.core.frames import current_frames
from litequeue.core.scheduled_call import CallOptions
from litequeue.core.store import Declared
from litequeue.core.warn import calling_frame
from litequeue.scheduling import triggers
from litequeue.scheduling.schedules import Schedule, record_of

if TYPE_CHECKING:
    from litequeue.core.scheduled_call import ScheduledCall
    from litequeue.core.schedules import ScheduleRecord

_MAIN = frozenset({"__main__", "__mp_main__"})


class Entry(NamedTuple):
    """One declaration. `name` None: it is named by what it says. `owner`: the task whose option it is, or None."""

    name: str | None
    owner: str | None
    schedule: Schedule
    call: Callable[[], ScheduledCall]  # when it is needed: what annotations name may be defined further down
    said: object  # what is compared with a second declaration of the same name
    module: str
    here: Declaration


class DeclaredSchedules:
    """What `task(schedule=)` and `queue.schedule()` have declared. `followers` are called when it changes."""

    def __init__(self, decode: Callable[[bytes], Any]) -> None:
        self._decode = decode
        self._entries: list[Entry] = []
        self.modules: set[str] = set()  # that declare anything on this queue
        self.followers: list[Callable[[], object]] = []
        self.changes: int = 0
        self._stored: frozenset[tuple[str, str]] = frozenset()
        _all.add(self)

    def note_module(self) -> None:
        """Note that the module which calls us declares a task here."""
        self.modules.add(module_here())

    def of_task(self, task: str, schedules: Sequence[Schedule], call: Callable[..., ScheduledCall]) -> None:
        """Replace the schedules that are options of a task; `call` makes the call of its arguments."""
        module, here = module_here(), declared_here(call)
        new = [
            Entry(
                schedule.name or (task if len(schedules) == 1 else None),
                task,
                schedule,
                lambda schedule=schedule: call(*schedule.args, **schedule.kwargs),  # type: ignore[misc]
                schedule,
                module,
                here,
            )
            for schedule in schedules
        ]
        kept = [entry for entry in self._entries if entry.owner != task]
        for place, entry in enumerate(new):
            _refuse_another([*kept, *new[:place]], entry)
        if new or len(kept) < len(self._entries):
            self._set([*kept, *new])

    def add(self, name: str, schedule: Schedule, call: ScheduledCall) -> None:
        """Declare a schedule beside the tasks."""
        new = Entry(name, None, schedule, lambda: call, (schedule, call), module_here(), declared_here(self.add))
        _refuse_another(self._entries, new)
        self.modules.add(new.module)
        self._set([*(entry for entry in self._entries if entry.name != name), new])

    def _set(self, entries: list[Entry]) -> None:
        self._entries, self.changes = entries, self.changes + 1
        for tell in list(self.followers):
            tell()

    @property
    def are_ready(self) -> bool:
        """Whether each module that declares some has been executed to its end."""
        return not any(is_being_imported(entry.module) for entry in self._entries)

    def records(self) -> list[ScheduleRecord]:
        """Return the schedules as the file keeps them."""
        return [self._record(entry) for entry in self._entries if not is_being_imported(entry.module)]

    def _record(self, entry: Entry) -> ScheduleRecord:
        call, trigger = entry.call(), entry.schedule.trigger
        said = self._said(call)
        name = entry.name or f"{entry.owner}:{_digest(repr((triggers.describe(trigger), said)))[:6]}"
        record = record_of(name, call, trigger, entry.schedule.options)
        declared = _digest(f"({_fields(record)}, {said!r})")
        return msgspec.structs.replace(record, module=entry.module, declared=declared)

    def _said(self, call: ScheduledCall) -> str:
        """Return the arguments and options as text: the bytes of a codec may differ each time."""
        options = "" if call.options == CallOptions() else repr(call.options.said(self._decode))
        return repr(self._decode(call.payload)) + options

    def code(self, tasks: Iterable[str], *, at_end: bool = False) -> Declared:
        """Return what a worker makes the file's declared schedules of.

        `at_end`: a script that still has not declared a schedule when its worker ends declares it no longer.
        """
        shared = {module for other in list(_all) if other is not self for module in other.modules}
        records = self.records()
        dropped = self._stored.difference(_named(records))
        return Declared(records, frozenset(tasks), is_begun if at_end else is_imported, frozenset(shared), dropped)

    def note_stored(self, code: Declared) -> None:
        """Note what is in the file by now: what of it is declared no more is removed, in whichever module."""
        self._stored = _named(code.schedules)


def _named(records: Iterable[ScheduleRecord]) -> frozenset[tuple[str, str]]:
    return frozenset((record.name, str(record.module)) for record in records)


_all: WeakSet[DeclaredSchedules] = WeakSet()


def _refuse_another(known: Sequence[Entry], new: Entry) -> None:
    """Refuse a name that is declared twice; not where a module or a cell of a notebook is executed again."""
    for old in known:
        if new.name is None:
            if old.name is None and (old.owner, old.schedule) == (new.owner, new.schedule):
                raise ValueError(f"{new.owner}: schedule= has the same schedule twice: {new.schedule!r}")
        elif old.name == new.name and (old.owner, old.said) != (new.owner, new.said) and _same_run(old, new):
            raise ValueError(
                f"a schedule named {new.name!r} is already declared on this queue; give one of the two another name"
            )


def _same_run(old: Entry, new: Entry) -> bool:
    return old.owner is not None or new.owner is not None or old.here.is_amid(new.here)


def _fields(record: ScheduleRecord) -> str:
    """Return all but the call's arguments and options, as releases wrote it that had none of these."""
    return repr(msgspec.structs.replace(record, payload=b"", options=None)).replace(", options=None)", ")")


def _digest(text: str) -> str:
    from hashlib import sha256  # here: it takes longer to import than all of us

    return sha256(text.encode(errors="backslashreplace")).hexdigest()


# ---- modules


def module_here() -> str:
    """Return the module whose code called into litequeue; a program's script by its path."""
    return _name_of(calling_frame().f_globals)


def _name_of(namespace: Mapping[str, Any]) -> str:
    name = str(namespace.get("__name__"))
    if name not in _MAIN:
        return name
    spec, file = namespace.get("__spec__"), namespace.get("__file__")
    if spec is not None:  # python -m
        return str(spec.name)
    return os.path.realpath(file) if file and not file.startswith("<") else name


def is_imported(module: str) -> bool:
    """Whether this process has executed the module, or the script at that path, to its end.

    Never true of a bare `__main__`: every session, notebook and `python -c` is called so.
    """
    return is_begun(module) and not _are_being_executed(_namespaces(module))


def is_begun(module: str) -> bool:
    """The same, or it is the program's own script, which may be executed until the program ends."""
    return module not in _MAIN and bool(_namespaces(module)) and not is_being_imported(module)


def has_modules_amid_execution(modules: Iterable[str]) -> bool:
    """Whether one of these is begun, and not at its end."""
    return any(is_begun(module) and not is_imported(module) for module in modules)


def _namespaces(module: str) -> list[dict[str, Any]]:
    main = sys.modules.get("__main__")
    found = [vars(main)] if main is not None and _name_of(vars(main)) == module else []
    if Path(module).is_absolute():
        files = [(each, getattr(each, "__file__", None)) for each in list(sys.modules.values())]
        return found + [vars(each) for each, file in files if file and os.path.realpath(file) == module]
    return found + ([vars(sys.modules[module])] if module in sys.modules else [])


_at_rest: set[int] = set()  # threads


@contextmanager
def at_rest() -> Generator[None, None, None]:
    """While the thread works for a worker: the code that has it do so declares nothing before the worker's end."""
    thread = threading.get_ident()
    if thread in _at_rest:
        yield
        return
    _at_rest.add(thread)
    try:
        yield
    finally:
        _at_rest.discard(thread)


def _are_being_executed(namespaces: Sequence[dict[str, Any]]) -> bool:
    """Whether a thread is inside the top-level code of one of these, such as a script in its `with queue.worker():`."""
    for thread, frame in current_frames().items():
        at: FrameType | None = None if thread in _at_rest else frame
        while at is not None:
            if at.f_code.co_name == "<module>" and any(at.f_globals is each for each in namespaces):
                return True
            at = at.f_back
    return False


def is_being_imported(module: str) -> bool:
    """Whether the module is being executed, so that not all of its names may be defined yet."""
    return bool(getattr(getattr(sys.modules.get(module), "__spec__", None), "_initializing", False))
