"""What the function of one run is called with: results handed on, items of a chunk, and what cannot be read."""

import asyncio
import contextlib

import pytest

from litequeue import JobNotFound, JobTimeout, Queue, StoreBusy, Unsupported, current_job
from litequeue.core import around_jobs, slices
from litequeue.core.compositions import Failure, Lost
from litequeue.core.outcome import Cancelled, ErrorInfo, Failed, Released, Retried, Snoozed, Succeeded
from litequeue.core.records import Claimed, Status
from litequeue.serialization.encryption import EncryptedCodec, new_key
from litequeue.serialization.json_codec import JsonCodec
from litequeue.testing import ManualClock
from litequeue.worker.executor.context import Run
from litequeue.worker.executor.execute import aexecute, execute
from litequeue.worker.executor.host import NoRecords
from litequeue.worker.limits import Limits

LOST = Lost(Failure("41", "fetch", Status.CANCELLED, "JobCancelled", "", 1))
LINK = b"[[null],{},[],1]"


class Recorder:
    """Hands on what it was made with, or raises it."""

    def __init__(self, handed=None, names=("x",)):
        self.handed, self.names = handed, names

    def handed_to(self, job_id):
        assert job_id == "7"
        if isinstance(self.handed, Exception):
            raise self.handed
        return self.handed

    def parameters_of(self, _name):
        if isinstance(self.names, Exception):
            raise self.names
        return self.names

    async def ahanded_to(self, job_id):
        await asyncio.sleep(0)
        return self.handed_to(job_id)

    async def aparameters_of(self, name):
        await asyncio.sleep(0)
        return self.parameters_of(name)


@pytest.fixture
def queue(request, database):
    with Queue(database, codec=getattr(request, "param", JsonCodec)()) as queue:
        yield queue


encrypted_too = pytest.mark.parametrize(
    "queue", [JsonCodec, lambda: EncryptedCodec(new_key())], ids=["json", "encrypted"], indirect=True
)


def begun(queue, function, payload=LINK, recorder=None, stored="t", **options):
    task = queue.task(name="t", **options)(function)
    sealed = payload if type(queue.codec) is JsonCodec else queue.codec.encode(JsonCodec().decode(payload))
    claimed = Claimed("7", 2, stored, "default", sealed, 0, 0, 0, None, None, "key", 1_000.0)
    return Run(claimed, task, ManualClock(), recorder or Recorder(), 60.0, 1_000.0, 1_030.0)


@pytest.fixture(params=["plain", "async"])
def begin(request, queue):
    """A run of the function, which `run` runs; as a coroutine function, too."""

    def begin(function, payload=LINK, handed=None, **options):
        async def coroutine(x, *rest):
            return function(x, *rest)

        coroutine.__annotations__ = getattr(function, "__annotations__", {})
        recorder = handed if isinstance(handed, Recorder) else Recorder(sealed(queue, handed))
        chosen = function if request.param == "plain" else coroutine
        return begun(queue, chosen, payload, recorder, **options)

    return begin


def run(run):
    return asyncio.run(aexecute(run)) if run.task.is_coroutine else execute(run)


def result(queue, run_):
    outcome = run(run_)
    assert isinstance(outcome, Succeeded), outcome
    return queue.codec.decode(outcome.result)


def sealed(queue, handed):
    """What parents hand on, as they have stored it."""
    if isinstance(handed, list):
        return [sealed(queue, each) for each in handed]
    return queue.codec.encode(JsonCodec().decode(handed)) if isinstance(handed, bytes) else handed


def double(x, *rest):
    return [x, x, *rest]


def test_a_link_is_called_with_the_result_of_its_parent(begin, queue):
    assert result(queue, begin(double, handed=b'"a"')) == ["a", "a"]


@encrypted_too
def test_the_arguments_of_a_link_come_after_what_is_handed_on(begin, queue):
    assert result(queue, begin(double, b'[[null,"b","c"],{},[],1]', [b"1", [b"2", b"3"]])) == [
        [1, [2, 3]],
        [1, [2, 3]],
        "b",
        "c",
    ]


def test_what_stands_for_a_lost_result_is_an_error_as_a_value(begin, queue):
    def told(x: list[int]):
        return [repr(each) for each in x]

    assert result(queue, begin(told, handed=[b"1", LOST])) == ["1", "JobFailed('job 41 failed: JobCancelled')"]


def test_a_callback_gets_the_failure(begin, queue):
    failure = Failure("41", "fetch", Status.EXPIRED, "JobExpired", "too late", 0)

    def told(x: Failure):
        return [x.job_id, x.status, x == failure]

    assert result(queue, begin(told, handed=failure)) == ["41", "expired", True]


