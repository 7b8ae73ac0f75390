"""Which run, and which app, the code at hand belongs to, for rooms below the worker. Knows nothing of a run."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

current_run: ContextVar[Any] = ContextVar("litequeue_current_job")  # set to a `Run` by the worker that calls a task
current_app: ContextVar[str] = ContextVar("litequeue_app")  # set in threads of a worker beside those of other apps
