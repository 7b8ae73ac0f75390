"""What an operator sees and changes of limits and pauses: at once, from any process, until it is taken back."""

import asyncio

import pytest

from contract.jobs import START, SUCCEEDED, Hands, put, states
from litequeue.core.records import Status
from litequeue.errors import LimitNotFound, Unsupported
from litequeue.limits.limit import Limit, allowed_of
from litequeue.limits.settings import encoded
from litequeue.limits.takes import Taken
from litequeue.limits.task_rules import encoded_rules
from litequeue.sqlite.admin import repair


def uses(name, concurrency=None, rate=None, *, takes=1, per=None):
    return Limit(name, allowed_of(concurrency, rate, smooth=False), takes, per)


def declare(store, task, *limits, ordered=False):
    """As a worker that starts does, whose code has this task."""
    given = {limit.name: encoded(limit.allowed) for limit in limits}
    store.limits.declare(given, {task: encoded_rules(limits, ordered=ordered)})


def put_keyed(store, limit, user, **fields):
    return put(store, limit.name, takes=Taken(limit.name, (limit,)).of({"user": user}), **fields)


@pytest.fixture
def openai(store):
    """A limit of two, of which `ask` takes."""
    limit = uses("openai", 2)
    declare(store, "ask", limit)
    return limit


@pytest.fixture
def per_user(store):
    """A task of which one job of each user runs."""
    limit = uses("mail", 1, per="{user}")
    declare(store, "mail", limit)
    return limit


# ---- limits


def test_a_limit_tells_what_is_taken_and_what_waits(store, openai):
    for _ in range(5):
        put(store, "ask")
    Hands(store, "ask").claim(5)
    limit = store.rules.get("openai")
    assert (limit.running, limit.waiting, limit.full, limit.keyed, limit.tasks) == (2, 3, True, False, ("ask",))
    assert limit.allowed == limit.declared == {"concurrency": 2, "rate": None, "smooth": False}
    assert limit.operator is limit.operator_at is limit.opens_at is None
    assert store.rules.list() == [limit]


def test_a_rate_tells_how_much_of_its_window_is_taken_and_when_it_opens(store, clock):
    declare(store, "ask", uses("openai", None, "2/m"))
    for _ in range(3):
        put(store, "ask")
    hands = Hands(store, "ask")
    hands.settle(*((job, SUCCEEDED) for job in [*hands.claim(1), *hands.claim(1)]))
    limit = store.rules.get("openai")
    assert (limit.started, limit.running, limit.full) == (2, 0, True)
    assert 60 <= limit.opens_at - clock.now() < 61


def test_a_limit_with_keys_tells_how_many_keys_are_full(store, per_user):
    for user in ("a", "a", "a", "b"):
        put_keyed(store, per_user, user)
    Hands(store, "mail").claim(4)
    limit = store.rules.get("mail")
    assert (limit.keyed, limit.running, limit.full_keys, limit.parked, limit.full) == (True, 2, 1, 2, False)


def test_what_is_set_holds_at_once_in_another_process_and_after_a_deploy(store, open_store, openai):
    for _ in range(5):
        put(store, "ask")
    hands = Hands(store, "ask")
    assert len(hands.claim(5)) == 2
    another = open_store()
    assert another.rules.change("openai", {"concurrency": 3})
    assert len(hands.claim(5)) == 1
    declare(store, "ask", uses("openai", 4))
    limit = another.rules.get("openai")
    assert (limit.allowed["concurrency"], limit.declared["concurrency"]) == (3, 4)
    assert (limit.operator, limit.operator_at) == ({"concurrency": 3}, store.clock.now())
    assert hands.claim(5) == []
    assert another.rules.change("openai", None)
    assert len(hands.claim(5)) == 1


def test_what_is_left_out_stays_as_it_was_set(store, openai):
    store.rules.change("openai", {"rate": "10/s"})
    store.rules.change("openai", {"concurrency": None})
    store.rules.change("openai", {"smooth": True})
    assert store.rules.get("openai").allowed == {"concurrency": None, "rate": "10/s", "smooth": True}
    store.rules.change("openai", {"rate": None})
    assert store.rules.get("openai").allowed == {"concurrency": None, "rate": None, "smooth": False}