@encrypted_too
def test_a_result_that_does_not_fit_fails_the_run_without_a_retry(begin):
    def add(x: list[int]):
        return sum(x)

    outcome = run(begin(add, handed=[b"1", b'"a"'], retries=5))
    assert isinstance(outcome, Failed)
    assert outcome.error.type == "litequeue.DecodeError"
    assert "what is handed on does not fit" in outcome.error.message
    assert "argument x[1] must be int, got str 'a'" in outcome.error.message


@pytest.mark.parametrize("unread", [(StoreBusy("locked"), ()), (b"1", StoreBusy("locked"))])
def test_a_file_that_cannot_be_read_uses_up_no_try(begin, queue, unread):
    handed, names = unread
    recorder = Recorder(sealed(queue, handed), names)
    began = begin(lambda x: x, handed=recorder, stored="t", version=2, upgrade=lambda _version, given: given)
    assert run(began) == Snoozed(began.clock.now() + 1.0)


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
def test_an_error_of_the_function_itself_is_no_file_that_cannot_be_read(begin, delivery):
    def failing(x):
        raise StoreBusy("of another queue")

    outcome = run(begin(failing, handed=b"1", delivery=delivery))
    assert isinstance(outcome, Failed)
    assert outcome.error == ErrorInfo("litequeue.StoreBusy", "of another queue", outcome.error.traceback)


def test_a_result_that_is_gone_fails_the_run_without_a_retry(begin):
    outcome = run(begin(lambda x: x, handed=Recorder(JobNotFound("no job 41")), retries=5))
    assert isinstance(outcome, Failed)
    assert "the result of a job that is not on record any more: no job 41" in outcome.error.message


def test_an_engine_that_hands_on_nothing_says_so():
    for ask in (NoRecords("poor").handed_to, lambda job: asyncio.run(NoRecords("poor").ahanded_to(job))):
        with pytest.raises(Unsupported, match="job 7 takes the result of another one, which engine 'poor' does not"):
            ask("7")


@encrypted_too
def test_an_older_link_is_upgraded_with_what_is_handed_on(begin, queue):
    seen = []

    def upgrade(version, given):
        seen.append((version, given))
        return {"x": [f"2026-01-0{number}" for number in given["days"]], "rest": [given["to"]]}

    def later(x: list, *rest):
        return [x, *rest]

    began = begin(
        later,
        b'[[null,"ada"],{},[],1]',
        Recorder(sealed(queue, [b"1", b"2"]), ("days", "to")),
        stored="t",
        version=2,
        upgrade=upgrade,
    )
    assert result(queue, began) == [["2026-01-01", "2026-01-02"], "ada"]
    assert seen == [(1, {"days": [1, 2], "to": "ada"})]


def test_many_results_are_decoded_in_slices_of_the_loops_time(queue, monkeypatch):
    monkeypatch.setattr(slices, "SLICE", -1.0)
    turns = []

    async def function(x):
        return len(turns) >= len(x)

    async def count():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def main():
        counting = asyncio.ensure_future(count())
        outcome = await aexecute(begun(queue, function, recorder=Recorder(sealed(queue, [b"1"] * 50))))
        counting.cancel()
        return outcome

    assert queue.codec.decode(asyncio.run(main()).result) is True


# Chunks


CHUNK = b"[[1,2,3],{},[],2]"


@encrypted_too
def test_a_chunk_calls_the_function_with_each_item_in_turn(begin, queue):
    called = []

    def square(x):
        called.append(x)
        return x * x

    assert result(queue, begin(square, CHUNK)) == [1, 4, 9]
    assert called == [1, 2, 3]


def test_a_chunk_of_which_one_item_does_not_fit_does_not_begin(begin):
    called = []

    def one(x: int):
        called.append(x)

    outcome = run(begin(one, b'[[1,"a"],{},[],2]', retries=1))
    assert isinstance(outcome, Failed)
    assert "an item of the chunk does not fit the present signature of t(): argument x must be int" in (
        outcome.error.message
    )
    assert called == []


def test_a_chunk_is_tried_again_as_a_whole(begin):
    def failing(x):
        if x == 2:
            raise ValueError(x)

    outcome = run(begin(failing, CHUNK, retries=1))
    assert isinstance(outcome, Retried)
    assert outcome.error.message == "2"
    assert "litequeue/worker" not in outcome.error.traceback


def test_an_older_chunk_is_upgraded_item_by_item(begin, queue):
    began = begin(double, CHUNK, stored="t", version=2, upgrade=lambda _version, given: {"x": given["x"] + 1})
    assert result(queue, began) == [[2, 2], [3, 3], [4, 4]]


def test_a_coroutine_that_a_plain_decorator_returns_is_awaited_for_each_item(queue):
    async def later(x):
        return x

    assert result(queue, begun(queue, lambda x: later(x), CHUNK)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("told", "ends"),
    [
        ("cancel_requested", Cancelled()),
        ("release", Released(begun=True)),
        ("timed_out", None),
    ],
)
def test_a_chunk_that_is_told_to_end_ends_between_two_calls(begin, told, ends):
    called = []

    def work(x):
        called.append(x)
        setattr(current_job(), told, True)

    outcome = run(begin(work, CHUNK))
    assert called == [1]
    if ends is not None:
        assert outcome == ends
    else:
        assert isinstance(outcome, Failed)
        assert "ran longer than its limit" in outcome.error.message


