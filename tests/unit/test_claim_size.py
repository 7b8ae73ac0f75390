"""How many jobs to claim at a time, from how long they take."""

import pytest

from litequeue.worker.executor.claim_size import HORIZON, LARGEST_BATCH, LARGEST_CLAIM, ClaimSize


def paced(*spans):
    claim_size = ClaimSize()
    for span in spans:
        claim_size.note(span)
    return claim_size


def test_nothing_is_known_at_first_so_only_what_can_start_is_claimed():
    assert ClaimSize().claim_size(3, 4) == 3


@pytest.mark.parametrize("span", [0.081, 0.5, 600.0])
def test_slow_jobs_are_claimed_only_as_they_can_start(span):
    assert paced(*[span] * 5).claim_size(2, 8) == 2


def test_many_threads_of_slow_jobs_have_those_ahead_that_one_of_them_will_soon_be_free_for():
    assert paced(*[0.02] * 5).claim_size(1, 50) == 1 + 25


def test_tiny_jobs_are_claimed_by_the_hundred_but_not_without_end():
    assert paced(*[1e-6] * 50).claim_size(4, 4) == LARGEST_CLAIM


def test_what_is_claimed_starts_within_the_horizon():
    claim_size = paced(*[0.001] * 50)
    assert claim_size.claim_size(4, 4) == 4 * HORIZON / 0.001


def test_jobs_already_at_work_count_against_what_is_claimed():
    claim_size = paced(*[0.001] * 50)
    assert claim_size.claim_size(1, 4) == claim_size.claim_size(4, 4) - 3


def test_at_least_what_can_start_is_claimed():
    assert paced(*[0.009] * 50).claim_size(8, 8) == 8


def test_one_slow_job_is_believed_at_once():
    assert paced(*[1e-5] * 50, 0.2).claim_size(4, 4) == 4


def test_one_fast_job_among_slow_ones_is_not():
    assert paced(*[0.2] * 50, 1e-5).claim_size(4, 4) == 4


def test_many_fast_jobs_are_believed():
    assert paced(*[0.2] * 5, *[1e-5] * 60).claim_size(4, 4) > 100


def test_ends_of_slow_jobs_are_settled_one_by_one_and_of_tiny_ones_together():
    assert (paced(1.0).batch, paced(*[1e-9] * 9).batch) == (1, LARGEST_BATCH)


def test_slowing_down_claims_only_what_can_start_until_runs_are_short_again():
    claim_size = paced(*[1e-5] * 50)
    claim_size.slow_down()
    assert (claim_size.claim_size(3, 4), claim_size.batch) == (3, 1)
    for _ in range(60):
        claim_size.note(1e-5)
    assert claim_size.claim_size(3, 4) > 100


def test_slowing_down_claims_none_ahead_of_slow_jobs_either():
    claim_size = paced(*[0.02] * 5)
    claim_size.slow_down()
    claim_size.note(0.02)
    assert claim_size.claim_size(1, 50) == 1
