"""What is not for every eye: arguments under a mask, and payloads and results under a key."""

import json
import pickle
import subprocess
import sys
import types
from dataclasses import dataclass
from datetime import datetime, timezone

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from litequeue import DecodeError, EncodeError, Job, KeyConflict, Queue
from litequeue.cli.enqueue import enqueue
from litequeue.cli.job_report import job_fields
from litequeue.serialization.encryption import EncryptedCodec, new_key
from litequeue.serialization.json_codec import JsonCodec
from litequeue.serialization.signature import Signature

SECRET = "hunter2"
MOMENT = datetime(2026, 11, 23, tzinfo=timezone.utc)


@pytest.fixture
def queue(database):
    with Queue(database) as queue:
        yield queue


def shown(queue, job: Job):
    fields = job_fields(queue.engine.jobs.look_up(job.id))
    assert SECRET not in json.dumps(fields)
    return fields["args"], fields["kwargs"]


# mask=


def test_an_error_shows_no_part_of_a_masked_argument(queue):
    @queue.task(mask=["tokens"])
    def log_in(tokens: dict[str, int]): ...

    with pytest.raises(TypeError, match=r"argument tokens must be dict\[str, int\], got dict$"):
        log_in.enqueue({"a": SECRET})


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        (((1, SECRET), {}), ([1, "***"], {})),
        (((1,), {"token": SECRET}), ([1, "***"], {})),
        (
            ((1, SECRET, SECRET, SECRET), {"sign": SECRET, "more": 2}),
            ([1, "***", "***", "***"], {"more": 2, "sign": "***"}),
        ),
    ],
)
def test_a_masked_argument_is_stored_and_given_and_shown_to_nobody(queue, call, seen):
    taken = []

    @queue.task(name="log_in", mask=["token", "rest", "sign"])
    def log_in(user: int, token: str, *rest: str, sign: str = "", **more: int) -> None:
        taken.append((user, token, *rest, sign, more))

    job = log_in.enqueue(*call[0], **call[1])
    assert shown(queue, job) == seen
    queue.worker().run(until_idle=True)
    log_in(*call[0], **call[1])
    assert taken[0] == taken[1]


def test_what_further_keywords_bring_is_masked_by_its_own_name_or_by_theirs(queue):
    @queue.task(name="one", mask=["password"])
    def one(**options): ...

    @queue.task(name="all", mask=["options"])
    def every(**options): ...

    assert shown(queue, one.enqueue(password=SECRET, user=1)) == ([], {"password": "***", "user": 1})
    assert shown(queue, every.enqueue(password=SECRET, user=SECRET)) == ([], {"password": "***", "user": "***"})


def test_what_is_wrong_with_a_masked_argument_is_told_without_it(queue):
    @dataclass
    class Token:
        text: str

        def __post_init__(self):
            raise ValueError(f"bad token {self.text}")

    def log_in(user: str, token: Token): ...

    queue.task(name="log_in", mask=["token"])(lambda user, token: None)
    job = queue.tasks["log_in"].enqueue("ada", {"text": SECRET})
    with Queue(queue.path) as later:
        later.task(name="log_in", mask=["token"])(log_in)
        later.worker().run(until_idle=True)
    [error] = job.refresh().errors
    assert "argument token must be" in error.message
    assert SECRET not in error.message + error.traceback


def test_a_mask_leaves_arguments_typed_and_calls_comparable(queue):
    taken = []

    @queue.task(name="log_in", mask=["token"], unique=True)
    def log_in(when: datetime, token: str) -> None:
        taken.append((when, token))

    job = log_in.enqueue(MOMENT, SECRET)
    assert log_in.enqueue(token=SECRET, when=MOMENT).id == job.id
    assert log_in.enqueue(MOMENT, "another").id != job.id
    queue.worker().run(until_idle=True)
    assert taken[0] == (MOMENT, SECRET)


