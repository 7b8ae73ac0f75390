"""A job commits with your own rows, on your own sqlite3 connection: both are stored, or neither.

A process that opens the file with Python's sqlite3 (or aiosqlite, SQLAlchemy, Django) needs driver="sqlite3".
Run: `python examples/transactional_sqlite3.py`.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from litequeue import Queue

path = Path(tempfile.mkdtemp()) / "app.db"
queue = Queue(path, driver="sqlite3")


@queue.task
def welcome(name: str) -> str:
    return f"welcome, {name}"


def register(db: sqlite3.Connection, name: str) -> str:
    """Store a user and the job that greets them."""
    with db:  # sqlite3 commits at its end, or rolls back on an error
        db.execute("INSERT INTO users VALUES (?)", (name,))
        return welcome.using(within=db).enqueue(name).id


def main() -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE users (name TEXT PRIMARY KEY)")
        job = queue.job(register(db, "Ada"))
        try:
            register(db, "Ada")
        except sqlite3.IntegrityError:
            print("refused: no second user, and no second job")
        print("users:", db.execute("SELECT name FROM users").fetchall(), "jobs:", len(queue.jobs()))

    with queue.worker():
        print(job.result(timeout=10))


if __name__ == "__main__":
    main()
