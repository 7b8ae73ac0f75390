"""A second declaration of a task's name is refused, unless it is certainly the same task again."""

import doctest
import importlib
import runpy
import subprocess
import sys
import textwrap
import threading

import pytest

from litequeue import Queue

DEADLINE = 30

TOOLS = """
import functools

def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

def bare(function):
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

def repeated(times):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return [function(*args, **kwargs) for _ in range(times)][-1]
        return wrapper
    return decorate

def greeter(queue, word):
    @queue.task
    def greet(name="you"):
        return f"{word}, {name}"
    return greet

def greeter_by_default(queue, word):
    @queue.task
    def greet(name="you", word=word):
        return f"{word}, {name}"
    return greet

def given(to):
    return to

class Mailer:
    def __init__(self, sender="us"):
        self.sender = sender
    def send(self, to="you"):
        return f"{self.sender} to {to}"
    def __call__(self, to="you"):
        return f"{self.sender} to {to}"
"""


@pytest.fixture
def queue(tmp_path):
    with Queue(tmp_path / "app.db", durability="normal") as queue:
        yield queue


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module that says `from held import queue`, and one of tools; both can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit within a second would not be seen
    names = ["tools"]

    def writing(name, source):
        names.append(name)
        path = tmp_path / f"{name}.py"
        path.write_text("from held import queue\nfrom tools import *\n" + textwrap.dedent(source))
        importlib.invalidate_caches()
        return path

    (tmp_path / "tools.py").write_text(TOOLS)
    yield writing
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def held(queue, monkeypatch):
    """What modules under test import their queue from."""
    module = type(sys)("held")
    module.queue = queue
    monkeypatch.setitem(sys.modules, "held", module)


def result_of(queue, name):
    """Run the task as a worker would."""
    job = queue.tasks[name].enqueue()
    queue.worker(threads=1).run(until_idle=True)
    return job.result(timeout=DEADLINE)


class Session:
    """A notebook or a prompt: each cell is compiled by itself, and executed in one namespace."""

    def __init__(self, queue, file):
        self.namespace = {"__name__": "__main__", "queue": queue}
        self.file, self.count = file, 0
        exec(TOOLS, self.namespace)

    def run(self, cell):
        self.count += 1
        exec(compile(textwrap.dedent(cell), self.file.format(self.count), "exec"), self.namespace)


CELLS = ["<ipython-input-{}-0a1b>", "/tmp/ipykernel_7/{}.py", "<stdin>", "<string>", "<python-input-{}>", "<console>"]


@pytest.fixture(params=CELLS)
def session(request, queue):
    return Session(queue, request.param)


# What is refused: each pair has one name, and is another function

PAIRS = {
    "two functions": """
        @queue.task
        def send(): return "first"
        @queue.task
        def send(): return "second"
        """,
    "behind one decorator": """
        @queue.task(name="send")
        @logged
        def mail(): return "mail"
        @queue.task(name="send")
        @logged
        def sms(): return "SMS"
        """,
    "behind one decorator, of one name": """
        @queue.task
        @logged
        def send(): return "mail"
        @queue.task
        @logged
        def send(): return "SMS"
        """,
    "behind a decorator without wraps": """
        @queue.task(name="send")
        @bare
        def mail(): return "mail"
        @queue.task(name="send")
        @bare
        def sms(): return "SMS"
        """,
    "one function behind other decorators": """
        def send(): return "mail"
        queue.task(name="send")(repeated(1)(send))
        queue.task(name="send")(repeated(2)(send))
        """,
    "two closures of one factory": """
        greeter(queue, "hello")
        greeter(queue, "goodbye")
        """,
    "two closures in a loop": """
        for word in ["hello", "goodbye"]: greeter(queue, word)
        """,
    "two defaults of one factory": """
        greeter_by_default(queue, "hello")
        greeter_by_default(queue, "goodbye")
        """,
    "equal, and of other types": """
        greeter(queue, 1)
        greeter(queue, True)
        """,
    "methods of two objects": """
        queue.task(name="send")(Mailer("us").send)
        queue.task(name="send")(Mailer("them").send)
        """,
    "two objects": """
        queue.task(name="send")(Mailer("us"))
        queue.task(name="send")(Mailer("them"))
        """,
    "two partials": """
        def send(to): return to
        queue.task(name="send")(functools.partial(send, "us"))
        queue.task(name="send")(functools.partial(send, "them"))
        """,
    "two that are made of text": """
        for text in "12": exec(f"@queue.task\\ndef send(): return {text}")
        """,
    "two lambdas": """
        queue.task(name="send")(lambda: "us")
        queue.task(name="send")(lambda: "them")
        """,
    "two classes": """
        class One:
            @queue.task(name="send")
            @staticmethod
            def send(): return "one"
        class Two:
            @queue.task(name="send")
            @staticmethod
            def send(): return "two"
        """,
    "two of one function that is called twice": """
        def declare(sender):
            @queue.task(name="send")
            @logged
            def send(): return sender
        declare(object())
        declare(object())
        """,
}