def test_a_mask_may_come_and_go_while_jobs_wait(queue, database):
    queue.task(name="add", mask=["b"])(lambda a, b: a + b)
    queue.tasks["add"].enqueue(1, 2)
    with Queue(database) as later:
        add = later.task(name="add")(lambda a, b: a + b)
        add.enqueue(3, 4)
        later.worker().run(until_idle=True)
        assert [job.result(0) for job in later.jobs()] == [7, 3]


def test_a_mask_that_comes_or_goes_makes_no_call_another(database, driver):
    for mask in ([], ["token"], []):
        with Queue(database, driver=driver) as queue:
            task = queue.task(name="log_in", mask=mask, unique=True)(lambda token: None)
            task.enqueue(SECRET)
            task.using(key="k").enqueue(SECRET)
            with pytest.raises(KeyConflict):
                task.using(key="k").enqueue("another")
            assert len(queue.jobs()) == 2


def test_a_mask_works_under_a_codec_of_ones_own(database):
    class Pickled:
        name = "pickle"
        encode = staticmethod(pickle.dumps)
        decode = staticmethod(pickle.loads)

    with Queue(database, codec=Pickled()) as queue:
        add = queue.task(name="add", mask=["b"])(lambda a, b: a + b)
        job = add.enqueue(1, 2)
        queue.worker().run(until_idle=True)
        assert job.result(0) == 3
        assert job_fields(queue.engine.jobs.look_up(job.id), queue)["args"] == [1, "***"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mask": "token"}, "must be a list"),
        ({"mask": [1]}, "must be a list"),
        ({"mask": 5}, "must be a list"),
        ({"mask": ["tokn"]}, "mask names tokn, which the task does not take"),
        ({"mask": ["token"], "unique": "log-in:{token}"}, "would show token"),
        ({"mask": ["token"], "unique": "log-in:{user:{token}}"}, "would show token"),
        ({"unique": "log-in:{user:{tokn}}"}, "must name arguments of the task"),
    ],
)
def test_a_mask_that_hides_nothing_is_refused_where_it_is_given(queue, options, says):
    with pytest.raises((TypeError, ValueError), match=says):
        queue.task(name="log_in", **options)(lambda token, user=0: None)


# EncryptedCodec


@pytest.fixture
def key():
    return new_key()


