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
    return [number for number in numbers() if os.path.samestat(os.fstat(number), there)]


def sockets_of_listeners(directory):
    """Return the descriptors of the sockets by which workers of this process hear of work."""
    names = {entry.name for entry in directory.glob("work-*.sock")}
    return [number for number in numbers() if _name_of_socket(number) in names]


def _name_of_socket(number):
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        return None
    with socket.socket(fileno=os.dup(number)) as copy:
        name = copy.getsockname()
    return os.path.basename(name) if isinstance(name, str) else None


def overwrite(descriptors):
    """Put others in their place, as code that closes descriptors which it does not own, and then opens some."""
    assert descriptors
    for number in descriptors:
        with open(os.devnull) as other:
            os.dup2(other.fileno(), number)