@pytest.mark.parametrize("source", PAIRS.values(), ids=PAIRS)
def test_two_functions_of_one_name_in_one_module_are_refused(write, source):
    write("app", source)
    with pytest.raises(ValueError, match=r"is already declared on this queue, in .*give one of the two another name"):
        importlib.import_module("app")


# a thread that executes text may be that of a prompt
IN_A_THREAD = {name: source for name, source in PAIRS.items() if "exec(" not in source}


@pytest.mark.parametrize("source", IN_A_THREAD.values(), ids=IN_A_THREAD)
def test_they_are_refused_in_a_thread_too(queue, write, source):
    write("app", "def declare():\n    from tools import functools, Mailer, bare, greeter, greeter_by_default\n"
          "    from tools import logged, repeated\n" + textwrap.indent(textwrap.dedent(source), "    "))  # fmt: skip
    app, errors = importlib.import_module("app"), []

    def declare():
        try:
            app.declare()
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=declare)
    thread.start()
    thread.join(DEADLINE)
    assert ["already" in str(error) for error in errors] == [True]


def test_the_first_one_keeps_the_name(queue, write):
    write("app", "greeter(queue, 'hello')\ntry:\n    greeter(queue, 'goodbye')\nexcept ValueError:\n    pass")
    importlib.import_module("app")
    assert result_of(queue, "greeter.<locals>.greet") == "hello, you"


def test_two_modules_may_not_declare_one_name(queue, write):
    for name in ("one", "two"):
        write(name, f"@queue.task\ndef send(): return {name!r}")
    importlib.import_module("one")
    with pytest.raises(ValueError, match=r"in one \(.*one\.py:3\), and now another one, in two \(.*two\.py:3\)"):
        importlib.import_module("two")


def test_two_modules_may_not_use_one_factory_for_two_functions(queue, write):
    for name in ("one", "two"):
        write(name, f"greeter(queue, {name!r})")
    importlib.import_module("one")
    with pytest.raises(ValueError, match="already"):
        importlib.import_module("two")


def test_two_files_that_are_run_as_the_program_may_not_declare_one_name(queue, write):
    paths = [write(name, f"@queue.task\ndef send(): return {name!r}") for name in ("one", "two")]
    runpy.run_path(str(paths[0]), run_name="__main__")
    with pytest.raises(ValueError, match="already"):
        runpy.run_path(str(paths[1]), run_name="__main__")


def test_the_message_names_both_places_or_says_that_it_is_one(write):
    write("app", PAIRS["behind one decorator"])
    with pytest.raises(ValueError, match=r"in app \(.*app\.py:4\), and now another one, in app \(.*app\.py:7\)"):
        importlib.import_module("app")
    write("other", "greeter(queue, 'hello')\ngreeter(queue, 'goodbye')")
    with pytest.raises(ValueError, match=r"in tools \(.*tools\.py:\d+\), and now the same code with other values .*;"):
        importlib.import_module("other")


# What is the same task again

