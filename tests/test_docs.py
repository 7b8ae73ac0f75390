"""The documentation names all there is, its programs run and print what they say, and its links lead somewhere.

How programs are found: the python blocks below one heading, of whatever level, up to the next heading, are one program;
a block whose line before is `<!-- no-run -->` is left out. It runs by itself as `app.py`, alone in a folder, with
warnings as errors, and must exit with 0. Where a line `print(...)` ends in a comment, that is what it prints, in order.
"""

import ast
import inspect
import io
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Protocol

import pytest

import litequeue
from litequeue.core.engine import Engine, Feature, JobStore
from litequeue.options import Using
from litequeue.scheduling.cron import cron
from litequeue.scheduling.intervals import every
from litequeue.scheduling.triggers import at, first_of
from litequeue.worker_options import WorkerOptions

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
LIBRARIES = ("fastapi", "sqlalchemy", "django", "peewee")  # which a program may need
NAMES = ("guide", "composition", "databases", "fastapi", "limits", "logs", "processes", "triggers")
WITH_PROGRAMS = [ROOT / "README.md", *(DOCS / f"{name}.md" for name in NAMES)]

BLOCK = re.compile(r"(<!-- no-run -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text_of(page):
    return page.read_text(encoding="utf-8")


def sections(text):
    """Return (heading, text) pairs; a line of a code block is no heading."""
    masked = BLOCK.sub(lambda block: "\0" * len(block[0]), text)
    heads = list(HEADING.finditer(masked))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [(head[1], text[head.end() : end]) for head, end in zip(heads, ends, strict=True)]


def programs(page):
    for heading, text in sections(text_of(page)):
        blocks = [code for skipped, language, code in BLOCK.findall(text) if language == "python" and not skipped]
        if blocks:
            program = "\n".join(blocks)
            marks = [pytest.mark.slow] if needed(program) else []  # importing them takes longest
            yield pytest.param(program, id=f"{page.stem}: {heading}", marks=marks)


def needed(program):
    """Return the libraries that a program imports, of those that tests alone install."""
    return [name for name in LIBRARIES if re.search(rf"^(import|from) {name}\b", program, re.MULTILINE)]


def promised(program):
    """Return the comments of the lines on which a print() ends: what they print."""
    ends = {
        node.end_lineno
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    comments = tokenize.generate_tokens(io.StringIO(program).readline)
    return [
        token.string.removeprefix("#").strip()
        for token in comments
        if token.type == tokenize.COMMENT and token.start[0] in ends
    ]


def in_order(wanted, lines):
    """Return the first wanted line that does not come after those before it, or None."""
    rest = iter(lines)
    return next((line for line in wanted if line not in rest), None)


@pytest.mark.parametrize("program", [program for page in WITH_PROGRAMS for program in programs(page)])
def test_a_program_of_the_documentation_runs_and_prints_what_it_says(program, tmp_path):
    for name in needed(program):
        pytest.importorskip(name)
    warnings = [] if needed(program) else ["-W", "error"]  # theirs are not ours
    (tmp_path / "app.py").write_text(program, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name != "LITEQUEUE_PATH"}
    ran = subprocess.run(
        [sys.executable, *warnings, "app.py"],
        cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    missing = in_order(promised(program), ran.stdout.splitlines())
    assert missing is None, f"{missing!r} was not printed in its place; printed were:\n{ran.stdout}"


VARIES = re.compile(r"\d[\d.]*(ms|s)?\b|less than|up to|(?<=File \").*/")  # times, sizes and folders


def shown_by(page):
    """Return each command of a page that stands behind a `$`, with the lines that it is said to print."""
    for _, language, text in BLOCK.findall(text_of(page)):
        if not language and text.startswith("$ "):
            for part in text.removeprefix("$ ").split("\n$ "):
                command, *lines = part.splitlines()
                yield command, [line for line in lines if line not in ("", "...")]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_page_of_child_processes_shows_what_its_program_and_the_commands_print(tmp_path):
    page = DOCS / "processes.md"
    (tmp_path / "app.py").write_text(next(programs(page)).values[0], encoding="utf-8")
    folder = Path(sys.executable).parent
    commands = list(shown_by(page))
    assert [command.split()[0] for command, _ in commands] == ["python", "litequeue", "litequeue"]
    for command, lines in commands:
        program, *words = command.split()
        start = [sys.executable] if program == "python" else [folder / program]
        ran = subprocess.run([*start, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        printed = [VARIES.sub("~", line) for line in ran.stdout.splitlines()]
        assert in_order([VARIES.sub("~", line) for line in lines], printed) is None, ran.stdout


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self" and not name.startswith("_")]


def public_names():
    yield from litequeue.__all__
    for function in (
        litequeue.Queue, litequeue.Queue.task, litequeue.Queue.jobs, litequeue.Worker.run,
        litequeue.Worker.stop, litequeue.Schedules.add, litequeue.Job.result, litequeue.Run.progress, cron, every, at,
        first_of, litequeue.Retry, litequeue.Snooze, litequeue.GiveUp,
    ):  # fmt: skip
        yield from parameters(function)
    yield from Using.__annotations__
    yield from WorkerOptions.__annotations__
    for kind in (litequeue.Task, litequeue.Job, litequeue.Schedules, litequeue.Schedule, litequeue.Worker):
        yield from (name for name in vars(kind) if not name.startswith("_"))
    yield from litequeue.Status


@pytest.mark.parametrize("name", sorted(set(public_names())))
def test_the_reference_has_every_public_name_and_option(name):
    code = re.findall(r"`([^`]*)`|^```\w*\n(.*?)^```$", text_of(DOCS / "reference.md"), re.MULTILINE | re.DOTALL)
    assert any(re.search(rf"\b{re.escape(name)}\b", "".join(both)) for both in code)


def commands():
    from litequeue.cli import main

    for name, command in main.commands.items():
        yield pytest.param(f"litequeue {name}", id=name)
        for option in command.params:
            if not getattr(option, "hidden", False):
                yield from (pytest.param(word, id=f"{name} {word}") for word in option.opts if word.startswith("--"))


@pytest.mark.parametrize("words", list(commands()))
def test_the_page_of_the_command_line_has_every_command_and_option(words):
    assert re.search(rf"(?<![\w-]){re.escape(words)}(?![\w-])", text_of(DOCS / "cli.md"))


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading, _ in sections(text_of(page))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_the_documentation_leads_somewhere(page):
    text = BLOCK.sub("", text_of(page))
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("program", ["job", "compositions"])
def test_each_picture_is_as_its_program_draws_it(program, tmp_path):
    """The program writes beside itself; a copy of it leaves ours alone."""
    pictures = DOCS / "design"
    copy = tmp_path / f"{program}.py"
    copy.write_text(text_of(pictures / copy.name), encoding="utf-8")
    subprocess.run([sys.executable, copy], check=True, timeout=60)
    drawn = {path.name: text_of(path) for path in tmp_path.glob("*.svg")}
    assert drawn
    assert {name: text_of(pictures / name) for name in drawn} == drawn


CELLS = {  # the pages with a table of which each cell leads to a test: its heading, how many columns and rows
    "reliability.md": ("What each kind of end does to a job", 4, 9),
    "design/composition_pairs.md": ("The pairs", 3, 11),
}


@pytest.mark.parametrize("page", CELLS)
def test_each_cell_of_a_table_of_tests_names_one_that_there_is(page):
    heading, columns, fewest = CELLS[page]
    section = dict(sections(text_of(DOCS / page)))[heading]
    rows = [line.strip("| ").split(" | ")[1:] for line in section.splitlines() if line.startswith("| ")][1:]
    defined = re.findall(r'^\[(\w+)\]: (\S+) "(\w+)"$', section, re.MULTILINE)
    assert len(rows) >= fewest
    assert {len(row) for row in rows} == {columns}
    assert all(cell == "does not occur" or re.fullmatch(r"\[.+\]\[\w+\]", cell) for row in rows for cell in row)
    assert set(re.findall(r"\]\[(\w+)\]", section)) == {label for label, _, _ in defined}
    texts = {path: text_of((DOCS / page).parent / path) for _, path, _ in defined}
    assert [name for _, path, name in defined if f"\ndef {name}(" not in texts[path]] == []


@pytest.mark.parametrize("feature", Feature)
def test_the_page_of_engines_lists_every_feature(feature):
    assert f"| `{feature.name}` |" in text_of(DOCS / "engines.md")


@pytest.mark.parametrize("name", sorted({*dir(Engine), *dir(JobStore)} - {*dir(Protocol)}))
def test_the_page_of_engines_names_every_member_of_an_engine(name):
    assert name.startswith("_") or f"`{name}" in text_of(DOCS / "engines.md")


def test_every_page_is_in_the_index():
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in LINK.findall(text_of(DOCS / "index.md"))}
    assert [page.name for page in PAGES if page not in linked | {DOCS / "index.md", ROOT / "README.md"}] == []


def test_no_text_says_to_install_what_is_called_litequeue_on_pypi():
    """It is another project."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a repository")
    wrong = re.compile(r"pip install (-\S+ )*[\"']?" + "litequeue")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    texts = {file: file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()}
    assert [str(file) for file, text in texts.items() if wrong.search(text)] == []
