"""A smooth rate gives slots one after another: hardly anything is lost to waking up, and no window has one too many."""

from litequeue.limits.rate import Rate


def claims(rate, late, count=500):
    """When so many starts are claimed, each so late after the moment at which it may be."""
    starts, now, found = [], 100.0, []
    for _ in range(count):
        now = rate.opens_at([start for start in starts if start[0] > rate.edge(now)], 1, now) + late
        starts.append((rate.stamp(starts, now), 1))
        found.append(now)
    return found


def test_a_start_that_is_hardly_late_keeps_its_slot():
    rate = Rate(200, 1.0, smooth=True)
    found = claims(rate, late=rate.patience / 2)
    assert (found[-1] - found[0]) / (len(found) - 1) < 1.05 / 200


def test_no_window_has_one_start_too_many_however_late_functions_are_called():
    rate = Rate(200, 1.0, smooth=True)
    found = claims(rate, late=0.0)
    assert all(after - (before + rate.patience) >= 1.0 for before, after in zip(found, found[200:], strict=False))