ONES = {
    "a function": ("@queue.task\ndef send(): return {!r}", "send"),
    "behind a decorator": ("@queue.task\n@logged\ndef send(): return {!r}", "send"),
    "behind one without wraps": ("@queue.task(name='send')\n@bare\ndef send(): return {!r}", "send"),
    "below a decorator": ("@logged\n@queue.task\ndef send(): return {!r}", "send"),
    "a closure": ("greeter(queue, {!r})", "greeter.<locals>.greet"),
    "a default": ("greeter_by_default(queue, {!r})", "greeter_by_default.<locals>.greet"),
    "a method": ("queue.task(name='send')(Mailer({!r}).send)", "send"),
    "an object": ("queue.task(name='send')(Mailer({!r}))", "send"),
    "a partial": ("def send(to): return to\nqueue.task(name='send')(functools.partial(send, {!r}))", "send"),
    "a lambda": ("queue.task(name='send')(lambda: {!r})", "send"),
    "in a class": ("class One:\n @queue.task\n @staticmethod\n def send(): return {!r}", "One.send"),
    "in a function": ("def f():\n @queue.task(name='send')\n def send(): return {!r}\nf()", "send"),
}


@pytest.mark.parametrize(("source", "name"), ONES.values(), ids=ONES)
@pytest.mark.parametrize("edited", ["", "\n\n# some lines more\n"])
def test_a_module_may_be_reloaded_as_it_is_and_edited(queue, write, source, name, edited):
    write("app", source.format("old"))
    app = importlib.import_module("app")
    write("app", edited + source.format("new"))
    importlib.reload(app)
    importlib.reload(app)
    assert "new" in str(result_of(queue, name))


@pytest.mark.parametrize(("source", "name"), ONES.values(), ids=ONES)
@pytest.mark.parametrize("edited", ["", "\n\n# some lines more\n"])
def test_a_module_may_be_imported_anew(queue, write, source, name, edited):
    write("app", source.format("old"))
    importlib.import_module("app")
    write("app", edited + source.format("new"))
    for module in ("app", "tools"):
        del sys.modules[module]
    importlib.import_module("app")
    assert "new" in str(result_of(queue, name))


@pytest.mark.parametrize(("source", "name"), ONES.values(), ids=ONES)
def test_a_program_may_be_run_again_in_one_process(queue, write, source, name):
    for text in ("old", "new"):
        runpy.run_path(str(write("app", "#\n" + source.format(text))), run_name="__main__")
    assert "new" in str(result_of(queue, name))


def test_a_reload_may_change_the_options(queue, write):
    write("app", "@queue.task(retries=1)\ndef send(): pass")
    app = importlib.import_module("app")
    write("app", "@queue.task(retries=5, queue='mail')\ndef send(): pass")
    importlib.reload(app)
    assert queue.tasks["send"] is app.send
    assert (app.send.options.policy.retries, app.send.options.queue) == (5, "mail")


@pytest.mark.parametrize("source", PAIRS.values(), ids=PAIRS)
def test_two_functions_of_one_name_are_refused_after_a_reload_as_well(queue, write, source):
    write("app", "")
    app = importlib.import_module("app")
    write("app", source)
    for _ in range(2):
        with pytest.raises(ValueError, match="already"):
            importlib.reload(app)


def test_a_module_that_declares_when_it_is_called_may_be_reloaded(queue, write):
    write("app", "def declare():\n    @queue.task\n    def send(): return 'old'")
    app = importlib.import_module("app")
    app.declare()
    write("app", "\n\ndef declare():\n    @queue.task\n    def send(): return 'new'")
    importlib.reload(app).declare()
    assert result_of(queue, "declare.<locals>.send") == "new"


APPLICATION = """
def declare():
    limit = 5
    @queue.task
    def fact(n=limit):
        return 1 if n == 0 else n * fact(n - 1) // twin()
    @queue.task
    @logged
    def twin():
        return 1 if callable(fact) else 2
"""


def test_an_application_that_is_made_twice_declares_its_tasks_twice(queue, write):
    write("app", APPLICATION)
    app = importlib.import_module("app")
    app.declare()
    app.declare()
    assert result_of(queue, "declare.<locals>.fact") == 120


def test_one_function_may_be_declared_twice(queue, write):
    write("app", "def send(): return 1\nqueue.task(retries=1)(send)\nqueue.task(retries=2)(send)\n"
          "mailer = Mailer()\nfor _ in '12': queue.task(name='mail')(mailer.send)")  # fmt: skip
    importlib.import_module("app")
    assert queue.tasks["send"].options.policy.retries == 2


# Notebooks, prompts, doctests


