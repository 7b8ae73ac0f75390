"""The rows of compositions in the file, and whether they are as the truth says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.core.plan import RunsOn
from model.row import CANCELLED, STATES, SUCCEEDED, WAITING, must_be

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection
    from model.composed_truth import Graph, Job

LEFT = tuple(f"litequeue_{name}" for name in ("groups", "edges", "dependents", "unspread", "composition_keys"))


class JobRow(NamedTuple):
    """What the file says of a job."""

    state: int
    run_at: float
    expires_at: float | None
    delete_at: float | None
    holds: int  # a key


class Waits(NamedTuple):
    """What it says of a node that waits, or of a group."""

    unended: int
    runs_on: int
    waits: int
    ended_by: int | None
    ended_as: int | None


class Rows(NamedTuple):
    """All of it, in one read."""

    jobs: dict[int, JobRow]
    waits: dict[int, Waits]
    groups: set[int]
    edges: set[tuple[int, int, int, bool]]
    put_off: bool
    held: dict[str, tuple[int, str, float | None]]

    @classmethod
    def read(cls, db: Connection) -> Rows:
        def rows(sql: str) -> list[Any]:
            return db.rows(sql)

        # emptied: the newest one that is deleted leaves its id
        jobs = rows(
            "SELECT id, state, run_at, expires_at, delete_at, held_key IS NOT NULL FROM litequeue_jobs "
            "WHERE delete_at IS NOT 0"
        )
        waits = rows("SELECT node, unended, runs_on, waits, ended_by, ended_as FROM litequeue_dependents")
        edges = rows("SELECT parent, child, place, own FROM litequeue_edges")
        keys = rows("SELECT key, node, key_scope, held_until FROM litequeue_composition_keys")
        return cls(
            {number: JobRow(*row) for number, *row in jobs},
            {node: Waits(*row) for node, *row in waits},
            {-number for (number,) in rows("SELECT id FROM litequeue_groups")},
            {(*edge[:3], bool(edge[3])) for edge in edges},
            bool(rows("SELECT 1 FROM litequeue_unspread")),
            {key: tuple(row) for key, *row in keys},
        )

    def check(self, graph: Graph) -> None:
        """Compare what is kept of nodes."""
        edges = {tuple(link) for link in graph.links}
        must_be(self.edges == edges, f"edges: {self.edges ^ edges}")
        must_be(self.groups == {*graph.groups}, f"groups: {self.groups ^ {*graph.groups}}")
        must_be(self.jobs.keys() == graph.jobs.keys(), "jobs that nobody has stored")
        dependents = {node for node, job in graph.jobs.items() if job.waits is not None} | {*graph.groups}
        must_be(self.waits.keys() == dependents, f"dependents: {self.waits.keys() ^ dependents}")
        for node, row in self.waits.items():
            if not self.put_off:
                unended = graph.unended(node)
                must_be(row.unended == unended, f"{node} waits for {row.unended} nodes, not {unended}")
            if node > 0:
                self._check_job(graph, graph.jobs[node], row)
            else:
                self._check_group(graph, node, row)

    def _check_job(self, graph: Graph, job: Job, row: Waits) -> None:
        waits = job.state == WAITING
        must_be(bool(row.waits) == waits, f"job {job.id} is {STATES[job.state]}, and waits={row.waits}")
        named = (row.ended_by, row.ended_as)
        if job.state == CANCELLED and job.caused:
            if row.ended_by != job.ended_by:
                self._check_reason(graph, job, named)
                if job.ended_by is None:  # else that parent may be kept longer by now, for another reason
                    self._check_kept(graph, job, row)
                job.ended_by = row.ended_by
        elif job.state == CANCELLED or waits:
            must_be(row.ended_by is None, f"job {job.id} is {STATES[job.state]}, and was ended by {named}")

    def _check_reason(self, graph: Graph, job: Job, named: tuple[int | None, int | None]) -> None:
        node, state = named
        must_be(node in {*graph.reasons(job.id)}, f"job {job.id} was ended by {named}, which is no parent of it")
        there = graph.jobs[node].state if node in graph.jobs else None
        must_be(there in (state, None), f"job {job.id} was ended by {named}, which is {there}")
        must_be(job.waits.runs_on == RunsOn.FAILURE or state > SUCCEEDED, f"job {job.id} was ended by {named}")

    def _check_kept(self, graph: Graph, job: Job, row: Waits) -> None:
        if row.ended_as == SUCCEEDED:
            must_be(job.delete_at is not None, f"job {job.id} does not apply, and is kept")
        elif row.ended_by in graph.jobs:
            kept, parents = job.delete_at, graph.jobs[row.ended_by].delete_at
            is_long = kept is not None and parents is not None and kept >= parents
            must_be(is_long, f"job {job.id} is kept until {kept}, {row.ended_by} until {parents}")

    def _check_group(self, graph: Graph, group: int, row: Waits) -> None:
        bad = graph.is_bad(group)
        if not self.put_off:
            must_be((row.ended_by is not None) == bad, f"g{-group} is bad: {bad}; it was ended by {row.ended_by}")
        if row.ended_by in graph.jobs and row.ended_by is not None:
            there = graph.jobs[row.ended_by].state
            must_be(there == row.ended_as, f"g{-group} was ended by {row.ended_by} as {row.ended_as}, which is {there}")
