"""Which web server handles this process's signals, and whether it reloads. Knows no server's package, and no worker.

uvicorn's and gunicorn's handlers of signals are methods of objects that have the server's settings. So whether it
reloads is answered the same for an option of the command line, for `uvicorn.run(reload=True)`, `fastapi dev` and a
configuration file. The parent process does not tell: `uvicorn --workers` starts its processes as `--reload` does.
"""

from __future__ import annotations

import signal

RELOAD_GRACE = 0.5  # seconds for jobs that were asked to end; what does not is released within another second

_SETTINGS = (("config", "should_reload"), ("cfg", "reload"))  # of uvicorn, of gunicorn
_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")  # gunicorn has the last one alone where uvicorn's class of worker runs


class Server:
    """The objects that handle this process's signals now; none where no server does."""

    def __init__(self) -> None:
        handlers = [signal.getsignal(getattr(signal, name)) for name in _SIGNALS if hasattr(signal, name)]
        self._handling = [getattr(handler, "__self__", None) for handler in handlers]

    @property
    def reloads(self) -> bool:
        """Whether it starts this process anew when code changes."""
        return any(
            getattr(getattr(server, settings, None), option, None) is True
            for server in self._handling
            for settings, option in _SETTINGS
        )

    @property
    def is_stopping(self) -> bool:
        """Whether uvicorn was told to stop: it waits for open streams before it tells the application."""
        return any(getattr(server, "should_exit", None) is True for server in self._handling)

    @property
    def is_forced(self) -> bool:
        """Whether a second Ctrl-C has told uvicorn not to end its application in good order, but to cancel it."""
        return any(getattr(server, "force_exit", None) is True for server in self._handling)
