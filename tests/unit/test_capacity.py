"""The slots and resources that are given to tasks, calls and workers: checked where they are given."""

import pytest

from litequeue import Queue
from litequeue.limits.resources import unmet
from litequeue.limits.served_queues import queues_text, served_queues


@pytest.fixture
def queue(database):
    with Queue(database) as queue:
        yield queue


def test_queues_are_names_or_names_with_slots():
    assert served_queues(None) == (None, {})
    assert served_queues(["email", "reports", "email"]) == (("email", "reports"), {})
    assert served_queues({"email": None, "reports": 2}) == (("email", "reports"), {"reports": 2})


@pytest.mark.parametrize("slots", [0, -1, True, 2.0, "2", 100_001])
def test_wrong_slots_are_refused(queue, slots):
    with pytest.raises(
        ValueError, match="queues: reports must have a whole number of slots from 1 to 100,000, or None"
    ):
        queue.worker(queues={"reports": slots})


@pytest.mark.parametrize(
    "give",
    [
        lambda queue: queue.task(queue="reports:2")(lambda: None),
        lambda queue: queue.task(name="t")(lambda: None).using(queue="reports:2"),
        lambda queue: queue.worker(queues=["email", "reports:2"]),
        lambda queue: queue.worker(queues={"reports:2": None}),
    ],
)
def test_a_name_of_a_queue_that_ends_like_slots_is_refused_wherever_it_is_given(queue, give):
    with pytest.raises(ValueError, match=r"got 'reports:2'; .*queue\.worker\(queues=\{'reports': 2\}\)"):
        give(queue)


def test_a_colon_elsewhere_in_the_name_of_a_queue_is_allowed(queue):
    assert queue.worker(queues=["reports:eu", "2:reports"]).queues == ("reports:eu", "2:reports")


@pytest.mark.parametrize("amount", [0, -1, True, 0.5, "1", None])
def test_wrong_amounts_of_resources_are_refused(queue, amount):
    with pytest.raises(ValueError, match="uses: gpu must be a whole number from 1 to"):
        queue.task(name="a", uses={"gpu": amount})
    with pytest.raises(ValueError, match="offers: gpu must be a whole number from 1 to"):
        queue.worker(offers={"gpu": amount})


@pytest.mark.parametrize("given", [["gpu"], "gpu", 1])
def test_resources_are_a_mapping(queue, given):
    with pytest.raises(TypeError, match="uses must give an amount for each resource"):
        queue.task(name="a", uses=given)


@pytest.mark.parametrize("name", ["", "a=b", "a,b", 1])
def test_wrong_names_of_resources_are_refused(queue, name):
    with pytest.raises(ValueError, match="a resource in offers must be a name"):
        queue.worker(offers={name: 1})


@pytest.mark.parametrize(
    ("uses", "offered", "words"),
    [
        ({}, [], None),
        ({"gpu": 1}, [{"gpu": 1}], None),
        ({"gpu": 1}, [], "asks for gpu: 1; no running worker offers any of it"),
        ({"gpu": 4}, [{"gpu": 1}, {"gpu": 2}], "asks for gpu: 4; no running worker offers more than 2"),
        (
            {"gpu": 1, "ram_mb": 9},
            [{"gpu": 1}, {"ram_mb": 9}],
            "asks for gpu=1, ram_mb=9; no running worker offers all of it together",
        ),
    ],
)
def test_what_no_worker_offers_is_said_in_words(uses, offered, words):
    assert unmet(uses, offered) == words


def test_queues_with_slots_are_written_as_on_the_command_line():
    assert queues_text({"email": None, "reports": 2}) == "email,reports:2"
