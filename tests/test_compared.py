"""The page that compares litequeue with others names what there is, and tests that there are."""

import ast
import inspect
import os
import re
from functools import cache
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

import litequeue
from litequeue import Job, Limit, Limits, Queue, Run, Schedule, Schedules, Status, StoredLimit, StoredSchedule, Task
from litequeue.core.duration import seconds
from litequeue.core.plain_calls import VARIABLE
from litequeue.options import TaskOptions, Using, task_options
from litequeue.scheduling.schedules import ScheduleOptions
from litequeue.worker_options import WorkerOptions, run_options

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compared.md"

CODE = re.compile(r"`([^`]+)`")
TEST = re.compile(r'\[\d+\]\(\.\./tests/([^\s)]+?)(?: "(\w+)")?\)')
TARGET = re.compile(r"\]\(([^\s)]+)\)")

CELLS = re.compile(r"(?<!\\)\|")
WITHOUT_A_NAME = ("*not here*", "*planned*")

# What a name on the page stands for, what a call of that name gives, and what a property of that name is.
TASKS = ("task", "f", "a", "b", "cb")
STANDS_FOR = {"queue": Queue, "job": Job, "worker": litequeue.Worker} | dict.fromkeys(TASKS, Task)
GIVES = {"worker": litequeue.Worker, "using": Task, "limit": Limit, "current_job": Run}
IS = {"limits": Limits, "schedules": Schedules}
ITEM_OF = {Limits: StoredLimit, Schedules: StoredSchedule}
OPTIONS = {"task": TaskOptions, "using": Using, "worker": WorkerOptions}
STORED_WORDS = ("WorkerDied", "ChildDied", "Interrupted")  # types of errors that no class has
# Public files that `litequeue` itself does not import.
ELSEWHERE = ("integrations/fastapi.py", "integrations/starlette.py", "serialization/encryption.py")


def cells(line):
    return [cell.strip().replace("\\|", "|") for cell in CELLS.split(line.strip()[1:-1])]


@cache
def tables():
    """Return the tables of the page, each with its head and its rows."""
    found = re.findall(r"(?:^\|.*\n)+", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) > 10
    return [(cells(lines[0]), [cells(line) for line in lines[2:]]) for lines in map(str.splitlines, found)]


def rows():
    """Return (capability, what litequeue has, tests) of each row of the tables of capabilities."""
    return [row[:3] for head, body in tables() if head[1:3] == ["litequeue", "tests"] for row in body]


def ours():
    """Return each cell that tells of litequeue; in one table it has a row."""
    of_a_row = [cell for _, body in tables() for row in body if "litequeue" in row[0] for cell in row]
    return [answer for _, answer, _ in rows()] + of_a_row


def test_each_row_has_a_cell_for_every_column_and_each_capability_one_row():
    for head, body in tables():
        assert {len(row) for row in body} == {len(head)}
        assert all(cell for row in [head, *body] for cell in row)
        assert len({row[0] for row in body}) == len(body)
    assert len(rows()) > 150


def test_each_row_that_is_answered_with_a_name_leads_to_its_tests():
    assert [what for what, answer, tests in rows() if tests == "-" and not answer.startswith(WITHOUT_A_NAME)] == []
    assert [tests for _, _, tests in rows() if tests != "-" and TEST.sub("", tests).strip(", ")] == []


def test_each_test_that_the_page_names_is_there():
    named = set(TEST.findall(PAGE.read_text(encoding="utf-8")))
    assert [f"{path}::{name}" for path, name in sorted(named) if not is_there(ROOT / "tests" / path, name)] == []


def is_there(file, name):
    return file.is_file() and (not name or f"def {name}(" in file.read_text(encoding="utf-8"))


def test_each_page_to_which_an_answer_leads_is_there():
    from test_docs import anchors

    wrong = []
    for link in {link for cell in ours() for link in TARGET.findall(cell)}:
        path, _, anchor = link.partition("#")
        page = PAGE.parent / path if path else PAGE
        if not page.is_file() or (anchor and anchor not in anchors(page)):
            wrong.append(link)
    assert wrong == []


# ---- the names


@cache
def known_options():
    """Return every option, with the words that it takes."""
    found = {}
    for function in (Queue, Schedule, Task.enqueue_many, litequeue.every, litequeue.cron):
        found |= dict.fromkeys(inspect.signature(function).parameters, frozenset())
    for kind in (*OPTIONS.values(), ScheduleOptions):
        found |= {name: frozenset(words_of(hint)) for name, hint in get_type_hints(kind).items()}
    return found


def words_of(hint):
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for part in get_args(hint):
            yield from words_of(part)


@cache
def command_words():
    """Return the options of each command."""
    from litequeue.cli import main

    return {name: {word for one in command.params for word in one.opts} for name, command in main.commands.items()}


@cache
def defined_elsewhere():
    """Return the public functions and classes of these files, with the names of their parameters."""
    found = {}
    for path in ELSEWHERE:
        for node in ast.parse((ROOT / "litequeue" / path).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = {one.arg for one in (*node.args.args, *node.args.kwonlyargs)}
            elif isinstance(node, ast.ClassDef):
                found[node.name] = set()
    return found


@cache
def plain_words():
    """Return single words that name something: a status, a command, an attribute, a view of the file."""
    schema = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "litequeue").rglob("schema/*.sql"))
    kinds = (Queue, Task, Job, Run, Schedules)  # which answer words of other queues with an error
    attributes = {name for kind in kinds for name in dir(kind) if not name.startswith("_") and hasattr(kind, name)}
    views = set(re.findall(r"CREATE VIEW (\w+)", schema))
    return {*Status, *command_words(), *attributes, *views, *STORED_WORDS, VARIABLE, "LITEQUEUE_PATH", "litequeue"}


