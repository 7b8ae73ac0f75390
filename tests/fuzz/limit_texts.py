"""Texts of limits near the format, and well-formed rows of their tables, of which something then is not."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fuzz import hostile
from fuzz.hostile import NOW

LIMITS = ("limited", "pool", "tokens")
LIMIT_TEXTS = (
    '{"concurrency": 1}', '{"concurrency": 0}', '{"concurrency": -1}', f'{{"concurrency": {10**30}}}',
    '{"concurrency": null}',
    '{"rate": {"count": 0, "window": 1.0}}', '{"rate": {"count": 100, "window": 0.0, "smooth": true}}',
    '{"rate": {"count": 1, "window": 1e999}}', '{"rate": {"count": 5, "window": -1.0}}',
    '{"rate": {"count": 100, "window": 5e-324}}',
    f'{{"rate": {{"count": {10**30}, "window": 1e300}}}}', '{"rate": NaN}', "{}", "[]", "", "[" * 400,
)  # fmt: skip
RULE_TEXTS = (
    '{"limits": [["limited", true, 1]], "ordered": true}', '{"limits": [["limited", true, -5]]}', '{"limits": []}',
    f'{{"limits": [["pool", false, {10**30}]]}}', '{"limits": [["pool"]]}',
    '{"limits": [["pool", false, null, 7]]}', "{}", "7",
)  # fmt: skip
TAKES_TEXTS = (
    '{"limited": ["5", 1]}', f'{{"limited": ["5", 1], "tokens": ["5", {10**30}]}}',
    '{"limited": ["5", 1], "tokens": ["5", -7]}',
    '{"limited": [null, 1]}', '{"limited": ["", 1], "tokens": ["", 0]}', '{"limited": 5}', "[]", "5", "", '{"a"',
    "[" * 400,
    '{"limited": ["5", 1], "tokens": ["\\ud800", 1]}', '{"limited": ["a\\u0000b", 1], "tokens": ["a", 1e999]}',
)  # fmt: skip
ALL_OF_LIMITS = (*LIMIT_TEXTS, *RULE_TEXTS, *TAKES_TEXTS)


def _limit(draw: st.DrawFn) -> dict[str, Any]:
    texts = st.sampled_from(LIMIT_TEXTS)
    row = {"name": draw(st.sampled_from(LIMITS)), "declared": draw(texts)}
    return row | draw(st.just({}) | st.fixed_dictionaries({"operator": texts, "operator_at": st.just(NOW)}))


def _rules(draw: st.DrawFn) -> dict[str, Any]:
    return {"name": draw(st.sampled_from(["limited", "other"])), "rules": draw(st.sampled_from(RULE_TEXTS))}


def _pause(draw: st.DrawFn) -> dict[str, Any]:
    return {"kind": draw(st.sampled_from(["queue", "task"])), "name": "other", "paused_at": NOW}


def _limited(draw: st.DrawFn) -> dict[str, Any]:
    return {"job": draw(st.integers(1, 6)), "takes": draw(st.sampled_from(TAKES_TEXTS))}


def _place(draw: st.DrawFn) -> dict[str, Any]:
    return {"limit_name": draw(st.sampled_from(LIMITS)), "key": draw(st.sampled_from(["", "1", "5"]))}


def _parked(draw: st.DrawFn) -> dict[str, Any]:
    return _place(draw) | {"job": draw(st.integers(1, 6)), "queue": "default", "task": "limited", "rank": 0}


def _full_key(draw: st.DrawFn) -> dict[str, Any]:
    return _place(draw) | {"queue": "default", "task": draw(st.sampled_from(["plain", "limited"])), "look_at": 0.0}


def _start(draw: st.DrawFn) -> dict[str, Any]:
    return _place(draw) | {"at": draw(hostile.reals), "count": 1}


def _ordered(draw: st.DrawFn) -> dict[str, Any]:
    return _place(draw) | {"job": draw(st.integers(1, 6))}


def _left_behind(draw: st.DrawFn) -> dict[str, Any]:
    return {"job": draw(st.integers(1, 6)), "attempt": 1, "worker": draw(st.integers(1, 4)), "task": "limited"}


ROWS = {
    "limits": _limit, "tasks": _rules, "pauses": _pause, "limited": _limited, "parked": _parked, "full_keys": _full_key,
    "starts": _start, "ordered": _ordered, "left_behind": _left_behind,
}  # fmt: skip
