"""What can be told of frozen programs without building one, which tests/test_frozen.py does."""

import ast
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from litequeue import Unsupported
from litequeue.children.command import FROZEN_CHILD, child_command
from litequeue.core.engine_choice import GROUP
from litequeue.integrations.pyinstaller import get_hook_dirs

HOOKS = Path(get_hook_dirs()[0])
HOOK = HOOKS / "rthooks" / "pyi_rth_litequeue.py"

# As PyInstaller runs the scripts of a program: one after another in `__main__`.
SCRIPTS = f"""
import sys
before = set(globals())
for name, code in [
    ("pyi_rth_litequeue.py", {HOOK.read_text()!r}),
    ("pyi_rth_other.py", "print('another hook')"),
    ("main.py", "print('the program', hasattr(sys, 'litequeue_hook'), sorted(set(globals()) - before))"),
]:
    exec(compile(code, name, "exec"))
"""


CAPTURED = {"capture_output": True, "text": True, "timeout": 60}


def run_scripts(tmp_path, *arguments, **options):
    program = tmp_path / "program.py"
    program.write_text(SCRIPTS)
    return subprocess.run([sys.executable, program, *arguments], check=False, **CAPTURED, **options)


def apart() -> None: ...


@pytest.fixture
def frozen(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)


def test_pyinstaller_finds_the_hooks_by_itself():
    (point,) = [each for each in entry_points(group="pyinstaller40") if each.module.startswith("litequeue.")]
    assert point.name == "hook-dirs"
    assert point.load()() == [str(HOOKS)]
    assert f'collect_entry_point("{GROUP}")' in (HOOKS / "hook-litequeue.py").read_text()
    assert ast.literal_eval((HOOKS / "rthooks.dat").read_text()) == {"litequeue": [HOOK.name]}


def test_a_frozen_program_begins_after_all_hooks_and_meets_no_name_of_ours(tmp_path):
    ran = run_scripts(tmp_path)
    assert ran.stdout == "another hook\nthe program True ['before', 'code', 'name']\n", ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a descriptor is passed on by its number")
def test_a_child_begins_after_all_hooks_in_the_place_of_the_program(tmp_path):
    ours, theirs = os.pipe()
    os.close(theirs)  # so the child ends as when its worker is gone
    ran = run_scripts(tmp_path, FROZEN_CHILD, str(ours), pass_fds=[ours])
    os.close(ours)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "another hook\n", "")


def test_what_keeps_a_child_from_being_one_does_not_start_the_program(tmp_path):
    ran = run_scripts(tmp_path, FROZEN_CHILD, "899")  # a descriptor that is not open
    assert (ran.returncode, ran.stdout) == (1, "another hook\n")
    assert "OSError" in ran.stderr


@pytest.mark.usefixtures("frozen")
def test_a_frozen_program_without_the_hook_starts_no_child(queue):
    queue.task(process=True)(apart)
    with pytest.raises(Unsupported, match=r"'apart' has process=True, and no .* frozen, without .*docs/frozen\.md"):
        queue.worker(children=1).run(until_idle=True)
    queue.worker(children=0).run(until_idle=True)


@pytest.mark.usefixtures("frozen")
def test_a_frozen_program_with_the_hook_starts_itself_as_a_child(queue, monkeypatch):
    monkeypatch.setattr(sys, "litequeue_hook", True, raising=False)
    queue.task(process=True)(apart)
    queue.worker(children=1).run(until_idle=True)
    assert child_command(5) == [sys.executable, "--litequeue-child", "5"]


def test_python_that_is_embedded_starts_no_child(queue, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    queue.task(process=True)(apart)
    with pytest.raises(Unsupported, match=r"embedded here.*give this worker children=0"):
        queue.worker(children=1).run(until_idle=True)
