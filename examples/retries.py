"""How errors are handled: another try after a pause, giving up, running again later, and dead letters.

Run: `python examples/retries.py`.
"""

import logging
import tempfile
from pathlib import Path

from litequeue import GiveUp, JobFailed, Queue, Snooze, current_job

logging.getLogger("litequeue").setLevel("CRITICAL")  # a worker logs each failure; those below are on purpose
queue = Queue(Path(tempfile.mkdtemp()) / "app.db")  # in your program: Queue("app.db")
keys: list[str] = []


@queue.task(retries=3, backoff=[0.05, "0.1s"])  # unless given: exponential with jitter, 1 s to 1 h
def flaky() -> str:
    if current_job().attempt < 3:
        raise ConnectionError("the line is bad")
    return f"succeeded at attempt {current_job().attempt}"


@queue.task(retries=3, give_up_on=KeyError)  # after these errors another try would be of no use
def hopeless(address: str) -> None:
    if "@" not in address:
        raise GiveUp(f"{address!r} is no address")
    raise KeyError(address)


@queue.task
def patient() -> str:
    """Come back while it is too early. A snooze is neither a failure nor one of the retries."""
    if current_job().attempt == 1:
        raise Snooze("0.1s")
    return "no longer too early"


@queue.task
def open_shop() -> str:
    if not keys:
        raise RuntimeError("the key is lost")
    return f"open, with {keys[0]}"


def main() -> None:
    with queue.worker():
        print("flaky:", flaky.enqueue().result(timeout=10))
        print("patient:", patient.enqueue().result(timeout=10))
        for job in (hopeless.enqueue("nobody"), open_shop.enqueue()):
            try:
                job.result(timeout=10)
            except JobFailed as failure:
                print(f"{job.task}: {failure.message}, after {job.attempt} attempt")

        # Failed jobs are the dead letters: kept for 30 days with their tracebacks, to be read and retried.
        keys.append("the spare key")
        [dead] = queue.jobs(status="failed", task=open_shop)
        dead.retry()
        print("dead letter:", dead.errors[-1].message, "-> retried:", dead.result(timeout=10))


if __name__ == "__main__":
    main()
