"""The modules that a name or a pattern such as `shop.*` stands for. Imports packages, to look into them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase

Importer = Callable[[str], object]

_WILD = re.compile(r"[*?\[]")
_NAME = re.compile(r"\w[\w*?\[\]!-]*|\*+|[*?\[][\w*?\[\]!-]*")


def checked_patterns(imports: Iterable[str]) -> tuple[str, ...]:
    """Check names of modules and patterns of them."""
    if isinstance(imports, str):
        raise TypeError(f"imports must be a list of modules, got one string; write [{imports!r}]")
    patterns = tuple(imports)
    for pattern in patterns:
        if not isinstance(pattern, str) or not all(_NAME.fullmatch(part) for part in pattern.split(".")):
            raise ValueError(f"imports must name modules, such as 'shop.tasks' or 'shop.*', got {pattern!r}")
        if _WILD.search(pattern.split(".")[0]):
            raise ValueError(f"imports={pattern!r} must begin with the name of a package, as 'shop.*' does")
    return patterns


def matching(pattern: str, importer: Importer = importlib.import_module) -> list[str]:
    """Return the names of the modules: `*` stands for any one part, `**` for any number of them.

    `importer` imports the packages on the way. Modules named `__main__` are programs, and left out. A name without `*`
    is returned as it is. Raises `ImportError` if a pattern matches nothing.
    """
    if not _WILD.search(pattern):
        return [pattern]
    first, *rest = pattern.split(".")
    found = sorted(set(_below(first, rest, importer)))
    if not found:
        raise ImportError(f"no module matches {pattern!r}; name modules, or a package with modules in it")
    return found


def import_matching(patterns: Iterable[str], importer: Importer = importlib.import_module) -> None:
    """Import the modules of these names and patterns. Raises what they raise."""
    for pattern in patterns:
        for module in matching(pattern, importer):
            importer(module)


def _below(package: str, parts: list[str], importer: Importer) -> Iterator[str]:
    if not parts:
        yield package
        return
    if not _WILD.search(parts[0]):
        if parts[0] in _inside(package, importer):  # not each package has a module of that name
            yield from _below(f"{package}.{parts[0]}", parts[1:], importer)
        return
    for name in _inside(package, importer):
        inner = f"{package}.{name}"
        if parts[0] == "**":
            yield from _below(inner, parts, importer)
            yield from _below(inner, parts[1:], importer)
        elif fnmatchcase(name, parts[0]):
            yield from _below(inner, parts[1:], importer)


def _inside(package: str, importer: Importer) -> list[str]:
    path = getattr(importer(package), "__path__", ())
    return [found.name for found in pkgutil.iter_modules(path) if found.name != "__main__"]