def check_command(code):
    name, *words = code.removeprefix("litequeue ").split() if code.startswith("litequeue ") else ("", *code.split())
    has = command_words()[name] if name else set().union(*command_words().values())
    assert {word for word in words if word.startswith("-")} <= has


def check_option(name, value):
    words = known_options()[name]
    if words and value.startswith('"'):
        check_word(value, words)


def check_word(value, words):
    """Check that a text is one of these words; else it must be a duration."""
    text = ast.literal_eval(value)
    if text not in words:
        seconds(text, "a duration")


def called(node, function, name):
    """Check that a call binds."""
    keywords = {one.arg: None for one in node.keywords}
    if name in OPTIONS:
        assert set(keywords) <= set(OPTIONS[name].__annotations__)
    elif isinstance(function, set):
        assert set(keywords) <= function
    else:
        method = isinstance(node.func, ast.Attribute) and inspect.isfunction(function)
        inspect.signature(function).bind_partial(*[None] * (len(node.args) + method), **keywords)
    for given in (*node.args, *(one.value for one in node.keywords)):
        if isinstance(given, (ast.Call, ast.Attribute, ast.BinOp)):
            resolved(given)


def resolved(node):
    """Return what an expression stands for, as far as its attributes can be looked up; raise if a name is none."""
    match node:
        case ast.Name(name):
            public = {name: getattr(litequeue, name) for name in litequeue.__all__}
            known = defined_elsewhere() | public | STANDS_FOR
            assert name in known or name in plain_words()
            return known.get(name)
        case ast.Attribute(value, name):
            owner = resolved(value)
            assert hasattr(owner, name)
            return IS.get(name) or getattr(owner, name)
        case ast.Call(function):
            name = function.attr if isinstance(function, ast.Attribute) else function.id
            if not (isinstance(function, ast.Name) and STANDS_FOR.get(name) is Task and name != "task"):
                called(node, resolved(function), name)  # not a plain call of a task
            return GIVES.get(name)
        case ast.Subscript(value):
            return ITEM_OF[resolved(value)]
        case ast.BinOp(left, _, right):
            resolved(left), resolved(right)
            return None
    raise AssertionError("no name")


def check(code):
    """Raise unless a piece of code of the page names what there is."""
    bare = re.sub(r"^(async with|with|await|raise) ", "", code).rstrip(":").removeprefix("@")
    if code.startswith(("litequeue ", "--")):
        check_command(code)
    elif code.startswith("manage.py "):
        command = ROOT / "litequeue/integrations/django/management/commands" / f"{code.split()[1]}.py"
        assert command.is_file()
    elif option := re.fullmatch(r"(\w+)=(.*)", code):
        check_option(*option.groups())
    elif code.startswith('"'):
        check_word(code, frozenset().union(*known_options().values()))
    else:
        resolved(ast.parse(f"task{bare}" if bare.startswith(".") else bare, mode="eval").body)


def test_each_name_that_the_page_gives_litequeue_is_there():
    wrong = []
    for code in sorted({code for cell in ours() for span in CODE.findall(cell) for code in span.split("`, `")}):
        try:
            check(code)
        except Exception as error:
            wrong.append(f"{code}: {type(error).__name__} {error}".splitlines()[0])
    assert wrong == []


@pytest.mark.parametrize(
    "code",
    [
        "colour=", 'overlap="never"', '"sometimes"', "queue.task(tries=3)", "f.using(colour=1).enqueue(2)",
        "queue.tsk", "queue.pause(name='a')", "queue.limits['a'].drop()", "job.result(1, 2)", "task.delay(1)", "delay",
        "Kueue", "raise Again", "worker_lifespan(queue, two=True)",
        "litequeue watch", "litequeue run --slots", "--slots",
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_found(code):
    with pytest.raises(Exception):  # noqa: B017, PT011
        check(code)


# ---- what the page says of the package as a whole


def test_the_defaults_are_those_of_the_page():
    worker, task, queue = run_options({}), task_options({}), inspect.signature(Queue).parameters
    assert (worker.threads, worker.coroutines, worker.grace) == (min(8, (os.cpu_count() or 1) + 4), 100, 30)
    assert (task.policy.retries, task.priority, task.max_pending) == (0, 0, None)
    assert {name: queue[name].default for name in ("timeout", "result_ttl", "failed_ttl", "max_payload")} == {
        "timeout": "10m", "result_ttl": "1d", "failed_ttl": "30d", "max_payload": 4 * 1024 * 1024,
    }  # fmt: skip


def test_a_task_has_the_types_of_its_function():
    enqueue = inspect.signature(Task.enqueue)
    assert [enqueue.parameters[name].annotation for name in ("args", "kwargs")] == ["P.args", "P.kwargs"]
    assert enqueue.return_annotation == "Job[R]"
    assert (ROOT / "litequeue" / "py.typed").is_file()
