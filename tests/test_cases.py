"""Small programs that somebody might write, in tests/cases/: each does an ordinary thing and must get the right answer.

A program prints a line `got: ...` and a line `right: ...`, and exits with 0 if what it got is right, 1 if not, 77 if it
cannot run here. What goes wrong today is expected to, until what will mend it is done. Most programs sleep more than
they compute, so several run at once, and those that judge by time when the others are done. An outcome that is not the
expected one counts if it comes again when the program runs alone: a busy machine is no defect, and no cure.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

CASES = {path.name[:2]: path for path in sorted((Path(__file__).parent / "cases").glob("[0-9][0-9]_*.py"))}
LIMIT = 90  # seconds; each ends by itself within 60

# What will mend those that go wrong today, by its title.
MENDED_BY = {
    "Manners in production": "17",
}
WRONG = {number: title for title, numbers in MENDED_BY.items() for number in numbers.split()}
NEEDS = {"21": "fastapi"}

# How many at once; one group after the other. Those that take longest begin first.
TIMED = ["02", "18", "19", "23", "24"]  # three that judge by time, and two that do nothing but sleep beside them
COMPUTING = ["27"]  # judges by time, and computes
LONG = ["05", "30", "22", "13", "17", "28"]
OTHERS = [*LONG, *sorted(CASES.keys() - {*LONG, *TIMED, *COMPUTING})]
GROUPS = [(OTHERS, 4), (TIMED, 5), (COMPUTING, 1)]


class Wrong(Exception):
    """The program got a wrong answer, and said so."""


def run(number):
    """Run a program with a folder of its own for temporary files; return its exit code and what it printed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [sys.executable, CASES[number]],
            env={**os.environ, "TMPDIR": folder, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            errors += f"\nno end after {LIMIT} s"
        return process.returncode, [line for line in output.splitlines() if line.startswith(("got:", "right:"))], errors


def is_as_expected(number, outcome):
    code, said, _ = outcome
    return len(said) == 2 and code == (1 if number in WRONG else 0)


@pytest.fixture(scope="module")
def outcomes(request):
    """Run the programs whose tests are selected; each test takes its own outcome when it is there."""
    selected = {item.callspec.params.get("number") for item in request.session.items if hasattr(item, "callspec")}
    futures = {number: Future() for number in CASES if number in selected}
    over = threading.Event()

    def fill(number):
        try:
            futures[number].set_result((256, [], "given up") if over.is_set() else run(number))
        except BaseException as error:
            futures[number].set_exception(error)

    def conduct():
        for numbers, at_once in GROUPS:
            with ThreadPoolExecutor(at_once) as pool:
                for number in numbers:
                    if number in futures:
                        pool.submit(fill, number)

    conductor = threading.Thread(target=conduct)
    conductor.start()

    def outcome_of(number):
        outcome = futures[number].result(LIMIT * len(CASES))
        if is_as_expected(number, outcome) or outcome[0] == 77:
            return outcome
        conductor.join()
        return run(number)

    yield outcome_of
    over.set()
    conductor.join()


def cases():
    for numbers, _ in GROUPS:
        for number in numbers:
            reason = WRONG.get(number)
            wrong = (
                [pytest.mark.xfail(strict=True, raises=Wrong, reason=f"to be mended by: {reason}")] if reason else []
            )
            yield pytest.param(number, id=CASES[number].stem, marks=wrong)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="some use Linux's own means: sizes of pipes, /proc")
@pytest.mark.parametrize("number", list(cases()))
def test_a_program_gets_the_right_answer(outcomes, number):
    code, said, errors = outcomes(number)
    assert len(said) == 2, f"it did not say what it got; exit code {code}\n{errors}"  # a crash is not what is expected
    if code == 77 and not (os.environ.get("CI") and number in NEEDS):
        pytest.skip(said[0])
    assert code in {0, 1}, f"exit code {code}\n{said[0]}\n{errors}"
    if code:
        raise Wrong("\n".join(said))


def test_each_program_is_run_once_and_what_will_mend_it_is_named_once():
    run_once = [number for numbers, _ in GROUPS for number in numbers]
    assert sorted(run_once) == sorted(CASES)
    assert len(CASES) == 30
    named = " ".join(MENDED_BY.values()).split()
    assert len(named) == len(set(named))
    assert set(named) <= set(CASES)
