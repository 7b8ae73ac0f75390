"""The command `doctor`: check a file, its surroundings and its workers for known problems."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

from litequeue.cli import arguments
from litequeue.cli.locate import file_of, load, names_app, open_file
from litequeue.cli.printing import capped, emit, one_line, size
from litequeue.cli.report import PATIENCE, Crew, is_due, unserved, unserved_text
from litequeue.core import scheduled_call
from litequeue.core.duration import text
from litequeue.core.names import SHOWN, some
from litequeue.core.schedules import ScheduleRecord
from litequeue.core.stored_names import other_version, task_of
from litequeue.errors import LiteQueueError, StoreError
from litequeue.ipc.process_identity import Identity
from litequeue.ipc.process_lock import directory_of
from litequeue.queue import default_path
from litequeue.scheduling import triggers
from litequeue.sqlite.admin import health, repair
from litequeue.sqlite.file import guards
from litequeue.sqlite.file.opening import JOURNAL_LIMIT, Driver, driver_module, warn_of_old_library
from litequeue.sqlite.file.second_names import read_mounts, second_name
from litequeue.sqlite.jobs.finish import until
from litequeue.sqlite.store import SqliteStore
from litequeue.worker.maintenance import Maintenance

Level = Literal["ok", "note", "warn", "fail"]
Mend = Callable[[SqliteStore], str]  # returns what it has done
_COLOURS = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "red"}
LONGEST_TEXT = 1000  # characters; what to do comes last, after the names of files
LONG_PAUSE = 86_400.0  # seconds after which it may have been forgotten
STUCK_AFTER = 60.0  # seconds that a schedule may be late while a worker lives that knows its task


class Finding(NamedTuple):
    """One check: its result, and the function that repairs the fault, if one can."""

    level: Level
    check: str
    text: str
    mend: Mend | None = None

    def to_json(self) -> dict[str, str]:
        """Return the finding as plain values."""
        return {"level": self.level, "check": self.check, "text": self.text}


@click.command()
@arguments.target
@arguments.as_json
@click.option("--quick", is_flag=True, help="Skip the integrity check, which reads the whole file.")
@click.option("--repair", "repairs", is_flag=True, help="Repair what can be repaired, after a backup beside the file.")
@click.pass_context
def doctor(
    ctx: click.Context, target: str | None, driver: Driver, *, as_json: bool, quick: bool, repairs: bool
) -> None:
    """Check the file, its surroundings and its workers; exit 1 if a check fails, also after a repair."""
    if target is not None and names_app(target):
        queue, name = load(target)
        store = file_of(queue, name)
        path, driver = str(store.path), "sqlite3" if store.driver_name == "sqlite3" else "apsw"
        queue.close()
    else:
        path = default_path() if target is None else target
    findings = list(examine(path, driver, quick=quick))
    if repairs:
        done = list(mend(path, driver, findings))
        findings = [*done, *examine(path, driver, quick=quick)] if done else findings
    if as_json:
        emit([finding.to_json() for finding in findings])
    else:
        for (level, check), alike in itertools.groupby(findings, lambda finding: (finding.level, finding.check)):
            mark = click.style(f"{level:<5}", fg=_COLOURS[level])
            for line in capped([one_line(finding.text, LONGEST_TEXT) for finding in alike], "like these"):
                click.echo(f"{mark} {check:<12} {line}")
    ctx.exit(1 if any(finding.level == "fail" for finding in findings) else 0)


def examine(path: str, driver: Driver, *, quick: bool) -> Iterator[Finding]:
    """Yield the findings; stop after a failure that prevents further checks."""
    place = Path(os.path.realpath(path))
    if not place.is_file():
        yield Finding("fail", "file", f"{place} does not exist" if not place.exists() else f"{place} is not a file")
        return
    yield Finding("ok", "file", f"{place}, {size(place.stat().st_size)}")
    if why := second_name(place, read_mounts()):
        yield Finding("fail", "name", why)
        return
    yield from _surroundings(place, driver)
    try:
        store = open_file(str(place), driver, allow_unsafe_filesystem=True)
    except LiteQueueError as error:
        yield Finding("fail", "queue", str(error))
        return
    try:
        yield from _inside(store, quick=quick)
    except LiteQueueError as error:
        yield Finding("fail", "queue", str(error))
    finally:
        store.close()


def mend(path: str, driver: Driver, findings: list[Finding]) -> Iterator[Finding]:
    """Copy the file as it is, then repair what can be repaired; yield a finding for each repair."""
    mends = {finding.mend: finding.check for finding in findings if finding.mend is not None}
    if not mends:
        return
    store = open_file(os.path.realpath(path), driver, allow_unsafe_filesystem=True)
    try:
        moment = datetime.fromtimestamp(store.clock.now(), timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        copy = store.admin.backup(f"{store.path}.before-repair-{moment}", as_it_is=True)
        yield Finding("note", "backup", f"the file as it was before the repair is {copy}")
        for one, check in mends.items():
            try:
                yield Finding("note", "repaired", f"{check}: {one(store)}")
            except LiteQueueError as error:
                yield Finding("warn", "not repaired", f"{check}: {error}")
    finally:
        store.close()


def _surroundings(place: Path, driver: Driver) -> Iterator[Finding]:
    kind = guards.filesystem_of(place)
    if kind is None:
        yield Finding("note", "file system", "its type cannot be found out here; make sure that it is a local disk")
    elif kind in guards.UNSAFE or kind.startswith("fuse."):
        yield Finding("fail", "file system", f"{kind}: SQLite's WAL loses or corrupts data there; use a local disk")
    else:
        yield Finding("ok", "file system", kind)
    module = driver_module(driver)
    old = warn_of_old_library(module)
    name = f"SQLite {module.library_version()} ({module.LIBRARY})"
    yield Finding("warn", "library", old) if old else Finding("ok", "library", name)
    if sys.platform != "win32":
        yield from _ownership(place)


def _ownership(place: Path) -> Iterator[Finding]:
    status = place.stat()
    mode, user = stat.S_IMODE(status.st_mode), os.geteuid()
    if user not in (status.st_uid, 0):
        yield Finding("warn", "owner", f"user {status.st_uid} owns the file, and this is user {user}")
    else:
        yield Finding("ok", "owner", f"user {status.st_uid}")
    if mode & 0o077:
        yield Finding("note", "mode", f"{mode:04o}: other users may open it; 0600 keeps payloads private")
    else:
        yield Finding("ok", "mode", f"{mode:04o}")
    for beside in (Path(f"{place}-wal"), Path(f"{place}-shm"), directory_of(place)):
        if beside.exists() and beside.stat().st_uid != status.st_uid and not _for_the_group(beside, status):
            yield Finding("warn", "owner", f"{beside.name} belongs to user {beside.stat().st_uid}, unlike the file")


def _for_the_group(beside: Path, database: os.stat_result) -> bool:
    """Whether one group may write both: then it does not matter which of its users has made them."""
    there = beside.stat()
    return there.st_gid == database.st_gid and bool(there.st_mode & database.st_mode & 0o020)


def _inside(store: SqliteStore, *, quick: bool) -> Iterator[Finding]:
    mode = store.kernel.read(health.journal_mode)
    if mode == "wal":
        yield Finding("ok", "journal", mode)
    else:
        yield Finding("fail", "journal", f"{mode}, not wal", lambda store: store.admin.repair(repair.write_ahead))
    found, newest = store.kernel.read(health.version), health.newest()
    if found < newest:
        yield Finding("note", "schema", f"version {found}; the app brings it to {newest} when it opens the file")
    else:
        yield Finding("ok", "schema", f"version {found}")
    wal = store.admin.wal_size()
    if wal > JOURNAL_LIMIT:
        why = f"{size(wal)}: a process reads in one long transaction, or no worker runs checkpoints"
        yield Finding("warn", "WAL", why, lambda store: store.admin.repair(repair.checkpoint))
    else:
        yield Finding("ok", "WAL", size(wal))
    if not quick:
        try:
            faults = store.admin.integrity()
        except StoreError as error:
            faults = [str(error)]
        yield (
            Finding("fail", "integrity", "; ".join(faults), _rebuild) if faults else Finding("ok", "integrity", "sound")
        )
    crew = Crew.of(store)
    yield from _workers(store, crew)
    yield from _jobs(store, crew)
    yield from _rules(store)
    yield from _schedules(store, crew)


def _workers(store: SqliteStore, crew: Crew) -> Iterator[Finding]:
    level: Level = "ok" if crew.living else "warn"
    yield Finding(level, "workers", f"{len(crew.living)} alive" if crew.living else "no worker is running")
    for worker in crew.dead:
        pid = Identity.from_text(worker.identity).pid
        held = f"its {worker.running} jobs are released" if worker.running else "it is deregistered"
        text = f"worker {worker.id} (pid {pid}) is dead; {held} when another worker notices"
        yield Finding("warn", "workers", text, _reap)
    ownerless = store.workers.ownerless()
    if ownerless:
        numbers = ", ".join(map(str, ownerless))
        text = f"running jobs belong to workers that are not registered ({numbers}); the next worker releases them"
        yield Finding("warn", "jobs", text, _reap)


def _rules(store: SqliteStore) -> Iterator[Finding]:
    now = store.clock.now()
    for pause in store.rules.pauses():
        span = max(0.0, now - pause.paused_at)
        level: Level = "warn" if span > LONG_PAUSE else "note"
        yield Finding(level, "paused", f"{pause.kind} {pause.name} is paused, since {text(span)}")
    for task, limit, cost, most in store.admin.too_costly():
        why = f"task {task} takes {cost:,} of limit {limit}, which never has more than {most:,}: its jobs never start"
        yield Finding("fail", "limits", why)
    found = store.rules.list()
    full = [limit.name for limit in found if limit.full or limit.full_keys]
    yield Finding("ok", "limits", f"{len(found)} limits" + (f", full: {some(full)}" if full else ""))


def _reap(store: SqliteStore) -> str:
    before = len(store.workers.list())
    Maintenance(store, store.clock, "", frozenset()).reap()
    return f"{before - len(store.workers.list())} dead workers were deregistered, and their jobs were released"


def _rebuild(store: SqliteStore) -> str:
    if store.workers.living():
        raise StoreError("workers are running; stop them first, and every other process that has the file open")
    return store.admin.repair(repair.rebuild)


def _jobs(store: SqliteStore, crew: Crew) -> Iterator[Finding]:
    if orphans := store.admin.orphans():
        found = ", ".join(f"{count} {what}" for what, count in orphans.items())
        text = f"{found} belong to jobs, limits or workers that are no longer in the file"
        yield Finding("warn", "orphans", text, _drop_orphans)
    if stuck := store.admin.stuck():
        text = f"{stuck} waiting jobs wait for nothing that is in the file"
        yield Finding("fail", "jobs", text, _free_stuck)
    waiting = unserved(store.admin.ready(), crew)
    for row in waiting:
        yield Finding("warn", "jobs", unserved_text(row))
    if not waiting:
        yield Finding("ok", "jobs", "no ready job is without a worker that can take it")


def _drop_orphans(store: SqliteStore) -> str:
    return store.admin.repair(partial(repair.drop_orphans, **_moments(store)))


def _free_stuck(store: SqliteStore) -> str:
    return store.admin.repair(partial(repair.free_stuck, **_moments(store)))


def _moments(store: SqliteStore) -> dict[str, Any]:
    """When a job is cancelled that waits for one that was deleted, and when its record is to be deleted."""
    now = store.clock.now()
    return {"now": now, "delete_at": until(now, store.kernel.retention.result_ttl)}


def _schedules(store: SqliteStore, crew: Crew) -> Iterator[Finding]:
    known = {task for worker in crew.living for task in worker.tasks}
    schedules = store.schedules.list()
    wrong = [found for one in schedules if (found := _wrong(one, known, crew, store.clock.now())) is not None]
    yield from _shortened(wrong) or [Finding("ok", "schedules", f"{len(schedules)} schedules")]


def _shortened(findings: list[Finding]) -> list[Finding]:
    """The first findings of each kind, and how many there are more."""
    kinds: dict[tuple[Level, Mend | None], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.level, finding.mend), []).append(finding)
    shown = []
    for (level, mend), alike in kinds.items():
        shown += alike[:SHOWN]
        if len(alike) > SHOWN:
            shown.append(Finding(level, "schedules", f"and {len(alike) - SHOWN:,} more schedules", mend))
    return shown


def _wrong(schedule: ScheduleRecord, known: set[str], crew: Crew, now: float) -> Finding | None:
    """Return what keeps a schedule from firing, or None."""
    name, next_at = schedule.name, schedule.next_at
    try:
        trigger = triggers.decode(schedule.trigger)
        scheduled_call.decode(schedule.options)
        due = None if next_at is None else triggers.due(trigger, next_at, now, schedule.catch_up, limit=1)
    except ValueError as error:
        return Finding("fail", "schedules", f"{name} cannot fire on this machine: {error}")
    if due is not None and next_at is not None and next_at > now and due.next_at != next_at and not schedule.paused:
        return Finding("fail", "schedules", f"{name} is due too late: the clock was set back", _bring_near)
    if schedule.task not in known:
        unserved = other_version(schedule.task, known) or f"no running worker has the task {task_of(schedule.task)}"
        return Finding("warn", "schedules", f"{name}: {unserved}")
    if why := crew.orphan(schedule):
        return Finding("warn", "schedules", f"{name}: {why}")
    if schedule.skipping > PATIENCE and schedule.skipping_since is not None:
        since = f"{schedule.skipping} ticks in a row, since {text(now - schedule.skipping_since)}"
        return Finding("warn", "schedules", f"{name} has skipped {since}: its job {schedule.last_job} has not ended")
    late = now - next_at if is_due(schedule, now) and next_at is not None else 0.0
    if late > STUCK_AFTER:
        return Finding("fail", "schedules", f"{name} should have fired {text(late)} ago")
    return None


def _bring_near(store: SqliteStore) -> str:
    store.admin.repair(repair.recompute_ticks)
    for _ in store.ticks.bring_near(frozenset(schedule.task for schedule in store.schedules.list())):
        pass
    return "they fire at their next ticks by the present clock"
