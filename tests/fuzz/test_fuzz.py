"""What hostile input does to a queue: some of the inputs that `python -m fuzz` tries more of."""

import gc
import logging

import pytest

from fuzz.all import TARGETS
from fuzz.corpus import KNOWN
from fuzz.hostile import CANARY, nothing_is_run
from fuzz.targets import Target, attempt

SEED = 1  # the same inputs in every run; `python -m fuzz` draws others each time
EXAMPLES = 150  # fewer where an input takes long, and fewer of those that are known


@pytest.fixture(autouse=True)
def _quiet():
    gc.collect()  # what other tests have left: its finalizers must not run deep in what hostile input recurses into
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    "target", [pytest.param(one, id=one.name, marks=[pytest.mark.slow] * (one.share > 1)) for one in TARGETS]
)
def test_hostile_input_is_refused_or_read_and_nothing_is_run_or_lost(target):
    known = KNOWN.get(target.name, ())[:: target.share - 1 or 1]  # not 10: the drivers take turns
    tried = attempt(target, SEED, EXAMPLES // target.share, known)
    assert tried.inputs >= 10


def test_what_is_known_is_known_of_targets_that_there_are():
    assert set(KNOWN) <= {target.name for target in TARGETS}


def test_a_failure_says_how_it_is_replayed():
    def check(value):
        raise LookupError(value)

    target = Target("made up", TARGETS[0].inputs, check)
    with pytest.raises(AssertionError, match=r"replay: cd tests && python -m fuzz 'made up' --seed 7 --examples 5\n"):
        attempt(target, 7, 5)


def test_no_finalizer_runs_at_the_depth_to_which_an_input_makes_a_reader_recurse():
    class Left:
        """What an input leaves in a cycle, as a queue that was dropped."""

        def __init__(self):
            self.itself = self

        def __del__(self):
            finalized.append(deep)

    def recurse(depth):
        made = [[] for _ in range(gc.get_threshold()[0])]
        return recurse(depth - 1) if depth else made

    def check(_value):
        nonlocal deep
        deep = True
        Left()
        recurse(20)
        deep = False

    deep, finalized = False, []
    attempt(Target("made up", TARGETS[0].inputs, check), SEED, 20)
    gc.collect()
    assert finalized
    assert not any(finalized)


def test_the_canary_is_heard():
    with pytest.raises(AssertionError, match=f"was run: .*{CANARY}"), nothing_is_run(), pytest.raises(ImportError):
        __import__(CANARY)
