"""Where a task was declared, and whether a second declaration of its name is the same task again. Knows no queue.

A task is declared while some top-level code is executed: a module, a cell of a notebook, a line of a session. Python
compiles or loads that code again each time, so its code object and its namespace distinguish the executions.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

import msgspec

_OPTIMIZED = 0x1  # inspect.CO_OPTIMIZED: the body of a function, which no top-level code and no class has
DEEPEST = 50  # wrappers around one function; an object may invent a `__wrapped__` at each look
_VALUES = (str, bytes, int, float, complex, bool, type(None))
_OTHER_VALUES = "and now the same code with other values (in its closure, its defaults, or what it is bound to)"
_EMPTY = object()  # a variable that has no value yet


class Transparent:
    """What wraps one function, and adds nothing by which it would differ from another wrapper of that function."""

    __wrapped__: Callable[..., Any]


class Declaration(msgspec.Struct, frozen=True, eq=False):
    """A function, and the top-level code that was executed when it was declared; None: a thread had none."""

    function: Callable[..., Any]
    code: CodeType | None
    namespace: dict[str, Any]
    line: int

    @property
    def module(self) -> str:
        """The name of the module that declared it, which need not be the function's."""
        return str(self.namespace.get("__name__", ""))

    def is_amid(self, other: Declaration) -> bool:
        """Whether both were declared in one execution, as far as this can be known."""
        if self.code is None or other.code is None:
            return True
        return self.code is other.code and self.namespace is other.namespace


def declared_here(function: Callable[..., Any]) -> Declaration:
    """Return where this function is being declared."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  inspect.currentframe() is this, and slow to import
    found: FrameType | None = None
    while frame is not None:
        if found is not None and found.f_globals is not frame.f_globals:
            break  # such as the program that is Python's prompt, which has the namespace of its lines, too
        if _is_top_level(frame.f_code):
            found = frame  # the outermost one: a module may exec() text in its own namespace
        frame = frame.f_back
    if found is None:
        return Declaration(function, None, {}, 0)
    return Declaration(function, found.f_code, found.f_globals, found.f_lineno)


def _is_top_level(code: CodeType) -> bool:
    # a class's body is not optimized either, but has the name of the class
    return not code.co_flags & _OPTIMIZED and code.co_name.startswith("<")


def refuse_another(name: str, known: Sequence[Declaration], new: Declaration) -> None:
    """Raise `ValueError` if the task that was declared under this name is not certainly the same one."""
    for old in [one for one in known if one.module == new.module] or known:
        if not (_alike(old.function, new.function) or _is_anew(old, new)):
            places = _place(old.function), _place(new.function)
            another = f"and now another one, in {places[1]}" if places[0] != places[1] else _OTHER_VALUES
            raise ValueError(
                f"a task named {name!r} is already declared on this queue, in {places[0]}, {another}; "
                f"give one of the two another name: @task(name=...)"
            )


def remembered(known: Sequence[Declaration], new: Declaration) -> list[Declaration]:
    """Return the declarations to which later ones are compared: the newest of each module."""
    return [*(old for old in known if old.module != new.module), new]


def is_the_programs(known: Sequence[Declaration], new: Declaration) -> bool:
    """Whether the program itself has declared it, and this is its script imported back.

    The program's own declaration counts: the other lacks the effects of `if __name__ == "__main__":`.
    """
    if any(old.module == new.module for old in known):
        return False  # a reload, which may be an edit
    return any(old.module == "__main__" and _code(old.function) == _code(new.function) for old in known)


# ---- is it the same function, declared once more?


def _alike(old: Any, new: Any, *, anew: bool = False, seen: frozenset[tuple[int, int]] = frozenset()) -> bool:
    """Whether two functions, or values that they hold, do the same. `anew`: a redefined one counts as the same."""
    if old is new or (id(old), id(new)) in seen:
        return True
    if type(old) is not type(new):
        return False
    if isinstance(old, FunctionType) and old.__code__ is not new.__code__:
        return anew and _names(old) == _names(new)
    if isinstance(old, _Variable) and (old.is_sibling_of(new) or new.is_sibling_of(old)):
        return True
    ours, theirs = _parts(old), _parts(new)
    if ours is None or theirs is None:
        return isinstance(old, _VALUES) and bool(old == new)
    alike = functools.partial(_alike, anew=anew, seen=seen | {(id(old), id(new))})
    return len(ours) == len(theirs) and all(map(alike, ours, theirs))


def _parts(value: Any) -> Sequence[Any] | None:
    """Return the values by which functions of the same code differ, and values that may hold functions."""
    if isinstance(value, FunctionType):
        return _held(value)
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, (Transparent, staticmethod)):
        return (value.__wrapped__,)
    if isinstance(value, _Variable):
        return (value.value,)
    if isinstance(value, tuple):
        return value
    return [tuple(value), *value.values()] if isinstance(value, dict) else None


class _Variable(msgspec.Struct, frozen=True, eq=False):
    """A variable of the function around `owner`, which `owner` uses."""

    owner: FunctionType
    value: Any

    def is_sibling_of(self, other: _Variable) -> bool:
        """Whether this variable will hold its owner's own sibling, as the other does: a task that calls itself."""
        if self.value is not _EMPTY:
            return False
        scope = self.owner.__qualname__.rpartition(".")[0]
        return other.value is _EMPTY or str(getattr(other.value, "__qualname__", "")).rpartition(".")[0] == scope


