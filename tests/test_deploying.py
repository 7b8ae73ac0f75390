"""The page on deploying: its units, files and commands are valid, and leave a worker the time it needs."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from litequeue.cli import main
from litequeue.core.duration import seconds

PAGE = (Path(__file__).parents[1] / "docs" / "deploying.md").read_text(encoding="utf-8")
UNIT = re.search(r"```ini\n(.*?)```", PAGE, re.DOTALL)[1]
LISTS = [json.loads(found) for found in re.findall(r'\["[^\]]*\]', PAGE)]
LINES = [shlex.split(line) for line in re.findall(r"^litequeue .*$", PAGE, re.MULTILINE)]
COMMANDS = [words[words.index("litequeue") :] for words in [*LISTS, *LINES] if "litequeue" in words]


def service():
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(UNIT)
    return parser["Service"]


def parsed(words):
    """Parse a command as the command line does, and return the options of its innermost command."""
    context = click.Context(main)
    name, command, rest = main.resolve_command(context, words[1:])
    return command.make_context(name, rest, parent=context).params


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_command_of_the_page_is_a_valid_one(words):
    try:
        parsed(words)
    except click.UsageError as error:
        pytest.fail(f"{' '.join(words)}: {error}")


def test_the_page_has_commands_of_each_kind():
    assert {words[1] for words in COMMANDS} == {"run", "status"}
    assert len(COMMANDS) >= 8


def test_the_unit_of_systemd_leaves_the_worker_its_grace():
    unit = service()
    words = unit["ExecStart"].split()
    grace = seconds(words[words.index("--grace") + 1], "grace")
    assert seconds(unit["TimeoutStopSec"] + "s", "TimeoutStopSec") >= grace + 30
    assert (unit["Type"], unit["KillMode"], unit["SuccessExitStatus"]) == ("notify", "mixed", "75")
    parsed(["litequeue", *words[1:]])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_accepts_the_unit(tmp_path):
    text = re.sub(r"ExecStart=\S+", f"ExecStart={shutil.which('true')}", UNIT).replace("User=shop\n", "")
    unit = tmp_path / "shop-worker.service"
    unit.write_text(text.replace("/srv/shop", str(tmp_path)))
    done = subprocess.run(["systemd-analyze", "verify", unit], check=False, capture_output=True, text=True, timeout=60)
    assert [line for line in done.stderr.splitlines() if "shop-worker" in line] == []


@pytest.mark.parametrize("longest", [r"stop_grace_period: (\w+)", r"terminationGracePeriodSeconds: (\d+)"])
def test_a_container_is_given_longer_than_the_grace(longest):
    found = re.search(longest, PAGE)[1]
    assert seconds(found if found.endswith("s") else f"{found}s", "grace") >= 30 + 30