def test_to_set_or_reset_what_is_so_already_changes_nothing(store, openai):
    assert not store.rules.change("openai", None)
    assert store.rules.change("openai", {"concurrency": 1})
    assert not store.rules.change("openai", {"concurrency": 1})


def test_a_raised_limit_brings_parked_jobs_back(store, per_user):
    jobs = [put_keyed(store, per_user, "a") for _ in range(3)]
    hands = Hands(store, "mail")
    assert len(hands.claim(3)) == 1
    store.rules.change("mail", {"concurrency": 3})
    assert len(hands.claim(3)) == 2
    assert states(store, jobs) == ["running"] * 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"concurrency": -1}, "concurrency"), ({"rate": "often"}, "rate"), ({"smooth": True}, "smooth=True")],
)
def test_what_no_limit_allows_is_refused(store, openai, settings, said):
    with pytest.raises(ValueError, match=said):
        store.rules.change("openai", settings)
    assert store.rules.get("openai").operator is None


def test_a_limit_under_which_a_task_would_never_start_is_refused(store):
    declare(store, "ask", uses("openai", 8, takes=3))
    with pytest.raises(ValueError, match=r"ask takes 3 of limit 'openai', so with 2 none of its jobs would ever start"):
        store.rules.change("openai", {"concurrency": 2})


def test_a_limit_that_is_not_there_is_named_with_those_that_are(store, openai):
    for ask in (
        lambda: store.rules.get("opena"),
        lambda: store.rules.change("opena", {"concurrency": 1}),
        lambda: store.rules.remove("opena"),
    ):
        with pytest.raises(LimitNotFound, match=r"no limit named 'opena'.* it has: openai; did you mean 'openai'\?"):
            ask()


def test_a_limit_is_removed_where_no_code_declares_it(store, openai):
    with pytest.raises(Unsupported, match="is declared in the code of this program"):
        store.rules.remove("openai", {"openai"})
    store.rules.change("openai", {"concurrency": 1})
    store.rules.remove("openai")
    assert store.rules.list() == []
    declare(store, "ask", openai)
    assert store.rules.get("openai").operator is None


def test_parked_jobs_come_back_when_the_code_has_no_limit_any_more(store, per_user):
    jobs = [put_keyed(store, per_user, "a") for _ in range(3)]
    hands = Hands(store, "mail")
    assert len(hands.claim(3)) == 1
    declare(store, "mail")
    assert len(hands.claim(3)) == 2
    assert states(store, jobs) == ["running"] * 3


def test_a_change_is_rolled_back_with_its_transaction(store, openai):
    with pytest.raises(ZeroDivisionError), store.transactions.transaction():
        store.rules.change("openai", {"concurrency": 1})
        store.rules.pause("queue", "default")
        raise ZeroDivisionError
    assert store.rules.get("openai").operator is None
    assert store.rules.pauses() == []


# ---- pauses


@pytest.mark.parametrize(("kind", "name"), [("queue", "default"), ("task", "add")])
def test_nothing_that_is_paused_starts_in_any_process(store, open_store, kind, name):
    hands, job = Hands(store), put(store)
    assert open_store().rules.pause(kind, name)
    assert hands.claim() == []
    [pause] = store.rules.pauses()
    assert (pause.kind, pause.name, pause.paused_at) == (kind, name, store.clock.now())
    assert not store.rules.pause(kind, name)
    assert open_store().rules.resume(kind, name)
    assert not store.rules.resume(kind, name)
    assert [each.id for each in hands.claim()] == [job]


def test_a_pause_stops_no_other_queue_and_no_version_is_left_out(store):
    store.rules.pause("task", "add")
    versions = put(store, "add@2")
    other = put(store, "sub")
    assert [job.id for job in Hands(store, "add", "add@2", "sub").claim(5)] == [other]
    assert states(store, [versions]) == ["queued"]


def test_coroutines_see_and_change_the_same(store, openai):
    async def operate():
        assert await store.rules.achange("openai", {"concurrency": 5})
        assert await store.rules.apause("queue", "email")
        assert await store.rules.apauses() == store.rules.pauses()
        assert await store.rules.alist() == [await store.rules.aget("openai")]
        async with store.transactions.atransaction():
            assert await store.rules.aresume("queue", "email")
            assert await store.rules.achange("openai", None)
        await store.rules.aremove("openai", ())
        return await store.rules.alist()

    assert asyncio.run(operate()) == []
    assert store.rules.pauses() == []


