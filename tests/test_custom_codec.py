"""A codec of the application's own that breaks its contract."""

import json

import pytest

from crash.watching import ended
from litequeue import EncodeError, Queue


class Careless:
    """A codec that lets some values through as they are."""

    name = "careless"

    def encode(self, value):
        return value if isinstance(value, (str, int, dict)) else json.dumps(value).encode()

    def decode(self, data):
        return json.loads(data)


@pytest.mark.parametrize("value", ["text", 5, {"a": 1}], ids=repr)
def test_a_codec_that_gives_no_bytes_fails_its_job_alone(database, value):
    with Queue(database, codec=Careless()) as queue:
        queue.task(name="same")(lambda value: value)
        bad, innocent = (queue.tasks["same"].enqueue(each) for each in (value, [1]))
        with queue.worker():
            record = ended(bad)
            assert innocent.result(timeout=20) == [1]
        assert (record.status, record.attempt) == ("failed", 1)
        assert "must return bytes, got" in record.errors[0].message


def test_a_codec_that_gives_no_bytes_for_arguments_refuses_the_call(database):
    class Nothing(Careless):
        def encode(self, value):
            return None

    with Queue(database, codec=Nothing()) as queue:
        queue.task(name="same")(lambda value: value)
        with pytest.raises(EncodeError, match="must return bytes, got NoneType"):
            queue.tasks["same"].enqueue(1)
        assert list(queue.jobs()) == []


@pytest.mark.parametrize("codec", ["json", 7, {}, object()], ids=["text", "number", "dict", "object"])
def test_what_is_no_codec_is_refused_where_it_is_given(database, codec):
    with pytest.raises(TypeError, match="codec must be an object with"):
        Queue(database, codec=codec)
    assert not database.exists()
