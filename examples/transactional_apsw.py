"""With the default driver: jobs that commit with your rows, and tasks whose effects in the file happen exactly once.

Run: `python examples/transactional_apsw.py`.
"""

import tempfile
from pathlib import Path

import apsw

from litequeue import Queue, current_job

queue = Queue(Path(tempfile.mkdtemp()) / "bank.db")  # in your program: Queue("bank.db")


@queue.task(retries=5)
def transfer(source: str, target: str, cents: int) -> None:
    """Move money. Whatever dies, and whenever: the rows and the job's success are one commit."""
    with current_job().completing() as db:
        db.execute("UPDATE accounts SET cents = cents - ? WHERE name = ?", (cents, source))
        db.execute("UPDATE accounts SET cents = cents + ? WHERE name = ?", (cents, target))


def main() -> None:
    with queue.transaction() as db:  # an apsw connection, with a write transaction open
        db.execute("CREATE TABLE accounts (name TEXT PRIMARY KEY, cents INTEGER CHECK (cents >= 0))")
        db.execute("INSERT INTO accounts VALUES ('ada', 1000), ('bob', 0)")
        job = transfer.enqueue("ada", "bob", 250)  # stored with the rows above, or not at all

    try:
        with queue.transaction() as db:
            transfer.enqueue("ada", "bob", 100)
            db.execute("UPDATE accounts SET cents = cents - 5000 WHERE name = 'ada'")
    except apsw.ConstraintError:
        print(f"refused: nothing changed, and {len(queue.jobs())} job in the file")

    with queue.worker():
        job.result(timeout=10)
    with queue.transaction() as db:
        print("accounts:", dict(db.execute("SELECT name, cents FROM accounts")))


if __name__ == "__main__":
    main()