# ---- parked jobs are queued


@pytest.fixture
def parked(store, per_user):
    """Two jobs that are parked, of three, and one that waits for another of its schedule."""
    jobs = [put_keyed(store, per_user, "a", queue="mail") for _ in range(3)]
    Hands(store, "mail").claim(3)
    other = put(store)
    store.kernel.writer.run(lambda db: db.rows("UPDATE litequeue_jobs SET state = 2 WHERE id = ?", (other,)))
    return jobs[1:]


def test_they_are_counted_as_queued_and_not_as_waiting(store, parked):
    counted = {(each.queue, str(each.status)): each.jobs for each in store.jobs.counts()}
    assert counted == {("mail", "queued"): 2, ("mail", "running"): 1, ("default", "waiting"): 1}


@pytest.mark.parametrize("where", [{}, {"queue": "mail"}, {"task": "mail"}, {"queue": "mail", "task": "mail"}])
def test_they_are_listed_as_queued(store, parked, where):
    assert [job.id for job in store.jobs.list(status=Status.QUEUED, **where)] == parked[::-1]
    waiting = store.jobs.list(status=Status.WAITING, **where)
    assert [job.task for job in waiting] == ([] if where else ["add"])


def test_they_are_found_as_queued_behind_many_others(store, parked):
    fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600) INSERT INTO litequeue_jobs"
    fill += (
        " (task, queue, payload, state, priority, run_at, created_at) SELECT 'add', 'x', X'5b5d', 0, 0, 9e9, 0 FROM n"
    )
    store.kernel.writer.run(lambda db: db.rows(fill))
    for where in ({}, {"queue": "mail"}, {"task": "mail"}, {"queue": "mail", "task": "mail"}):
        assert [job.id for job in store.jobs.list(status=Status.QUEUED, **where)] == parked[::-1]


def test_many_are_cancelled_as_queued(store, parked):
    assert list(store.bulk.unfinished(Status.QUEUED)) == parked[::-1]
    assert len(list(store.bulk.unfinished(Status.WAITING))) == 1
    [changed] = store.bulk.cancel(parked)
    assert changed.done == parked
    assert store.rules.get("mail").parked == 0


# ---- what is left over


def test_rows_of_what_is_gone_are_found_and_deleted(store, parked):
    write = store.kernel.writer.run
    write(lambda db: db.rows("DELETE FROM litequeue_jobs"))
    write(lambda db: db.rows("INSERT INTO litequeue_starts VALUES ('gone', '', 1.0, 1)"))
    write(lambda db: db.rows("INSERT INTO litequeue_left_behind VALUES (1, 1, 999, 'mail', NULL)"))
    found = store.admin.orphans()
    assert found == {
        "costs and keys of limits": 3, "places of parked jobs": 2, "functions left behind": 1, "starts": 1,
    }  # fmt: skip
    store.admin.repair(lambda db: repair.drop_orphans(db, START, None))
    assert store.admin.orphans() == {}


@pytest.mark.parametrize("lost", ["litequeue_parked", "litequeue_full_keys"])
def test_jobs_that_wait_for_nothing_are_found_and_go_on(store, per_user, lost):
    jobs = [put_keyed(store, per_user, "a") for _ in range(3)]
    hands = Hands(store, "mail")
    [first] = hands.claim(3)
    assert store.admin.stuck() == 0
    store.kernel.writer.run(lambda db: db.rows(f"DELETE FROM {lost}"))
    assert store.admin.stuck() == 2
    assert store.admin.repair(lambda db: repair.free_stuck(db, START, None)) == "2 jobs are looked at again"
    assert store.admin.stuck() == 0
    hands.settle((first, SUCCEEDED))
    assert [job.id for job in hands.claim(3)] == jobs[1:2]


def test_a_task_that_takes_more_than_there_is_is_named(store):
    declare(store, "ask", uses("openai", 8))
    store.rules.change("openai", {"concurrency": 2})
    declare(store, "ask", uses("openai", 8, takes=3))
    assert store.admin.too_costly() == [("ask", "openai", 3, 2)]