def time_out(run):
    run.timed_out = True
    raise JobTimeout


def test_a_call_that_swallows_its_limit_ends_its_chunk_all_the_same(begin):
    called = []

    def work(x):
        called.append(x)
        with contextlib.suppress(JobTimeout):
            time_out(current_job())

    assert isinstance(run(begin(work, CHUNK)), Failed)
    assert called == [1]


def test_a_cancelled_coroutine_of_a_chunk_that_waits_for_nothing_ends(queue):
    called = []

    async def work(x):
        called.append(x)
        current_job().cancel_requested = True
        asyncio.current_task().cancel()

    assert asyncio.run(aexecute(begun(queue, work, CHUNK))) == Cancelled()
    assert called == [1]


def test_a_chunk_lets_its_loop_go_on(queue):
    turns = []

    async def work(x):
        return len(turns)

    async def main():
        asyncio.get_running_loop().call_soon(turns.append, 1)
        return await aexecute(begun(queue, work, CHUNK))

    assert queue.codec.decode(asyncio.run(main()).result)[-1] == 1


def test_what_an_integration_does_is_done_around_the_whole_chunk(begin, queue, monkeypatch):
    done = []

    async def also():
        done.append("around")

    monkeypatch.setattr(around_jobs, "around", [around_jobs.Around(lambda: done.append("around"), also)])
    monkeypatch.setattr("litequeue.worker.executor.execute.around", around_jobs.around)

    def work(x):
        done.append(x)

    assert result(queue, begin(work, CHUNK)) == [None, None, None]
    assert done == ["around", 1, 2, 3, "around"]


def test_the_results_of_a_chunk_cannot_be_completed_by_one_of_its_calls(begin):
    def work(x):
        current_job().completing(x)

    outcome = run(begin(work, CHUNK))
    assert isinstance(outcome, Failed)
    assert "Unsupported" in outcome.error.type
    assert "is a chunk, which calls t once an item; enqueue its items by map()" in outcome.error.message


def test_a_result_of_a_chunk_that_cannot_be_stored_is_named_by_its_path(begin):
    def work(x):
        return object() if x == 2 else x

    outcome = run(begin(work, CHUNK, retries=3))
    assert isinstance(outcome, Failed)
    assert "cannot store result[1]" in outcome.error.message


# What a link or a chunk takes of limits


class File:
    """The parts of a store that `give_takes` uses."""

    def __init__(self, handed=None):
        self.runs, self.limits, self.given = Recorder(handed), self, []

    def give_takes(self, takes, failed):
        self.given.append((takes, {job: error.message for job, error in failed.items()}))
        return True


def given_takes(queue, payload, handed):
    used = queue.limit("tokens", rate="100/s").cost("{x[tokens]}")
    began = begun(queue, lambda x: x, payload, concurrency=1, limit_key="{x[user]}", limits=[used])
    file = File(sealed(queue, handed))
    Limits(file, None).give_takes((began.job,), {"t": began.task})
    return file.given


def test_what_a_link_takes_of_limits_depends_on_what_is_handed_on(queue):
    takes = '{"t":["ada",1],"tokens":[null,3]}'
    assert given_takes(queue, LINK, b'{"user":"ada","tokens":3}') == [({"7": takes}, {})]


def test_a_chunk_takes_what_its_items_take_together(queue):
    chunk = b'[[{"user":"ada","tokens":3},{"user":"ada","tokens":4}],{},[],2]'
    assert given_takes(queue, chunk, None) == [({"7": '{"t":["ada",1],"tokens":[null,7]}'}, {})]


@pytest.mark.parametrize(
    ("chunk", "says"),
    [
        (
            b'[[{"user":"ada","tokens":3},{"user":"bob","tokens":4}],{},[],2]',
            "t: a chunk is one run, of one key of limit 't', and its items have 2, such as 'ada', 'bob'; use map(), ",
        ),
        (
            b'[[{"user":"ada","tokens":60},{"user":"ada","tokens":60}],{},[],2]',
            "t: a run would take 120 of limit 'tokens', which never has more than 100",
        ),
    ],
)
def test_a_chunk_that_can_never_start_fails(queue, chunk, says):
    [(takes, failed)] = given_takes(queue, chunk, None)
    assert takes == {}
    assert failed["7"].startswith(says)


def test_limits_of_a_job_whose_parents_cannot_be_read_are_looked_for_again(queue):
    with pytest.raises(StoreBusy):
        given_takes(queue, LINK, StoreBusy("locked"))
