"""Pickle what stands in a module by its name there, as Python does with functions. Knows no queue and no task."""

from __future__ import annotations

import importlib
import operator
import sys
from collections.abc import Iterable, Iterator


def by_name(wanted: object, modules: Iterable[str], name: str, what: str, instead: str) -> tuple[object, ...]:
    """Return what `__reduce__` returns for an object that stands in a module: in one of these, or in another one.

    `name`: the one to try first. Raises `TypeError` for an object that stands in none; it says what to pass instead.
    """
    for module, found in _names(wanted, [*modules, *sys.modules], name):
        return _imported, (module, found)
    raise TypeError(
        f"{what} cannot be pickled: another process finds it by a name in a module, and it has none; "
        f"assign it at the top level of a module, or {instead}"
    )


def _names(wanted: object, modules: Iterable[str], name: str) -> Iterator[tuple[str, str]]:
    for module in dict.fromkeys(modules):
        held = vars(sys.modules[module]) if isinstance(sys.modules.get(module), type(sys)) else {}
        if name.partition(".")[0] in held and _attribute(sys.modules[module], name) is wanted:
            yield module, name
        yield from ((module, each) for each, value in list(held.items()) if value is wanted)


def _attribute(module: object, name: str) -> object:
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        return None


def _imported(module: str, name: str) -> object:
    """Return the object of that name; pickles made in other processes call this."""
    return operator.attrgetter(name)(importlib.import_module(module))
