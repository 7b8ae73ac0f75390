"""The descriptors of this process, for tests of what a worker does when other code closes them."""

import contextlib
import os
import socket
import stat

HIGHEST = 1024


def numbers():
    """Return the descriptors that are open."""
    return {number for number in range(HIGHEST) if _status(number) is not None}


def _status(number):
    with contextlib.suppress(OSError):
        return os.fstat(number)
    return None


def of_file(path):
    """Return the descriptors by which a file is open."""
    there = path.stat()
    found = {number: _status(number) for number in range(HIGHEST)}
    return [number for number, status in found.items() if status is not None and os.path.samestat(status, there)]


def sockets_of_listeners(directory):
    """Return the descriptors of the sockets by which workers of this process hear of work."""
    names = {entry.name for entry in directory.glob("work-*.sock")}
    return [number for number in numbers() if _name_of_socket(number) in names]


def _name_of_socket(number):
    status = _status(number)  # None: a thread has closed it by now
    if status is None or not stat.S_ISSOCK(status.st_mode):
        return None
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
        name = copy.getsockname()
        return os.path.basename(name) if isinstance(name, str) else None
    return None


def overwrite(descriptors):
    """Put others in their place, as code that closes descriptors which it does not own, and then opens some."""
    assert descriptors
    for number in descriptors:
        with open(os.devnull) as other:
            os.dup2(other.fileno(), number)
