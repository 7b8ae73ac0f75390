"""The shape of `litequeue/`, held by tests. FLOORS is also the reader's map: read it from the ground up."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import alike
from thorough import THOROUGH

PACKAGE = Path(__file__).parent.parent / "litequeue"

# Bottom to top: a folder (a room), or a file that stands beside the folders. A module imports from its own room and
# from what is listed before it, also where only a type is meant.
FLOORS = [
    "errors",
    "core",
    "serialization",
    "scheduling",
    "ipc",
    "limits",
    "options",
    "call_fields",
    "worker_options",
    "stream",
    "job",
    "task_owner",
    "room",
    "pending_job",
    "job_waits",
    "calls",
    "compose",
    "task",
    "by_name",
    "decorator",
    "lock",
    "sqlite",
    "queue",
    "children",
    "worker.executor",
    "worker",
    "__init__",
    "integrations",
    "testing",
    "cli",
    "__main__",
]

# (importer, imported): imports that go up, allowed inside a function only.
UPWARD = {
    ("sqlite", "worker"),  # the engine on SQLite runs its jobs by a Worker
    ("integrations", "cli"),  # `manage.py litequeue_worker` is `litequeue run`
}

DRIVERS = {"sqlite3", "apsw", "aiosqlite"}
SQL = re.compile(r"\b(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|BEGIN IMMEDIATE|PRAGMA)\b")

CLOCKS = {
    *(f"time.{name}{unit}" for name in ("time", "monotonic", "perf_counter", "clock_gettime") for unit in ("", "_ns")),
    *(f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")),
    "datetime.date.today",
}

ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb"}
READS_ENVIRONMENT = {
    "cli",
    "queue",
    "scheduling.timezones",
}  # options of commands, $LITEQUEUE_PATH, $LITEQUEUE_PLAIN_CALLS, $TZ

# "file function": why it may catch everything. A handler that ends with `raise` needs no entry.
BROAD: dict[str, str] = {
    "ipc/named_lock.py NamedLock._wait": "handed to those who wait for the lock",
    "core/background.py _Calls._serve": (
        "one call that fails does not end the thread of those that follow; it is logged"
    ),
    "core/background.py _Call.__call__": "handed to the coroutine that awaits the call",
    "serialization/json_codec.py JsonCodec.encode": (
        "a model's own code runs when it is encoded; the error names the path"
    ),
    "serialization/faithful.py first_failing": "the same: finds which value it was",
    "serialization/signature.py Signature.encode_result": "a codec is the user's code; the error names the path",
    "serialization/signature.py Signature.encode_value": "the same",
    "serialization/signature.py Signature._encode": "the same",
    "serialization/upgrading.py upgraded": "upgrade= is the user's code; an error in it fails the job without a retry",
    "serialization/stored_calls.py StoredCalls.value": "the same, for decoding",
    "serialization/stored_calls.py StoredCalls.canonical": "the same, and what it returns may be anything",
    "serialization/plan.py Slot.restore": "the class being built is the user's",
    "serialization/misplaced.py _fails": "the same: finds the place of the value that fails",
    "serialization/plan.py _slot": "an annotation may be anything; an odd one counts as Any",
    "serialization/plan.py _resolved": "the same",
    "serialization/unions.py Either.build": "the class being built is the user's",
    "serialization/unions.py _is_one_as_it_is": "the same",
    "worker/limits.py Limits.give_takes": "the argument's own __format__ is the application's; the job fails with it",
    "worker/executor/execute.py execute": "around the user's function",
    "worker/executor/execute.py aexecute": "around the user's function",
    "worker/executor/host.py _Watch._is_cancelled": (
        "an engine's answer may fail; the run's limit is watched all the same"
    ),
    "core/logger.py _Note.write": (
        "a log handler is the application's: its error reaches neither caller nor transaction"
    ),
    "core/logger.py Logger.is_enabled_for": "the same, of a logger of the application's own class",
    "core/logger.py _tell_of": "the error's own text is the application's code, and stderr may be closed",
    "sqlite/commit/open_transaction.py OpenTransaction.tell": (
        "it is committed; what cannot be told of is found at the next look"
    ),
    "worker/executor/execute.py _outcome_of": (
        "the error's own class, the classes of retry_on, a backoff function: the job fails with what that raised"
    ),
    "core/retry.py _text": "the exception's own __str__ and __repr__",
    "sqlite/commit/batch.py commit": "handed to the callers whose work it was",
    "sqlite/commit/batch.py _commit_together": "the one at fault meets it again alone",
    "sqlite/drivers/connection.py Handle.__del__": (
        "of a dropped connection: no caller is left to be told what the driver says"
    ),
    "sqlite/commit/external_connection.py _opened": (
        "the application's own on_connect runs there; raised again by the caller that waits"
    ),
    "sqlite/commit/commit_queue.py finish": "raised again by future.result()",
    "sqlite/drivers/connection.py perform": "raised inside the steps, which undo what they did and raise it again",
    "sqlite/commit/external_connection.py _performed": "the same",
    "worker/run_stacks.py _read": "an observer: what cannot be shown must not keep a run from being written off",
    "worker/worker.py Worker._work": "the loop's end: handed to the caller that started it",
    "worker/together.py Together._run": "the end of a worker's thread: raised again by the thread that runs them all",
    "worker/maintenance.py Maintenance._try": (
        "one task that fails keeps no other from being done, the heartbeat least of all"
    ),
    "worker/executor/run_log.py RunLog.kept": "a codec is the user's: the end is stored without the log, and says so",
    "worker/executor/run_log.py _line": "what the application logs has a text of its own: its code runs",
    "sqlite/parts/run_logs.py HasRunLogs._text": "a codec is the user's; raised again as a DecodeError",
    "children/child_process.py ChildProcess.next": "what cannot be read of a child is the end of it",
    "children/findable.py _recipe": "a codec and options are the user's, and so is how they are pickled",
    "children/log_records.py send_records.to_worker": "told as logging itself tells of it; the job that logs goes on",
    "sqlite/streams/emitter.py Emitter._write_after": "on_connect is the application's; it is logged, and tried again",
    "sqlite/streams/emitter.py Emitter.close": "the same, at the end: it is logged as lost",
    "children/log_records.py _text": "what the application puts into a record has a text of its own",
    "children/messages.py travelling": "an error of the application's codec may have any class",
    "worker/executor/child_handler.py Handler._outcome": "the job must not be running for ever; it is logged",
    "worker/child/runner.py Runner.listen": "nobody would hear the worker any more: printed, and the process ends",
    "children/log_records.py _message": "a record of the application's whose arguments do not fit is told all the same",
    "children/log_records.py handle": "a log handler is the application's: its error does not reach the run",
    "worker/executor/child_handler.py Handler._perform": "raised again by the run, in its own process",
    "worker/child/main.py _import": "the application's modules; the first job that needs them fails, and says why",
    "worker/child/runner.py Runner._one": "the same: the job fails",
    "worker/child/runner.py _flush": "sys.stdout may be anything of the application's",
    "worker/idle.py Idle._claim": "the loop meets it again, and says what is wrong",
    "worker/loop.py Loop.serve": "a cycle that fails in any way must not release running jobs while they run",
    "worker/loop.py Loop._keep_up": "the same, while the worker ends",
    "sqlite/kernel.py Kernel.before_fork": "Python prints it and forks all the same: what was stopped must be known",
    "worker/executor/mailbox.py Mailbox.settle": "the loop settles it again, and says what is wrong",
    "worker/loop.py Loop._settle": "the same: the ends are offered again until the deadline",
    "worker/loop.py Loop.close": "on any error the lock is freed, and other workers release the jobs",
    "cli/log_output.py _message": "a record of the application's whose arguments do not fit is told all the same",
    "cli/log_output.py _plain": "a value that the application added to its record: its own code runs",
    "cli/log_output.py _text": "the same",
    "cli/locate.py _set_up_django": "the user's settings and models run; shown with their own traceback",
    "cli/locate.py import_named": "the user's module runs when it is imported; shown with its own traceback",
}

LONGEST_FUNCTION = 50
LONGEST_FILE = 400
LONGEST_CHAIN = 16  # modules; wanted: 9


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: parse(path) for path in FILES}


def module_of(path: Path) -> str:
    """`litequeue/core/clock.py` is `core.clock`, `litequeue/core/__init__.py` is `core.__init__`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room_of(module: str) -> str:
    """Return the name on FLOORS that a module belongs to: the longest one that it begins with."""
    rooms = [room for room in FLOORS if module == room or module.startswith(f"{room}.")]
    return max(rooms, key=len) if rooms else module


