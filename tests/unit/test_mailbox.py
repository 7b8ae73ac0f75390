"""The ends of runs, on their way from the pools to the worker."""

import pytest

from contract.jobs import FAILED, START
from litequeue.core.outcome import Ended, Succeeded
from litequeue.core.records import Claimed
from litequeue.worker.executor import mailbox as mailbox_module
from litequeue.worker.executor.mailbox import Mailbox


@pytest.fixture
def woken():
    return []


@pytest.fixture
def mailbox(woken, monkeypatch):
    monkeypatch.setattr(mailbox_module, "BUDGET", 100)
    return Mailbox(lambda: woken.append(True), settle=None)


def put(mailbox, *outcomes):
    for number, outcome in enumerate(outcomes):
        job = Claimed(str(number), 1, "add", "default", b"[]", 0, 0, 0, None, None, None, START)
        mailbox.end(Ended(job, outcome, START, 60.0))


def taken(mailbox):
    """The ids in each transaction's ends, until there are none."""
    return list(iter(lambda: [end.job.id for end in mailbox.take()], []))


def of(size):
    return Succeeded(b"7" * size)


def test_small_ends_are_settled_together(mailbox, woken):
    put(mailbox, of(30), FAILED, of(30), of(40))
    assert (taken(mailbox), woken) == ([["0", "1", "2", "3"]], [])


def test_large_results_are_settled_in_several_transactions_one_after_the_other(mailbox, woken):
    put(mailbox, of(60), of(40), of(1), FAILED, of(500), FAILED, of(99))
    assert taken(mailbox) == [["0", "1"], ["2", "3"], ["4"], ["5", "6"]]
    assert woken == [True, True, True]  # the worker does not sleep meanwhile


def test_while_results_pile_up_the_worker_is_behind(mailbox):
    put(mailbox, of(60), of(60), FAILED)
    assert (len(mailbox.take()), mailbox.is_behind) == (1, True)
    assert (len(mailbox.take()), mailbox.is_behind) == (2, False)


def test_a_function_that_returns_after_it_was_left_behind_is_told_of_once_its_end_is_settled(mailbox):
    """Before, nothing in the file says that it was left behind, and what it holds would never be given back."""
    put(mailbox, FAILED)
    [job] = [end.job for end in mailbox.ended]
    mailbox.left_behind[job.id, job.attempt] = job
    mailbox.note_gone(job)
    assert (mailbox.take_gone(), mailbox.left_behind) == ([], {})
    mailbox.take()
    assert (mailbox.take_gone(), mailbox.take_gone()) == ([job], [])
