"""Every listing and every change by command, in this process: what is in a file crashes none of them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from click.testing import CliRunner, Result

from litequeue.cli import main

if TYPE_CHECKING:
    from pathlib import Path

LOOKS = ("status", "jobs", "schedules", "doctor")


def look_by_command(path: Path, driver: str, *, refused: bool = False) -> None:
    """Every listing says what there is, or in one line why it cannot."""
    for command in LOOKS:
        for form in ([], ["--json"]):
            text = listed(
                [command, str(path), "--driver", driver, *form], (0, 1) if refused or command == "doctor" else (0,)
            )
            if command == "jobs" and not form and not refused:
                shown = text
    if not refused:
        ids = [line.split()[0] for line in shown.splitlines()[1:] if line.split()[0].isdecimal()]
        for number in ids[:4]:
            for form in ([], ["--json"]):
                listed(["show", str(path), number, "--driver", driver, *form])
            listed(["stream", str(path), number, "--driver", driver])
            listed(["logs", str(path), number, "--driver", driver], (0, 1))


def act_by_command(path: Path, driver: str) -> None:
    """Every change is made, or refused in one line; on a copy, so that what follows sees the rows."""
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    names = [row["name"] for row in json.loads(listed(["schedules", str(path), "--driver", driver, "--json"]))]
    acts = [
        ["schedules", str(copy), act, "--", name] for name in names for act in ("pause", "resume", "trigger", "remove")
    ]
    acts += [["retry", str(copy), "--all"], ["cancel", str(copy), "--all"], ["prune", str(copy)]]
    acts += [["backup", str(copy), str(path.with_suffix(".backup"))], ["doctor", str(copy), "--repair"]]
    for act in acts:
        if not any("\0" in word for word in act):
            listed([act[0], "--driver", driver, *act[1:]], (0, 1))
    for left in path.parent.glob(f"{path.stem}.copy*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    path.with_suffix(".backup").unlink(missing_ok=True)


def invoke(words: list[str], codes: tuple[int, ...] = (0, 1, 2, 75)) -> Result:
    """Run a command in this process; it exits by one of these codes, and raises nothing."""
    result = CliRunner().invoke(main, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"litequeue {words!r:.500} raised") from result.exception
    assert result.exit_code in codes, f"litequeue {words!r:.500} exits by {result.exit_code}: {result.output:.500}"
    return result


def listed(words: list[str], codes: tuple[int, ...] = (0,)) -> str:
    """The same of what is in a file; JSON is JSON, and a terminal is told nothing but text."""
    result = invoke(words, codes)
    bad = {sign for sign in result.output if (sign < " " and sign != "\n") or "\x7f" <= sign < "\xa0"}
    assert not bad, f"litequeue {words!r:.500} sends a terminal {bad!r}"
    if "--json" in words and result.exit_code == 0:
        json.loads(result.stdout)
    return result.stdout
