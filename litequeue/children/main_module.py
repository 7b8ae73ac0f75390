"""The program's own file, `__main__`, in a child: run again under another name, as multiprocessing does.

What stands under `if __name__ == "__main__":` does not run there. Without such a guard the program would do in each
child what it does when it is started, so it is refused.
"""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType


def is_guarded(file: str) -> bool:
    """Whether the file has an `if __name__ == ...` at its top level."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.If) and "__name__" in _names(node.test) for node in tree.body)


def _names(test: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}


def preparation() -> dict[str, str]:
    """Return what a child needs to run this program's file again."""
    from multiprocessing import spawn

    known = spawn.get_preparation_data("litequeue")
    return {name: str(known[name]) for name in ("init_main_from_name", "init_main_from_path") if name in known}


def run_again(prepared: Mapping[str, str]) -> None:
    """Run the program's file as `__mp_main__`, and have it stand as `__main__`, too. Raises what it raises."""
    from multiprocessing import spawn

    name = prepared.get("init_main_from_name", "")
    if name.endswith(".__main__"):  # `python -m package`, which multiprocessing leaves out
        module = ModuleType("__mp_main__")
        vars(module).update(runpy.run_module(name, run_name="__mp_main__", alter_sys=True))
        sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    else:
        spawn.prepare(dict(prepared))


def main_file() -> str | None:
    """Return the program's file; None in a notebook, in a session, for `python -c`, and for a program from a pipe."""
    file: str | None = getattr(sys.modules.get("__main__"), "__file__", None)
    return None if file is None or file.startswith("<") else file
