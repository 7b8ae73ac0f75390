"""Inputs that once found something: each is tried first, whenever its target is."""

from __future__ import annotations

import math
from typing import Any

from fuzz.hostile import DEEP, LARGEST, NOW, Raw
from fuzz.rows import LAST_ID, PREFIX, Written
from litequeue.sqlite.jobs.finish import MOST

EVERY, DAILY = (
    '{"every": 3600, "jitter": 0}',
    '{"cron": "0 6 * * *", "zone": "UTC"}',
)
DEEP_CALL = b"[[" + b"[" * 900 + b"]" * 900 + b"],{}]"
JOB = {
    "task": "plain",
    "queue": "default",
    "payload": b"[[1],{}]",
    "state": 1,
    "priority": 0,
    "run_at": NOW,
    "created_at": NOW,
}
BEGUN = JOB | {"attempt": 1, "begun": 1}
ENDED = BEGUN | {"state": 4, "started_at": NOW, "finished_at": NOW}
RUNNING = BEGUN | {"state": 3, "worker": 7, "started_at": NOW}
WORKER = {
    "id": 7,
    "token": "a" * 32,
    "identity": "{}",
    "tasks": '["plain"]',
    "threads": 1,
    "coroutines": 1,
    "started_at": NOW,
    "beat_at": NOW,
}
SCHEDULE = {"name": "extra", "task": "plain", "queue": "default", "payload": b"[[1],{}]", "priority": 0,
            "created_at": NOW, "next_at": NOW, "trigger": EVERY}  # fmt: skip
ERROR = {"job": 1, "attempt": 1, "at": NOW, "type": "E", "message": "m", "traceback": "t"}
FULL_KEY = {"limit_name": "limited", "key": "5", "queue": "default", "task": "limited", "look_at": 0.0}
START = {"limit_name": "tokens", "key": "5", "at": 1.0, "count": 1}
META = {"name": "schema_version", "value": "1"}


def _row(table: str, good: dict[str, Any], **hostile: Any) -> Written:
    return Written(PREFIX + table, good, hostile)


_ROWS = (
    # one more than the largest count is refused: so was the claim, the end or the rescue, with all beside it
    [_row("jobs", BEGUN, attempt=MOST - 1)],
    [_row("jobs", BEGUN | {"task": "bad"}, failures=MOST - 1, retries=LARGEST)],
    [_row("jobs", BEGUN | {"task": "bad"}, failures=MOST - 1)],
    [_row("jobs", RUNNING, deaths=MOST - 1), _row("workers", WORKER)],
    [_row("workers", WORKER, beats=LARGEST)],
    # its note did not fit into the lock file, and the thread that was to run it died
    [_row("jobs", BEGUN, id=LAST_ID, attempt=MOST - 1)],
    [_row("jobs", BEGUN, id=-LAST_ID, attempt=MOST - 1)],
    # no datetime holds it
    [_row("jobs", ENDED, created_at=math.inf)],
    [_row("jobs", ENDED, finished_at=1e300)],
    [_row("jobs", ENDED | {"state": 7}, expires_at=-1e300)],
    [_row("jobs", JOB, run_at=-math.inf)],
    [_row("errors", ERROR, at=math.inf)],
    [_row("workers", WORKER, started_at=-math.inf)],
    # no number is their difference
    [_row("jobs", ENDED, started_at=math.inf, finished_at=math.inf)],
    # no UTF-8
    *(
        [_row("jobs", BEGUN, **{name: Raw(b"\xff")})]
        for name in ("task", "queue", "key", "tags", "schedule", "progress")
    ),
    [_row("errors", ERROR, message=Raw(b"\xff"))],
    [_row("schedules", SCHEDULE, name=Raw(b"\xff"))],
    [_row("schedules", SCHEDULE, task=Raw(b"\xff"))],
    [_row("workers", WORKER, identity=Raw(b"\xff"))],
    [_row("meta", META, value=Raw(b"\xff"))],
    # JSON that is none, is of another shape or too deep
    [_row("jobs", BEGUN, progress='{"x":' * DEEP)],
    [_row("jobs", BEGUN, payload=DEEP_CALL)],
    [_row("jobs", ENDED, result=DEEP_CALL)],
    *([_row("workers", WORKER, **{name: text})] for name in ("tasks", "queues") for text in ("no JSON", "7")),
    [_row("workers", WORKER, identity="[" * DEEP)],
    *(
        [_row("schedules", SCHEDULE, options=text)]
        for text in (b"{", b"7", b"\xff", b'{"on_success":' * DEEP, b'{"retries":1e30}', b'{"tags":["\\ud800"]}')
    ),
    [_row("workers", WORKER, identity='{"host": "\\ud800"}')],
    # no name of a lock, or one that leads elsewhere
    *([_row("workers", WORKER, token=token)] for token in ("\0", "../app.db", "a" * 300)),
    # what a terminal obeys
    [_row("errors", ERROR | {"job": 3, "attempt": 9}, type="\x07")],
    [_row("schedules", SCHEDULE, name="\x07")],
    # no time to count from: the others did not fire, or this one did for ever
    [_row("schedules", SCHEDULE, next_at=-1e300)],
    [_row("schedules", SCHEDULE, next_at=-math.inf)],
    [_row("schedules", SCHEDULE | {"trigger": DAILY}, next_at=-1e11)],
    [_row("schedules", SCHEDULE, trigger="", name="a\0b")],
    # a schema version that is none
    *([_row("meta", META, value=text)] for text in ("x", "", "0", "-1", "9" * 5000, "\u0663")),
    # claimed by nobody, or by whoever signs on next
    [_row("jobs", RUNNING | {"worker": 2}, begun=0, cancel_requested=1)],
    [_row("jobs", BEGUN, timeout=-1.0)],
    [_row("jobs", BEGUN, timeout=math.inf)],
    # a key that is due and cannot be named: the worker spun
    [_row("full_keys", FULL_KEY, limit_name=Raw(b"\xff"))],
    # rates and costs with which nothing can be reckoned
    [
        _row("limits", {"name": "tokens", "operator_at": NOW}, operator='{"rate": {"count": 100, "window": 0.0}}'),
        _row("starts", START),
    ],
    [_row("starts", START, count=LARGEST), _row("starts", START | {"at": 2.0}, count=LARGEST)],
)