def name_of(path: Path) -> str:
    return room_of(module_of(path))


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(PACKAGE.parent)}:{getattr(node, 'lineno', 1)}"


MODULES = {module_of(path): path for path in FILES}


# Imports


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def nodes(tree: ast.AST, *, late: bool = False, typing: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    """Yield every node, whether it runs late (inside a function), and whether it is there for its type alone."""
    for child in ast.iter_child_nodes(tree):
        if is_type_checking(child):
            for part, only in ((child.body, True), (child.orelse, typing)):
                yield from nodes(ast.Module(part, []), late=late, typing=only)
            continue
        yield child, late, typing
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from nodes(child, late=late or inside, typing=typing)


def imported(node: ast.AST, package: str) -> list[str]:
    """Return the full names that a node imports into a module of `package`: `litequeue.job.Job`, `os`."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
            return [".".join([*above, *([module] if module else []), alias.name]) for alias in names]
        case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"), args=[first, *_]):
            return [called_for(first, package)] if isinstance(first, ast.Constant) else []
    return []


def called_for(name: ast.Constant, package: str) -> str:
    text = str(name.value)
    dots = len(text) - len(text.lstrip("."))
    above = package.split(".")[: len(package.split(".")) - dots + 1] if dots else []
    return ".".join([*above, text.lstrip(".")])


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).parent.parts)


def own_imports(tree: ast.AST, package: str) -> Iterator[tuple[str, bool, bool, ast.AST]]:
    """Yield the modules of litequeue that are imported: name, whether inside a function, for its type, where."""
    for node, late, typing in nodes(tree):
        for full in imported(node, package):
            first, _, rest = full.partition(".")
            if first == "litequeue":
                yield module_named(rest), late, typing, node


def module_named(name: str) -> str:
    """`core.clock.SystemClock` is of `core.clock`; `Queue`, and what has no module of its own, of `__init__`."""
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        for module in (".".join(parts[:size]), ".".join([*parts[:size], "__init__"])):
            if module in MODULES:
                return module
    return "__init__"


IMPORTS = [
    (module, name, late, typing, place(path, node))
    for module, path in MODULES.items()
    for name, late, typing, node in own_imports(TREES[path], package_of(path))
]


def longest_chain(edges: dict[str, set[str]]) -> list[str]:
    """Return the longest way from module to module along the imports; raises where it comes back to where it was."""
    known: dict[str, list[str]] = {}
    way: list[str] = []

    def follow(module: str) -> list[str]:
        assert module not in way, f"a cycle of imports: {' -> '.join([*way[way.index(module) :], module])}"
        if module not in known:
            way.append(module)
            known[module] = [module, *max((follow(name) for name in edges.get(module, ())), key=len, default=[])]
            way.pop()
        return known[module]

    return max((follow(module) for module in edges), key=len)


def edges(*, typing: bool) -> dict[str, set[str]]:
    """Map each module to those it imports when it is imported; with `typing` also to those it names as types."""
    found: dict[str, set[str]] = {}
    for module, name, late, only_type, _ in IMPORTS:
        if not late and (typing or not only_type) and name != module:
            found.setdefault(module, set()).add(name)
    return found


def test_every_module_stands_on_a_floor_and_every_floor_has_a_module():
    assert {name_of(path) for path in FILES} == set(FLOORS)


def test_imports_go_down_only():
    wrong = [
        f"{where} {room_of(module)} imports {room_of(name)}"
        for module, name, late, _, where in IMPORTS
        if FLOORS.index(room_of(name)) > FLOORS.index(room_of(module))
        and not (late and (room_of(module), room_of(name)) in UPWARD)
    ]
    assert wrong == []


def test_every_upward_exception_is_in_use():
    assert {(room_of(module), room_of(name)) for module, name, late, _, _ in IMPORTS if late} >= UPWARD


def test_no_modules_import_each_other_also_for_their_types():
    longest_chain(edges(typing=True))


def test_the_chain_of_imports_is_short():
    chain = longest_chain(edges(typing=False))
    assert len(chain) <= LONGEST_CHAIN, " -> ".join(chain)


def test_a_cycle_is_found():
    with pytest.raises(AssertionError, match="a -> b -> a"):
        longest_chain({"a": {"b"}, "b": {"a"}})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from litequeue.worker.worker import Worker", [("worker.worker", False, False)]),
        ("import litequeue.worker.worker", [("worker.worker", False, False)]),
        ("from litequeue import worker, Queue", [("worker.__init__", False, False), ("__init__", False, False)]),
        ("from . import store", [("sqlite.store", False, False)]),
        ("from ..worker.worker import Worker", [("worker.worker", False, False)]),
        ("from .. import worker", [("worker.__init__", False, False)]),
        ("def f():\n import litequeue.worker.worker", [("worker.worker", True, False)]),
        ("class C:\n async def f(self):\n  if self:\n   from ..job import Job", [("job", True, False)]),
        ("try:\n import litequeue\nexcept E:\n pass", [("__init__", False, False)]),
        ("importlib.import_module('litequeue.job')", [("job", False, False)]),
        ("if TYPE_CHECKING:\n from litequeue.job import Job", [("job", False, True)]),
        ("if TYPE_CHECKING:\n pass\nelse:\n from litequeue.job import Job", [("job", False, False)]),
        ("import litequeued, worker", []),
    ],
)
def test_an_import_is_seen_however_it_is_written(line, expected):
    found = own_imports(ast.parse(line), "litequeue.sqlite")
    assert [(name, late, typing) for name, late, typing, _ in found] == expected


# What only one place knows


def strings(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield every string but those that stand alone as a statement: docstrings may speak of anything."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value, node


def real_names(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield every use of an imported name, by its full name: after `import time as t`, `t.time` is `time.time`."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {a.asname: a.name for a in node.names if a.asname}
            known |= {a.name.partition(".")[0]: a.name.partition(".")[0] for a in node.names if not a.asname}
        if isinstance(node, ast.ImportFrom) and not node.level:
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            if first in known:
                yield known[first] + dot + rest, node


def uses(wanted: set[str], allowed: set[str]) -> list[str]:
    return [
        f"{place(path, node)} uses {name}"
        for path, tree in TREES.items()
        if not {module_of(path), name_of(path)} & allowed
        for name, node in real_names(tree)
        if name in wanted
    ]


def test_only_the_sqlite_folder_imports_a_driver():
    wrong = [
        f"{place(path, node)} imports {name}"
        for path, tree in TREES.items()
        if name_of(path) != "sqlite"
        for node in ast.walk(tree)
        for name in imported(node, package_of(path))
        if name.partition(".")[0] in DRIVERS
    ]
    assert wrong == []


def test_only_the_sqlite_folder_knows_sql():
    wrong = [
        f"{place(path, node)} {text!r}"
        for path, tree in TREES.items()
        if name_of(path) != "sqlite"
        for text, node in strings(tree)
        if SQL.search(text)
    ]
    assert wrong == []


def test_what_the_sqlite_folder_has_to_say_is_said_when_its_locks_are_released():
    """`later` notes a record, which is said after the release; `log` says it at once, to handlers that may block."""
    wrong = [
        f"{place(path, node)} {ast.unparse(node)}"
        for path, tree in TREES.items()
        if name_of(path) == "sqlite"
        and path.name != "open_transaction.py"  # which tells of what was committed, outside of locks
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"log", "logging"}
    ]
    assert wrong == []


def test_records_go_through_the_guarded_logger_alone():
    assert uses({"logging.getLogger"}, allowed={"core.logger", "cli", "children"}) == []


def test_only_the_clock_reads_clocks():
    assert uses(CLOCKS, allowed={"core.clock"}) == []


def test_only_the_edges_read_the_environment():
    assert uses(ENVIRONMENT, allowed=READS_ENVIRONMENT) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import time\ntime.monotonic()", "time.monotonic"),
        ("import time as t\nkey = t.time", "time.time"),
        ("from time import perf_counter as p\np()", "time.perf_counter"),
        ("import datetime\ndatetime.datetime.now(tz=None)", "datetime.datetime.now"),
        ("from datetime import datetime, date\ndatetime.utcnow()", "datetime.datetime.utcnow"),
        ("from os import environ\nenviron['A']", "os.environ"),
        ("import os.path\nos.environ.get('A')", "os.environ"),
    ],
)
def test_a_use_is_seen_under_any_name(source, expected):
    assert expected in {name for name, _ in real_names(ast.parse(source))}


# Broad handlers


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield each node with the name of the function around it: `Worker.run`, or `` at the top of the module."""
    for child in ast.iter_child_nodes(tree):
        scope = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        name = f"{prefix}.{child.name}".lstrip(".") if scope else prefix
        yield name, child
        yield from functions(child, name)


def is_broad(node: ast.AST | None) -> bool:
    if isinstance(node, ast.Tuple):
        return any(is_broad(element) for element in node.elts)
    return node is None or ast.unparse(node).removeprefix("builtins.") in {"Exception", "BaseException"}


def raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and (last.exc is None or ast.unparse(last.exc) == handler.name)


def catches_all(node: ast.AST) -> bool:
    match node:
        case ast.ExceptHandler():
            return is_broad(node.type) and not raises_again(node)
        case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress")):
            return any(is_broad(argument) for argument in node.args)
    return False


def test_broad_handlers_are_those_on_the_list():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()} {name}"
        for path, tree in TREES.items()
        for name, node in functions(tree)
        if catches_all(node)
    }
    assert found == BROAD.keys()


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("except Exception:\n log()", True),
        ("except (ValueError, BaseException) as error:\n log()", True),
        ("except:\n pass", True),
        ("except BaseException:\n roll_back()\n raise", False),
        ("except Exception as error:\n if a:\n  raise\n return", True),
        ("except ValueError:\n pass", False),
    ],
)
def test_a_handler_is_broad_unless_it_raises_again(handler, expected):
    tree = ast.parse(f"try:\n pass\n{handler}")
    assert any(catches_all(node) for node in ast.walk(tree)) is expected


