"""Every statement that litequeue runs, by name: a file a topic, written for SQLite 3.37.

The states are listed in `schema/001_initial.sql`. A parameter at which SQLite's planner looks, to compare it with an
ORDER BY or to plan a LIMIT, has the statement prepared again at each run, which can cost ten times what it does: hence
`+:queue`, and `CAST(:limit AS INTEGER)`. Counters are bounded by the schema: what does not run has room for one more,
so that no claim and no end is refused.
"""

from __future__ import annotations

import pkgutil
import re

TOPICS = (
    *("enqueue", "claim", "limits", "finish", "streams", "run_logs", "control", "compose", "workers", "prune"),
    *("schedules", "look", "file"),
)


def _load(topic: str) -> dict[str, str]:
    data = pkgutil.get_data(__name__, f"{topic}.sql")  # also from a zip file
    if data is None:
        raise FileNotFoundError(f"{topic}.sql is missing from the installed package")
    text = data.decode().replace("\r\n", "\n")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    statements = zip(parts[::2], parts[1::2], strict=True)
    return {name: re.sub(r"^--.*\n", "", sql, flags=re.MULTILINE).strip() for name, sql in statements}


SQL: dict[str, str] = {name: sql for topic in TOPICS for name, sql in _load(topic).items()}
