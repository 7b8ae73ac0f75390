"""Where PyInstaller finds what a program that uses litequeue needs once it is frozen. Knows no PyInstaller.

PyInstaller asks every package that is installed beside it, by the entry point `hook-dirs` of the group `pyinstaller40`.
"""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Return the folders with `hook-*.py` and `rthooks.dat`."""
    return [str(Path(__file__).parent)]
