"""Whether gevent or eventlet has put greenlets in the place of this process's threads. Imports neither."""

from __future__ import annotations

import sys


def instead_of_threads() -> str:
    """Return the name of the library that has done so; empty where threads are threads."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return ""
