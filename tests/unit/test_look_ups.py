"""Look-ups of coroutines, which are read together; and the inbox of a wait for many."""

import asyncio
import threading

import pytest

from litequeue.core.background import Background
from litequeue.ipc.inbox import Inbox
from litequeue.ipc.look_ups import CHUNK, LookUps, NotReadError, within

BOOM = OSError("boom")


@pytest.fixture
def reads():
    """The ids of each read, and look-ups by them that say an id twice."""
    asked, thread = [], Background("litequeue-test")

    def read(ids):
        asked.append(list(ids))
        if "bad" in ids:
            raise BOOM
        return {each: each * 2 for each in ids}

    yield asked, LookUps(read, thread.future_on), thread
    thread.close()


def test_what_is_asked_for_in_one_turn_is_read_together_a_chunk_at_a_time(reads):
    asked, look_ups, _ = reads

    async def ask(job_id):
        return await look_ups.ask(job_id)

    async def main():
        return await asyncio.gather(*(ask(str(number)) for number in range(CHUNK + 5)))

    for _ in range(2):  # each on a loop of its own
        assert asyncio.run(main()) == [str(number) * 2 for number in range(CHUNK + 5)]
    assert [len(ids) for ids in asked] == [CHUNK, 5, CHUNK, 5]


def test_what_is_asked_for_while_others_are_read_is_read_after_them(reads):
    asked, look_ups, thread = reads
    free = threading.Event()

    async def main():
        thread.submit(free.wait)
        first = look_ups.ask("a")
        await asyncio.sleep(0)
        others = [look_ups.ask(each) for each in ("b", "c", "b")]
        await asyncio.sleep(0)
        free.set()
        return [await each for each in (first, *others)]

    assert asyncio.run(main()) == ["aa", "bb", "cc", "bb"]
    assert asked == [["a"], ["b", "c", "b"]]


def test_an_error_reaches_each_who_asked_and_the_next_are_read(reads):
    _, look_ups, _ = reads

    async def main():
        found = await asyncio.gather(look_ups.ask("bad"), look_ups.ask("b"), return_exceptions=True)
        return found, await look_ups.ask("c")

    assert asyncio.run(main()) == ([BOOM, BOOM], "cc")


def test_an_error_of_the_thread_reaches_each_who_asked():
    def no_thread(_loop, _call):
        raise RuntimeError("can't start new thread")

    async def main():
        look_ups = LookUps(dict, no_thread)
        return await asyncio.gather(look_ups.ask("a"), look_ups.ask("b"), return_exceptions=True)

    assert [str(error) for error in asyncio.run(main())] == ["can't start new thread"] * 2


def test_what_is_cancelled_or_has_no_time_left_is_not_read(reads):
    asked, look_ups, thread = reads
    free = threading.Event()

    async def main():
        thread.submit(free.wait)
        look_ups.ask("a").cancel()
        with pytest.raises(NotReadError):
            await within(look_ups.ask("b"), 0)
        with pytest.raises(NotReadError):
            await within(thread.future(lambda: asked.append("never")), 0)
        free.set()
        return await within(look_ups.ask("c"), 20)

    assert asyncio.run(main()) == "cc"
    assert asked == [["c"]]


@pytest.mark.parametrize("told", ["before", "within"])
def test_a_coroutine_is_told_whenever_that_comes(told):
    inbox = Inbox()

    async def main():
        if told == "before":
            inbox.tell("source", None, ["1", "2"])
        else:
            threading.Timer(0, inbox.tell, ("source", None, ["1", "2"])).start()
        while (found := inbox.take(10)) is None:
            await inbox.await_any(20)
        return found

    assert asyncio.run(main()) == ("source", ["1", "2"])


def test_ids_are_taken_by_their_source():
    inbox = Inbox()
    inbox.tell("a", None, ["1", "2", "3"])
    inbox.tell("b", None, ["4"])
    inbox.wait(20)
    assert [inbox.take(2) for _ in range(4)] == [("a", ["1", "2"]), ("a", ["3"]), ("b", ["4"]), None]
