"""The demo's tasks, and what a worker process runs: `python -m examples.demo.tasks`. Knows nothing of the show."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from pathlib import Path

from litequeue import current_job, default_queue, every, task

SMALL = 16 * 1024  # bytes: a smaller file is counted by a coroutine
CHUNK = 1024 * 1024

# The demo's own tables, in the queue's file. `files` has no unique key: were a file counted twice, it would show.
TABLES = """
    CREATE TABLE files (
        path TEXT, suffix TEXT, digest TEXT, bytes INTEGER, lines INTEGER, words INTEGER, seconds REAL,
        pid INTEGER, rolled_up INTEGER DEFAULT 0
    );
    CREATE INDEX files_to_roll_up ON files (rolled_up) WHERE NOT rolled_up;
    CREATE TABLE summary (
        suffix TEXT PRIMARY KEY, files INTEGER, bytes INTEGER, lines INTEGER, words INTEGER, seconds REAL
    );
"""
ADD_FILE = """
    INSERT INTO files (path, suffix, digest, bytes, lines, words, seconds, pid)
    VALUES (:path, :suffix, :digest, :bytes, :lines, :words, :seconds, :pid)
"""
ADD_TO_SUMMARY = """
    INSERT INTO summary
    SELECT suffix, count(*), sum(bytes), sum(lines), sum(words), sum(seconds)
    FROM files WHERE NOT rolled_up GROUP BY suffix
    ON CONFLICT DO UPDATE SET
        files = files + excluded.files, bytes = bytes + excluded.bytes, lines = lines + excluded.lines,
        words = words + excluded.words, seconds = seconds + excluded.seconds
"""
MARK_AS_ROLLED_UP = "UPDATE files SET rolled_up = 1 WHERE NOT rolled_up"


@task(queue="large")
def count_file(path: str) -> None:
    """Count one file, in a thread of the worker."""
    row = measure(path)
    with current_job().completing() as db:  # the row and the job's success are one commit
        db.execute(ADD_FILE, row)


@task(queue="small")
async def count_small_file(path: str) -> None:
    """Count one file, on the worker's loop."""
    row = await asyncio.to_thread(measure, path)
    async with current_job().acompleting() as db:
        db.execute(ADD_FILE, row)


@task(schedule=every("1s"))
def roll_up() -> None:
    """Add what has been counted since the last time to the summary; each file once, whoever is killed meanwhile."""
    with current_job().completing() as db:
        db.execute(ADD_TO_SUMMARY)
        db.execute(MARK_AS_ROLLED_UP)


def measure(path: str) -> dict[str, object]:
    """Read a file through once and return its row. Raises `OSError`, which makes the job a dead letter."""
    began = time.perf_counter()
    digest = hashlib.sha256()
    size = lines = words = 0
    inside = False  # whether the last chunk ended within a word
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
            words += len(chunk.split()) - (inside and not chunk[:1].isspace())
            inside = not chunk[-1:].isspace()
    return {
        "path": path,
        "suffix": Path(path).suffix.lower(),
        "digest": digest.hexdigest(),
        "bytes": size,
        "lines": lines,
        "words": words,
        "seconds": time.perf_counter() - began,
        "pid": os.getpid(),
    }


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    default_queue.worker(threads=3, coroutines=8).run()
