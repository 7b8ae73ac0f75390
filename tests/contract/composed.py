"""A queue with tasks to compose, whose jobs a test claims and ends by hand."""

from contract.jobs import SUCCEEDED, Hands
from litequeue.core.outcome import ErrorInfo, Failed, Succeeded

BOOM = Failed(ErrorInfo("ValueError", "boom", "its traceback"))


class Work:
    """Tasks on a queue, and a worker that runs nothing: a test says how each job ends, in the order it wants."""

    def __init__(self, queue):
        self.queue, self.calls = queue, []
        self.store = queue.engine
        self.add = queue.task(name="add")(lambda x, y=0: x + y)
        self.total = queue.task(name="total")(lambda results: sum(results))
        self.note = queue.task(name="note")(lambda *args: None)
        self.hands = Hands(self.store, "add", "total", "note")

    def ready(self):
        """The ids of jobs that could begin now, as claimed; each must then be ended or released."""
        return [job.id for job in self.claim()]

    def claim(self, limit=50):
        return self.hands.claim(limit)

    def end(self, *pairs):
        """End claimed jobs; bytes are a result."""
        ends = [(job, Succeeded(how) if isinstance(how, bytes) else how) for job, how in pairs]
        assert self.hands.settle(*ends) == []

    def run(self, outcome=SUCCEEDED, limit=50):
        """Claim what is ready and end it so; return the ids."""
        jobs = self.claim(limit)
        self.end(*[(job, outcome) for job in jobs])
        return [job.id for job in jobs]

    def run_all(self, fails=()):
        """Run until nothing is ready, those in `fails` without success; return the ids in their order."""
        done = []
        while jobs := self.claim():
            self.end(*[(job, BOOM if job.id in fails else b"1") for job in jobs])
            done += [job.id for job in jobs]
        return done

    def status(self, *jobs):
        """Their statuses now, as text."""
        return [str(self.store.jobs.look_up(getattr(job, "id", job)).status) for job in jobs]

    def reason(self, job):
        return self.queue.job(getattr(job, "id", job)).reason

    def rows(self, sql, **values):
        return self.store.kernel.read(lambda db: db.rows(sql, values))

    def unended(self):
        """What each dependent waits for, by node."""
        return dict(self.rows("SELECT node, unended FROM litequeue_dependents"))
