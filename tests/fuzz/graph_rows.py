"""Rows of what runs after what, as a foreign hand may write them: edges to nothing, cycles, groups in each other."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fuzz.hostile import LARGEST, NOW

JOBS, GROUPS = (1, 2, 3, 4, 5, 6, 7, 999), (-1, -2, -3, -999)
nodes = st.sampled_from(JOBS) | st.sampled_from(GROUPS)


def _group(draw: st.DrawFn) -> dict[str, Any]:
    return {"id": -draw(st.sampled_from(GROUPS)), "created_at": NOW, "members": draw(st.integers(0, 3))}


def _edge(draw: st.DrawFn) -> dict[str, Any]:
    parent = draw(nodes)
    child = draw(nodes.filter(lambda node: node != parent))
    return {"parent": parent, "child": child, "place": draw(st.integers(-1, 2)), "own": draw(st.integers(0, 1))}


def _dependent(draw: st.DrawFn) -> dict[str, Any]:
    node = draw(nodes)
    row = {"node": node, "unended": draw(st.sampled_from([0, 1, 1, 2, LARGEST]))}
    row |= {"runs_on": 3 if node < 0 else draw(st.integers(0, 3)), "waits": draw(st.integers(0, 1))}
    return row | draw(st.just({}) | st.fixed_dictionaries({"ended_by": nodes, "ended_as": st.integers(4, 7)}))


def _unspread(draw: st.DrawFn) -> dict[str, Any]:
    row = {"node": draw(nodes), "ended_by": draw(nodes), "ended_as": draw(st.integers(4, 7))}
    return row | {"is_over": draw(st.integers(0, 1)), "after": draw(st.sampled_from([-(2**63), 0, 5, LARGEST]))}


def _key(draw: st.DrawFn) -> dict[str, Any]:
    return {"key": draw(st.sampled_from(["a", "b"])), "node": draw(nodes), "digest": b"", "key_scope": "kept"}


ROWS = {
    "groups": _group, "edges": _edge, "dependents": _dependent, "unspread": _unspread, "composition_keys": _key,
}  # fmt: skip