# Size and words


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count from the first statement after the docstring to the end."""
    statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def test_no_function_is_long():
    wrong = [
        f"{place(path, node)} {node.name}: {body_lines(node)} lines"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > LONGEST_FUNCTION
    ]
    assert wrong == []


def test_no_file_is_long():
    lengths = {place(path, tree): len(path.read_text(encoding="utf-8").splitlines()) for path, tree in TREES.items()}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_the_first_line_of_every_module_is_a_sentence():
    wrong = [
        place(path, tree)
        for path, tree in TREES.items()
        if not (ast.get_docstring(tree) or "").partition("\n")[0].endswith(".")
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "module", ["asyncio", "concurrent.futures", "hashlib", "croniter", "aiosqlite", "click", "litequeue.worker.worker"]
)
def test_whoever_only_enqueues_does_not_wait_for_the_import_of(module, tmp_path):
    program = f"""
import sys, litequeue
queue = litequeue.Queue({str(tmp_path / "app.db")!r})
task = queue.task(lambda number: number, name="same")
task.enqueue(1)
print({module!r} in sys.modules, litequeue.Worker.__name__)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False Worker\n"


@pytest.mark.parametrize("pattern", [*alike.ALIKE, *alike.UNLIKE])
def test_what_one_python_runs_alone_is_there(pattern):
    """A file that was renamed would run on every Python again, or on one alone."""
    assert list(alike.TESTS.glob(pattern))


@pytest.mark.parametrize(("file", "pattern"), [(file, one) for file, some in THOROUGH.items() for one in some])
def test_what_make_test_leaves_out_is_there(file, pattern):
    called, _, _ = re.sub(r"_?\.\*", "", pattern).partition("\\[")
    assert re.search(rf"def test_\w*{called}", (alike.TESTS / file).read_text())
