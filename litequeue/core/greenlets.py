"""Whether gevent or eventlet has replaced this process's threads by greenlets. Imports neither."""

from __future__ import annotations

import sys

from litequeue.errors import Unsupported


def instead_of_threads() -> str:
    """Return the name of the library that has replaced threads; empty if none has."""
    if _patched_by_gevent("threading"):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    return "eventlet" if eventlet is not None and eventlet.is_monkey_patched("thread") else ""


def check_worker(*, coroutines: bool) -> None:
    """Raise `Unsupported` if a worker would block for ever; `coroutines`: it has coroutine tasks.

    All greenlets share one thread, which asyncio allows one event loop.
    """
    if _patched_by_gevent("threading") != _patched_by_gevent("select"):
        raise Unsupported(
            "gevent has replaced the threads of this process or its select module, not both, so a worker would block "
            "for ever; call gevent.monkey.patch_all() without thread=False or select=False"
        )
    library = instead_of_threads()
    if library and coroutines:
        raise Unsupported(
            f"{library} has replaced the threads of this process, and coroutine tasks need a real one for their event "
            "loop; run them in another process, with `litequeue run`"
        )


def _patched_by_gevent(module: str) -> bool:
    gevent = sys.modules.get("gevent.monkey")
    return gevent is not None and bool(gevent.is_module_patched(module))