def test_payloads_and_results_are_read_with_the_key_alone(database, key):
    with Queue(database, codec=EncryptedCodec(key)) as queue:

        @queue.task(name="log_in", retries=0)
        def log_in(when: datetime, token: str) -> dict[str, str]:
            return {token: when.isoformat()}

        job = log_in.enqueue(MOMENT, SECRET)
        queue.worker().run(until_idle=True)
        assert job.result(0) == {SECRET: MOMENT.isoformat()}
        assert job_fields(queue.engine.jobs.look_up(job.id), queue)["result"] == {SECRET: MOMENT.isoformat()}
    for file in database.parent.glob("app.db*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    with Queue(database) as other:
        assert (job_fields(other.engine.jobs.look_up(job.id))["args"], SECRET in str(other.jobs())) == (None, False)


def test_a_result_that_is_waited_for_is_printed_as_json_under_a_key_too(database, key, monkeypatch):
    with Queue(database, codec=EncryptedCodec(key)) as queue:
        task = queue.task(name="count")(lambda: {"lines": 3, "of": None})
        task.using(key="once").enqueue()
        queue.worker().run(until_idle=True)
        monkeypatch.setitem(sys.modules, "kept_secret", types.SimpleNamespace(queue=queue))
        said = CliRunner().invoke(enqueue, ["kept_secret:queue", "count", "--key", "once", "--wait"]).stdout
        assert json.loads(said) == {"lines": 3, "of": None}


def test_keys_are_changed_by_putting_the_new_one_first(database, key):
    with Queue(database, codec=EncryptedCodec(key)) as queue:
        queue.task(name="echo")(lambda text: text).enqueue("old")
    newer = new_key()
    with Queue(database, codec=EncryptedCodec([newer, key])) as queue:
        queue.task(name="echo")(lambda text: text).enqueue("new")
        queue.worker().run(until_idle=True)
    with Queue(database, codec=EncryptedCodec([newer])) as queue:
        assert [job.result(0) for job in queue.jobs()] == ["new", "old"]  # both ended under the new one


def test_a_change_of_keys_makes_no_call_another(database, driver, key):
    newer = new_key()
    for keys in ([key], [key, newer], [newer, key]):
        with Queue(database, driver=driver, codec=EncryptedCodec(keys)) as queue:
            task = queue.task(name="charge", unique=True)(lambda options: None)
            task.enqueue({"user": 1, "of": {2, 3}})
            task.using(key="k").enqueue(SECRET)
            with pytest.raises(KeyConflict):
                task.using(key="k").enqueue("another")
            assert len(queue.jobs()) == 2
    with Queue(database, driver=driver, codec=EncryptedCodec([newer, key])) as queue:
        task = queue.task(name="charge", unique=True)(lambda options: None)
        late = task.enqueue({"user": 2})
    with Queue(database, driver=driver, codec=EncryptedCodec([key, newer])) as queue:  # it has not heard of it yet
        task = queue.task(name="charge", unique=True)(lambda options: None)
        assert task.enqueue({"user": 2}).id == late.id


def test_a_job_under_a_key_that_is_not_there_fails_alone(database, key):
    with Queue(database, codec=EncryptedCodec(key)) as queue:
        queue.task(name="echo")(lambda text: text).enqueue("old")
    with Queue(database, codec=EncryptedCodec(new_key())) as queue:
        fresh = queue.task(name="echo")(lambda text: text).enqueue("new")
        queue.worker().run(until_idle=True)
        [first] = queue.jobs(status="failed")
        assert (first.errors[0].type.rpartition(".")[2], fresh.result(0)) == ("DecodeError", "new")
        assert "none of the 1 keys" in first.errors[0].message


def test_equal_calls_are_equal_under_a_key_as_unique_and_keys_need(database, key):
    with Queue(database, codec=EncryptedCodec(key)) as queue:
        task = queue.task(name="sync", unique=True)(lambda options: None)
        job = task.enqueue({"a": 1, "b": {2, 3}})
        assert task.enqueue({"b": [2, 3], "a": 1}).id == job.id
        queue.worker().run(until_idle=True)
        assert job.refresh().status == "succeeded"
        keyed = task.using(key="k", key_scope="kept")
        assert keyed.enqueue({"a": 1}).id == keyed.enqueue({"a": 1}).id


def test_what_json_refuses_is_named_under_a_key_too(key):
    signature = Signature(lambda items: None, EncryptedCodec(key), "f")
    with pytest.raises(EncodeError) as caught:
        signature.encode_call(([1, object()],), {})
    assert caught.value.path == "items[1]"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_under_a_key_raise_nothing_but_decode_error(data):
    with pytest.raises(DecodeError):
        EncryptedCodec(new_key()).decode(data)


@given(st.integers(0, 10_000))
def test_a_change_of_any_bit_is_seen(place):
    codec = EncryptedCodec(new_key())
    data = bytearray(codec.encode([1, "two"]))
    data[place // 8 % len(data)] ^= 1 << place % 8
    with pytest.raises(DecodeError):
        codec.decode(bytes(data))


@pytest.mark.parametrize("keys", [[], None, "short", ["é" * 80], [None], "A" * 86 + "=="[:1]])
def test_what_is_no_key_is_refused_and_not_shown(keys):
    with pytest.raises(ValueError, match=r"new_key\(\)") as caught:
        EncryptedCodec(keys)
    assert "AAAA" not in str(caught.value)


def test_without_the_library_it_says_what_to_install(key):
    program = f"""
import sys
sys.modules["cryptography"] = None
from litequeue.serialization.encryption import EncryptedCodec
try:
    EncryptedCodec({key!r})
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install '.[crypto]' in a clone" in run.stdout


def test_it_is_a_json_codec_by_its_types(key):
    assert isinstance(EncryptedCodec(key), JsonCodec)
