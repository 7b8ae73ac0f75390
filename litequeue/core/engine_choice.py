"""Find the engine that a queue was given: an object, or text such as "name:rest". Imports none that is not named."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from litequeue.core.engine import Engine

GROUP = "litequeue.engines"  # of entry points, by which a package offers an engine
PARTS = ("name", "features", "jobs", "schedules", "transactions", "attach", "declare", "runner", "close")


def chosen_engine(engine: object, *, file_was_given: bool) -> Engine | None:
    """Return the engine; None for the queue's own SQLite file.

    Text is looked up among the entry points of the group `litequeue.engines`: what stands before the first colon is
    the entry point's name, and what follows is passed to it. With an engine object, options of the file are refused.
    Raises `ValueError` or `TypeError`.
    """
    if engine is None:
        return None
    if isinstance(engine, str):
        return _named(engine)
    missing = [part for part in PARTS if not hasattr(type(engine), part) and not hasattr(engine, part)]
    if missing:
        raise TypeError(f"engine must be an engine, text such as 'name:rest', or None; {engine!r} has no {missing[0]}")
    if file_was_given:
        raise ValueError(
            "path, driver, durability, allow_unsafe_filesystem, foreign_keys and on_connect are options of the SQLite "
            "file; leave them out beside engine="
        )
    return cast("Engine", engine)


def _named(text: str) -> Engine:
    from importlib.metadata import entry_points

    name, _, rest = text.partition(":")
    known = entry_points(group=GROUP)
    for point in known:
        if point.name == name:
            return cast("Engine", point.load()(rest))
    names = ", ".join(sorted({point.name for point in known})) or "none"
    raise ValueError(f"no engine named {name!r} is installed (installed: {names}); leave engine= out for the file")
