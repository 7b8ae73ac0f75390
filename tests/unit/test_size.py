"""Sizes as users write them."""

import pytest

from litequeue.core.size import size


@pytest.mark.parametrize(
    ("written", "count"),
    [("500MB", 500_000_000), ("1GiB", 2**30), (" 1.5 kb ", 1500), ("12", 12), (12, 12), ("7B", 7), ("1TiB", 2**40)],
)
def test_a_size_is_bytes(written, count):
    assert size(written) == count


@pytest.mark.parametrize("written", ["", "much", "-1MB", "1 XB", "1,5GB", 0, -1, 2**70, "0.1B"])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ValueError, match=r"max_memory .*write text such as"):
        size(written, "max_memory")


def test_a_unit_of_two_meanings_is_refused_with_both():
    with pytest.raises(ValueError, match=r"write 500MB \(thousands\) or 500MiB"):
        size("500M")


@pytest.mark.parametrize("written", [None, 1.5, True, b"1"])
def test_another_type_is_refused(written):
    with pytest.raises(TypeError, match="must be a size"):
        size(written)
