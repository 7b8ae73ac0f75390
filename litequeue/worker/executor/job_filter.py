"""The filter that marks log records with the job inside which they are made. Knows no worker."""

from __future__ import annotations

import logging

from litequeue.core.current_run import current_app
from litequeue.core.logger import about
from litequeue.worker.executor.context import current

FIELDS = ("job_id", "task", "queue", "try", "run")


class JobFilter(logging.Filter):
    """A filter for log handlers: gives each record the `job_id`, `task`, `queue`, `try` and `run` of the running job.

    Add it to a handler, by `handler.addFilter(JobFilter())` or in the `filters` of a `dictConfig`; it lets every record
    pass. A record made by no job gets `outside`, None unless given, so that a format may name these fields. What a
    record has already, by `extra=`, stays. `litequeue run` adds one to each handler by itself.
    """

    def __init__(self, outside: object = None) -> None:
        super().__init__()
        self.outside: dict[str, object] = dict.fromkeys(FIELDS, outside)

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark the record; True."""
        run, app = current.get(None), current_app.get(None)
        if app is not None:
            record.__dict__.setdefault("app", app)
        for name, value in (self.outside if run is None else about(run.job)).items():
            record.__dict__.setdefault(name, value)
        return True
