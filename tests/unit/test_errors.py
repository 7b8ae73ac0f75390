"""Errors that cross processes, as those raised in a process pool do."""

import pickle

import pytest

from litequeue.errors import EncodeError, JobFailed, KeyConflict

ERRORS = [JobFailed("7", "ValueError", "boom", "Traceback ..."), KeyConflict("held", "7"), EncodeError("no", "args[0]")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_arrives_whole_in_another_process(error):
    arrived = pickle.loads(pickle.dumps(error))
    assert (type(arrived), str(arrived), vars(arrived)) == (type(error), str(error), vars(error))
