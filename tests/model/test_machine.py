"""The public interface against the model, on both drivers: see `model/machine.py`."""

import logging

import pytest
from hypothesis import HealthCheck, settings

from model.machine import Machine
from model.row import Broken
from model.test_simulation import changed
from model.working import Working

EXAMPLES = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class OnSqlite3(Working):
    driver = "sqlite3"


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Working, OnSqlite3])
def test_whatever_is_called_the_file_holds_what_it_must(machine):
    play(machine)


def test_the_machine_finds_a_promise_that_is_not_kept():
    with (
        pytest.raises(Broken, match="cancel_requested"),
        changed("request_cancel", "cancel_requested = 1", "progress = NULL"),
    ):
        play(Machine)


def play(machine):
    case = machine.TestCase
    case.settings = EXAMPLES
    logging.disable(logging.CRITICAL)
    try:
        case().runTest()
    finally:
        logging.disable(logging.NOTSET)
