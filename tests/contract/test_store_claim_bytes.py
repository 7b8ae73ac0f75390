"""A claim by its bytes: about 1 MiB of large payloads beside its first job, whatever was asked for."""

import pytest

from contract.jobs import Hands, new

KIB = 1024


def put_large(store, sizes, queue="default"):
    jobs = [new(payload=bytes([number]) * size, queue=queue) for number, size in enumerate(sizes)]
    return [submitted.id for submitted in store.jobs.submit(jobs)]


@pytest.fixture
def few_bytes(monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.jobs.claim.BUDGET", 10 * KIB)


def claims(hands, limit):
    """Claim until nothing is left; how many each time, and whether there was more."""
    cycles = []
    while (cycle := hands.turn(limit)).claimed:
        cycles.append(cycle)
    return [(len(cycle.claimed), cycle.cut) for cycle in cycles], [job for cycle in cycles for job in cycle.claimed]


def test_a_claim_of_large_payloads_stops_at_its_bytes_and_says_that_there_is_more(store, few_bytes):
    put_large(store, [4 * KIB] * 7)
    sizes, _ = claims(Hands(store), 100)
    assert sizes == [(3, True), (3, True), (1, False)]


def test_a_payload_that_is_larger_than_the_bytes_of_a_claim_is_claimed_alone(store, few_bytes):
    put_large(store, [20 * KIB, 20 * KIB])
    sizes, _ = claims(Hands(store), 100)
    assert sizes == [(1, True), (1, False)]


def test_small_payloads_do_not_count(store, few_bytes):
    put_large(store, [KIB] * 100)
    assert len(Hands(store).claim(100)) == 100


@pytest.mark.parametrize("queues", [("default",), ("one", "other")])
def test_every_job_comes_with_its_own_payload_in_its_order(store, few_bytes, queues):
    sizes = [10, 4 * KIB, 10, 4 * KIB, 10, 4 * KIB, 4 * KIB, 10]
    stored = {queue: put_large(store, sizes, queue) for queue in queues}
    _, jobs = claims(Hands(store), 100)
    for queue in queues:
        assert [job.id for job in jobs if job.queue == queue] == stored[queue]
        payloads = [bytes([number]) * size for number, size in enumerate(sizes)]
        assert [job.payload for job in jobs if job.queue == queue] == payloads


def test_what_is_not_claimed_is_not_read(store, few_bytes):
    """By the payloads that SQLite hands out: 50 are at the head, three are claimed."""
    put_large(store, [4 * KIB] * 50)
    read = []
    connection = type(store.kernel.writer.run_outside(lambda db: db))
    rows = connection.rows

    def reading(db, sql, parameters=None):
        found = rows(db, sql, parameters)
        read.extend(value for row in found for value in row if isinstance(value, bytes))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "rows", reading)
        claimed = Hands(store).claim(100)
    assert len(claimed) == 3
    assert sum(map(len, read)) == 3 * 4 * KIB