@pytest.mark.parametrize(("source", "name"), [ONES[one] for one in list(ONES)[:4]], ids=list(ONES)[:4])
def test_a_cell_may_be_edited_and_run_again(session, source, name):
    session.run(source.format("old"))
    session.run(source.format("old"))
    session.run("# moved\n\n" + source.format("new"))
    assert result_of(session.namespace["queue"], name) == "new"


def test_a_cell_may_be_run_again_with_another_decorator(session):
    for decorators in ("@repeated(2)", "@repeated(3)", "", "@logged\n@repeated(4)", "@logged"):
        session.run(f"@queue.task\n{decorators}\ndef send(): return {decorators!r}")
        assert result_of(session.namespace["queue"], "send") == decorators


def test_a_cell_that_has_a_class_may_be_run_again(session):
    for text in ("old", "new"):
        session.run(f"class Sms(Mailer): pass\nqueue.task(name='send')(Sms({text!r}))")
        session.run(f"class Mail:\n def send(self): return {text!r}\nqueue.task(name='mail')(Mail().send)")
    assert result_of(session.namespace["queue"], "send") == "new to you"
    assert result_of(session.namespace["queue"], "mail") == "new"


@pytest.mark.parametrize("source", [
    *((f"greeter(queue, {word!r})") for word in ("hello",)),
    "queue.task(name='send')(Mailer('us').send)",
    "queue.task(name='send')(Mailer('us'))",
    "queue.task(name='send')(functools.partial(given, 'us'))",
    "queue.task(name='send')(repeated)",
])  # fmt: skip
def test_two_cells_may_not_make_two_tasks_of_one_name_from_one_definition(session, source):
    session.run(source)
    other = {"hello": "goodbye", "us": "them", "repeated": "logged"}
    with pytest.raises(ValueError, match="already"):
        session.run(next(source.replace(old, new) for old, new in other.items() if old in source))


def test_two_cells_may_not_give_two_functions_one_name(session):
    session.run("@queue.task(name='send')\n@logged\ndef mail(): pass")
    with pytest.raises(ValueError, match="already"):
        session.run("@queue.task(name='send')\n@logged\ndef sms(): pass")


def test_one_cell_may_not_declare_one_name_twice(session):
    with pytest.raises(ValueError, match="already"):
        session.run("@queue.task\ndef send(): return 1\n@queue.task\ndef send(): return 2")


def test_code_that_is_executed_in_two_namespaces_may_not_declare_one_name(queue):
    with pytest.raises(ValueError, match="already"):
        for number in (1, 2):
            exec(f"@queue.task\ndef send(): return {number}", {"__name__": "__main__", "queue": queue})


def test_a_doctest_may_declare_a_task_again(queue):
    text = ">>> @queue.task\n... def send(): return 1\n>>> @queue.task\n... def send(): return 2\n>>> send()\n2\n"
    test = doctest.DocTestParser().get_doctest(text, {"queue": queue, "__name__": "app"}, "text", "text.txt", 0)
    assert doctest.DocTestRunner().run(test).failed == 0


CONSOLE = """
import code
from litequeue import Queue

queue = Queue("app.db", durability="normal")
console = code.InteractiveConsole(globals())  # Python's own prompt is such a program since 3.13
for text in ("old", "new"):
    for line in ("@queue.task", f"def send(): return {text!r}", ""):
        console.push(line)
console.push("print(send())")
"""


def test_a_prompt_in_the_namespace_of_its_program_may_define_a_function_again(tmp_path):
    command = [sys.executable, "-c", CONSOLE]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ran.stdout == "new\n", ran.stderr


def test_cells_of_ipython_may_be_run_again(queue):
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    shell.user_ns["queue"] = queue
    for text in ("old", "new"):
        shell.run_cell(f"@queue.task\ndef send(): return {text!r}").raise_error()
        shell.run_cell(
            f"import asyncio\nawait asyncio.sleep(0)\n@queue.task\ndef later(): return {text!r}"
        ).raise_error()
    assert (result_of(queue, "send"), result_of(queue, "later")) == ("new", "new")
    assert shell.run_cell("for n in (1, 2):\n    queue.task(name='x')(lambda n=n: n)").error_in_exec is not None


# A script that is imported back