def _held(function: FunctionType) -> list[Any]:
    variables: list[Any] = []
    for cell in function.__closure__ or ():
        try:
            variables.append(_Variable(function, cell.cell_contents))
        except ValueError:
            variables.append(_Variable(function, _EMPTY))
    wrapped = getattr(function, "__wrapped__", None)
    return [id(function.__globals__), function.__defaults__, function.__kwdefaults__, wrapped, *variables]


# ---- is it a reload, a script imported back, or a cell that was edited and run again?


def _is_anew(old: Declaration, new: Declaration) -> bool:
    """Whether the same function was defined again; its code and the values it holds may have been edited."""
    if _names_in(old) != _names_in(new):
        return False
    if old.is_amid(new):
        return _is_stale(old, new)
    if _same_cell(old, new):
        return False
    if old.namespace is new.namespace:  # a reload keeps it, and so do all cells and lines of a session
        return _same_file(old, new) or _is_redefined(_innermost(old.function), _innermost(new.function))
    if old.module == new.module:  # imported or run once more, after it was taken out of sys.modules
        return _same_file(old, new)
    # one file under two names, such as __main__ and app: the very same line of it
    return old.line == new.line and _same_file(old, new) and _is_certain(old, new)


def _same_cell(old: Declaration, new: Declaration) -> bool:
    """Whether both are in one cell of a notebook, whose statements are compiled one by one under the cell's name.

    An edited cell has another name; a cell that is run again declares the task on the same line.
    """
    if old.code is None or new.code is None or old.namespace is not new.namespace:
        return False
    cell = new.code.co_filename
    named = cell.startswith("<ipython-input-") or "ipykernel_" in cell
    return named and cell == old.code.co_filename and old.line != new.line


def _is_redefined(old: Any, new: Any) -> bool:
    """Whether the function, or the class of a method or an object, was defined again by another cell or line."""
    if isinstance(old, MethodType) and isinstance(new, MethodType) and _code(old) is not _code(new):
        return True
    if isinstance(old, (FunctionType, MethodType, functools.partial)):
        return _alike(old, new, anew=True)
    if isinstance(old, type):
        return isinstance(new, type) and (old is new or "<locals>" not in new.__qualname__)
    return old is new or type(old) is not type(new)


def _is_stale(old: Declaration, new: Declaration) -> bool:
    """Whether the function's module was reloaded, and the module that calls it to declare its tasks was not.

    Then the module now holds the new function's code, not the old one's.
    """
    functions = _innermost(old.function), _innermost(new.function)
    if not all(isinstance(function, FunctionType) for function in functions):
        return False
    namespace = functions[1].__globals__
    if namespace is new.namespace or namespace is not functions[0].__globals__:
        return False
    root = _innermost(namespace.get(functions[1].__qualname__.partition(".")[0]))
    codes = {id(code) for code in _codes(getattr(root, "__code__", None))}
    return id(functions[1].__code__) in codes and id(functions[0].__code__) not in codes


def _codes(code: Any) -> Iterator[CodeType]:
    if isinstance(code, CodeType):
        yield code
        for constant in code.co_consts:
            yield from _codes(constant)


def _same_file(old: Declaration, new: Declaration) -> bool:
    files = [str(getattr(one.code, "co_filename", "<")) for one in (old, new)]
    if files[0].startswith("<") or files[1].startswith("<"):
        return False  # no file: what was typed, or made by a program
    try:
        return files[0] == files[1] or Path(files[0]).samefile(files[1])
    except (OSError, ValueError):
        return False


def _is_certain(old: Declaration, new: Declaration) -> bool:
    """Whether one name means one file: a frozen program has no files, and may call several modules the same."""
    return "__main__" in {old.module, new.module} or (new.code is not None and Path(new.code.co_filename).is_file())


# ---- names


def _innermost(function: Any) -> Any:
    """Return the innermost function inside the wrappers."""
    for _ in range(DEEPEST):
        inside = getattr(function, "__wrapped__", None)
        if not callable(inside):
            return function
        function = inside
    return function


def _names(function: Any) -> tuple[str, str]:
    """Return the module and the qualified name of a function, or of an object's class."""
    inner = _innermost(function)
    while isinstance(inner, functools.partial):
        inner = _innermost(inner.func)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return str(getattr(named, "__module__", "")), str(named.__qualname__)


def _names_in(one: Declaration) -> tuple[str, str]:
    """Return the same, without the module where that is the one that declares it: it may have two names."""
    module, name = _names(one.function)
    return ("" if module == one.module else module), name


def _code(function: Any) -> CodeType | None:
    inner = _innermost(function)
    while isinstance(inner, (functools.partial, MethodType)):
        inner = _innermost(inner.func if isinstance(inner, functools.partial) else inner.__func__)
    if not isinstance(inner, FunctionType):  # an object that can be called
        inner = getattr(type(inner), "__call__", None)  # noqa: B004  the method, not whether there is one
    code = getattr(inner, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _place(function: Any) -> str:
    code = _code(function)
    return _names(function)[0] + (f" ({code.co_filename}:{code.co_firstlineno})" if code else "")
