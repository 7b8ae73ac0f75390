import pytest

from litequeue.signals import MOMENT, Stops


@pytest.mark.parametrize(
    ("moments", "stops"),
    [
        ([0.0], 1),
        ([0.0, 0.02, 0.9 * MOMENT], 1),
        ([0.0, MOMENT], 2),
        ([0.0, 0.9 * MOMENT, 1.8 * MOMENT], 2),  # counted from the first of a stop, else pressing on would be none
        ([0.0, MOMENT, 1.5 * MOMENT, 2 * MOMENT], 3),
        ([0.1, 0.0], 1),  # a handler amid which another ran comes to its own signal later
    ],
)
def test_what_is_told_within_a_moment_of_a_stop_is_that_stop(moments, stops):
    told = Stops()
    counts = [told.tell(1000.0 + moment) for moment in moments]
    assert counts[-1] == stops
    assert counts == sorted(counts)