SCRIPT = """
from litequeue import Queue, every
import views
queue = Queue("app.db", durability="normal")
@views.queue.task(retries=1)
def add(a: int = 1, b: int = 1) -> str:
    return f"{a + b} by {__name__} with {database}"
@views.queue.task(schedule=every("1h"))
def tick() -> None: ...
if __name__ == "__main__":
    database = "the database"
    add.enqueue(2, 3)
    views.go()
    views.queue.worker(threads=1).run(until_idle=True)
    print(*(job.result() for job in reversed(views.queue.jobs(task="add"))), sep=", ")
    print([schedule.name for schedule in views.queue.schedules])
"""
VIEWS = """
from litequeue import Queue
queue = Queue("views.db", durability="normal")
{early}
def go():
    from {name} import add
    add.enqueue(4, 5)
    queue.tasks["add"].enqueue(6, 7)
"""


@pytest.mark.parametrize("early", ["", "import {name}"])
@pytest.mark.parametrize(
    ("name", "command"), [("app", ["app.py"]), ("app", ["-m", "app"]), ("pkg.app", ["-m", "pkg.app"])]
)
def test_a_script_that_is_imported_back_has_each_task_once(tmp_path, name, command, early):
    path = tmp_path / f"{name.replace('.', '/')}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(SCRIPT)
    (tmp_path / "views.py").write_text(VIEWS.format(name=name, early=early.format(name=name)))
    ran = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    sums = ", ".join(f"{number} by __main__ with the database" for number in (5, 9, 13))
    assert ran.stdout.splitlines() == [sums, "['tick']"], ran.stderr


def test_what_was_edited_since_the_program_began_counts(queue, write):
    runpy.run_path(str(write("app", "@queue.task\ndef send(): return 'old'")), run_name="__main__")
    write("app", "@queue.task\ndef send(): return 'new'")
    app = importlib.import_module("app")
    assert result_of(queue, "send") == "new"
    write("app", "\n\n@queue.task\ndef send(): return 'newer'")
    importlib.reload(app)
    assert result_of(queue, "send") == "newer"


def run_frozen(queue, name, text="1"):
    """Execute a module as a frozen program does, where its code has no file, and a name that may not be its own."""
    source = f"@queue.task\ndef send(): return {text}"
    exec(compile(source, "app.py", "exec"), {"__name__": name, "queue": queue})


def test_the_script_of_a_frozen_program_may_be_imported_back(queue, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_frozen(queue, "__main__")
    run_frozen(queue, "app")
    assert queue.tasks["send"].__module__ == "__main__"


def test_two_modules_of_a_frozen_program_may_not_declare_one_name(queue, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_frozen(queue, "one")
    with pytest.raises(ValueError, match="already"):
        run_frozen(queue, "two", "2")


TWICE = """
from litequeue import task
@task
def send(): return 1
import app
if __name__ == "__main__":
    @task
    def send(): return 2
"""


@pytest.mark.parametrize(
    ("source", "refused"), [(TWICE, True), (TWICE.replace("def send(): return 2", "def s(): pass"), False)]
)
def test_a_script_that_is_imported_back_may_still_not_declare_one_name_twice(tmp_path, source, refused):
    (tmp_path / "app.py").write_text(source)
    command = [sys.executable, "app.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ("ValueError: a task named 'send' is already declared" in ran.stderr) is refused
    assert (ran.returncode != 0) is refused


@pytest.mark.parametrize("file", CELLS[:2])
def test_two_tasks_of_one_name_in_one_cell_are_refused_though_its_statements_are_compiled_one_by_one(queue, file):
    session = Session(queue, file)
    session.run("@queue.task\ndef send(): return 'mail'")  # the names of a cell's file: one for all its statements
    name = file.format("one")
    exec(compile("\n@queue.task\ndef send(): return 'SMS'", name, "exec"), session.namespace)
    with pytest.raises(ValueError, match="already declared on this queue"):
        exec(compile("\n\n\n@queue.task\ndef send(): return 'fax'", name, "exec"), session.namespace)
    exec(compile("\n@queue.task\ndef send(): return 'SMS'", name, "exec"), session.namespace)  # the cell once more
    assert queue.tasks["send"]() == "SMS"
