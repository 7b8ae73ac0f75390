"""A little of what `make torture` does to child processes."""

import sys

import pytest

from crash import children

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="/proc, SIGKILL")]


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    path = tmp_path_factory.mktemp("children") / "children.db"
    return children.torture(path, jobs=300, kills=30, seed=1)


def test_each_job_ends_as_it_should_and_only_what_ran_there_is_blamed(figures):
    assert (figures.unended, figures.wrong, figures.beside) == (0, [], 0)
    assert (figures.jobs, figures.kills > 10) == (300, True)


def test_neither_processes_nor_descriptors_are_left(figures):
    assert figures.leaked == []
