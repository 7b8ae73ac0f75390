"""A group of jobs, one that gets their results, and a callback for the case that something fails.

Run: `python examples/compositions.py`.
"""

import logging
import tempfile
import zipfile
from pathlib import Path

from litequeue import Failure, JobCancelled, JobFailed, Queue, chord, group

logging.getLogger("litequeue").setLevel("CRITICAL")  # a worker logs each failure; the one below is on purpose
folder = Path(tempfile.mkdtemp())
queue = Queue(folder / "app.db")  # in your program: Queue("app.db")
told: list[str] = []


@queue.task(retries=1, backoff=[0.05])
def thumbnail(path: Path) -> Path:
    """Halve a picture, which here is a text with a line for each row. Large values go into files, not into results."""
    rows = path.read_text().splitlines()
    small = path.with_suffix(".small")
    small.write_text("\n".join(row[::2] for row in rows[::2]))
    return small


@queue.task
def zip_up(thumbnails: list[Path], archive: Path) -> int:
    """Get the results of the group in their order, and run once, when the last one is there."""
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in thumbnails:
            zipped.write(path, path.name)
    return len(thumbnails)


@queue.task
def alert(failure: Failure) -> None:
    told.append(f"{failure.task}: {failure.error_type} after {failure.tries} tries")


@queue.task
def count(results: list[Path | JobFailed]) -> str:
    failed = [result for result in results if isinstance(result, JobFailed)]
    return f"{len(results) - len(failed)} thumbnails, {len(failed)} missing"


def main() -> None:
    pictures = [folder / f"{number}.txt" for number in range(3)]
    for picture in pictures:
        picture.write_text("abcd\nefgh\n")

    with queue.worker():
        # A group and its body: stored in one transaction, known by the job of the body.
        job = (group(thumbnail.s(picture) for picture in pictures) | zip_up.s(folder / "all.zip")).enqueue()
        print("zipped:", job.result(timeout=10))

        # One picture is gone. What needs its thumbnail is cancelled, and the callback runs.
        pictures[1].unlink()
        careful = group(thumbnail.using(on_failure=alert.s()).s(picture) for picture in pictures)
        job = (careful | zip_up.s(folder / "again.zip")).enqueue()
        try:
            job.result(timeout=10)
        except JobCancelled:
            print("not zipped:", job.refresh().reason)

        # A body that runs in any case finds out what is missing.
        job = chord([thumbnail.s(picture) for picture in pictures], count.s(), on="always").enqueue()
        print("counted:", job.result(timeout=10))

    print("told:", told)


if __name__ == "__main__":
    main()