def _node(node: int, *, unended: int = 1, runs_on: int = 3, **hostile: Any) -> Written:
    good = {"node": node, "unended": unended, "runs_on": runs_on, "waits": int(node > 0 and not hostile)}
    return _row("dependents", good | hostile)


def _edges(*edges: tuple[int, int]) -> list[Written]:
    rows = [{"parent": parent, "child": child, "place": place, "own": 1} for place, (parent, child) in enumerate(edges)]
    return [_row("edges", row) for row in rows]


_WAITING, _FAILED = JOB | {"state": 2}, ENDED | {"state": 5, "delete_at": NOW * 2}
_ROUND = [_row("groups", {"id": number, "created_at": NOW, "members": 1}) for number in (1, 2)]
_GRAPHS = (
    # groups that are in each other: looked up, counted down by a member, marked by one that failed and is retried
    [*_ROUND, *_edges((-1, -2), (-2, -1)), _node(-1), _node(-2)],
    [*_ROUND, *_edges((-1, -2), (-2, -1), (11, -1)), _node(-1, unended=2), _node(-2), _row("jobs", JOB | {"id": 11})],
    [*_ROUND, *_edges((-1, -2), (-2, -1), (11, -1)), _node(-1, ended_by=11, ended_as=5),
     _node(-2, ended_by=11, ended_as=5), _row("jobs", _FAILED | {"id": 11})],
    # a job that takes the results of such groups
    [*_ROUND, *_edges((-1, 12), (-1, -2), (-2, -1)), _row("jobs", JOB | {"id": 12, "payload": b"[[null],{},[],1]"})],
    # jobs that wait for each other, and whose end is still to be told
    [*_edges((11, 12), (12, 11)), *(_node(job, runs_on=0) for job in (11, 12)),
     *(_row("jobs", _WAITING | {"id": job}) for job in (11, 12)),
     _row("unspread", {"node": 11, "ended_by": 11, "ended_as": 4, "is_over": 1, "after": 0})],
    # too many to be counted, and a node that no number counts
    [*_edges((11, 12)), _node(12, runs_on=0, unended=LARGEST, ended_by=11, ended_as=5),
     _row("jobs", _FAILED | {"id": 11}), _row("jobs", _FAILED | {"id": 12, "state": 6})],
    [*_edges((11, 12), (-1, 12)), _node(12, runs_on=0, ended_by=11, ended_as=5),
     _node(-1, ended_by=LARGEST, ended_as=5),
     _row("jobs", _FAILED | {"id": 11}), _row("jobs", _FAILED | {"id": 12, "state": 6})],
)  # fmt: skip

KNOWN: dict[str, tuple[Any, ...]] = {
    "rows": (
        *((driver, rows) for rows in _ROWS for driver in ("apsw", "sqlite3")),
        *((("apsw", "sqlite3")[number % 2], rows) for number, rows in enumerate(_GRAPHS)),
    ),
    "triggers": ((EVERY, -math.inf), (EVERY, -1e300), (DAILY, -1e11), ('{"at": 1e300}', NOW)),
    "identities": (("", 2**31), ("", -LARGEST), ("[" * DEEP, 0), ('{"host": "\\ud800"}', 1)),
    "limits": (('{"a":' * DEEP,) * 3,),
    "tags and progress": ('{"x":' * DEEP,),
    "durations, instants, cron": (("1s", "0001-01-01T00:00:00+23:59", "* * * * *", "UTC"),),
    "key formats": (("{n.x}", None), ("{n[0]}", 1), ("{n:%Y}", "x")),
    "files beside": ([("a.lock", 2, b"")], [("a.lock", 3, b"")]),
    "commands": (("schedules", "app.db", "pause", "\x07"),),
}
