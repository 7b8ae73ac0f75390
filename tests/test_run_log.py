"""What `litequeue run` writes: the application's records too, each with its job, as text or as JSON."""

import io
import json
import logging
import logging.config
import sys
import warnings
from contextlib import contextmanager

import pytest

from command_line import ended
from litequeue.cli import log_output
from litequeue.cli.log_output import JsonFormat, TextFormat

SHOP = "litequeue's test of a shop"


@contextmanager
def program(**streams):
    """For the block, logging is as in a program that has just started, with these standard streams."""
    root, ours, shop = logging.getLogger(), logging.getLogger("litequeue"), logging.getLogger(SHOP)
    loggers = root, ours, shop, logging.getLogger("py.warnings")
    before = [(each, each.handlers, each.level, each.propagate, each.disabled) for each in loggers]
    known = [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    silent = [each.disabled for each in known]  # a dictConfig in the block disables all that it does not name
    old_streams, last = {name: getattr(sys, name) for name in streams}, logging.lastResort
    try:
        for each in loggers:
            each.handlers, each.disabled = [], False
            each.setLevel(logging.WARNING if each is root else logging.NOTSET)
        for name, stream in streams.items():
            setattr(sys, name, stream)
        yield shop
    finally:
        logging.captureWarnings(False)
        logging.lastResort = last
        for each, disabled in zip(known, silent, strict=True):
            each.disabled = disabled
        for each, handlers, level, propagate, disabled in before:
            each.handlers, each.propagate, each.disabled = handlers, propagate, disabled
            each.setLevel(level)
        for name, stream in old_streams.items():
            setattr(sys, name, stream)


@pytest.fixture
def stderr():
    return io.StringIO()


def lines(stream):
    return stream.getvalue().splitlines()


def objects(stream):
    return [json.loads(line) for line in lines(stream)]


def test_the_applications_info_is_shown_unless_it_has_set_up_logging_itself(stderr):
    with program(stderr=stderr) as shop:
        log_output.set_up(None, None, supervised=False)
        shop.info("packing")
        shop.debug("a detail")
    assert [line[13:] for line in lines(stderr)] == [f"INFO    {SHOP}: packing"]


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        (None, ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_holds_for_both(stderr, level, shown):
    with program(stderr=stderr) as shop:
        log_output.set_up("json", level, supervised=False)
        for logger in (shop, logging.getLogger("litequeue")):
            for name in ("debug", "info", "warning", "error"):
                logger.log(log_output.LEVELS[name], name)
    assert [each["message"] for each in objects(stderr)] == shown * 2


def test_what_the_application_has_set_up_is_kept_without_a_format(stderr):
    with program(stderr=stderr) as shop:
        logging.basicConfig(format="mine %(message)s", level="ERROR")
        log_output.set_up(None, None, supervised=False)
        shop.warning("unseen")
        shop.error("seen")
        logging.getLogger("litequeue").info("seen too")
    assert lines(stderr) == ["mine seen", "mine seen too"]


def test_json_is_every_line_also_of_handlers_of_the_applications_own(stderr):
    class Boxed(logging.StreamHandler):
        def emit(self, record):
            self.stream.write(f"[ {record.getMessage()} ]\n")

    with program(stderr=stderr, stdout=stderr) as shop:
        logging.config.dictConfig(
            {
                "version": 1,
                "handlers": {"h": {"class": "logging.StreamHandler"}},
                "root": {"level": "INFO", "handlers": ["h"]},
            }
        )
        shop.disabled, shop.propagate = False, False
        boxed = Boxed(sys.stdout)
        boxed.setLevel(logging.ERROR)
        shop.addHandler(boxed)
        log_output.set_up("json", None, supervised=False)
        logging.getLogger("litequeue").info("ours")
        shop.warning("below the level of its handler")
        shop.error("in a box")
        warnings.showwarning("old", DeprecationWarning, "f.py", 1)  # as warn() calls it
    found = [each for each in objects(stderr) if "had disabled the logger" not in each["message"]]
    assert [each["logger"] for each in found] == ["litequeue", SHOP, "py.warnings"]
    assert "old" in found[2]["message"]


def test_a_file_of_the_applications_keeps_its_format_beside_the_json(stderr, tmp_path):
    with program(stderr=stderr) as shop:
        handler = logging.FileHandler(tmp_path / "app.log")
        logging.basicConfig(format="mine %(message)s", level="INFO", handlers=[handler])
        log_output.set_up("json", None, supervised=False)
        shop.info("both")
        handler.close()
    assert [each["message"] for each in objects(stderr)] == ["both"]
    assert (tmp_path / "app.log").read_text() == "mine both\n"


def test_what_is_logged_while_the_application_is_imported_is_json_too(stderr):
    with program(stderr=stderr) as shop:
        log_output.before_import("json")
        shop.warning("before logging is set up")
        assert logging.getLogger().handlers == []  # its own basicConfig() works as ever
    assert [each["message"] for each in objects(stderr)] == ["before logging is set up"]


def record(message="m", *arguments, error=None, **extra):
    raised = None if error is None else (type(error), error, error.__traceback__)
    return logging.getLogger(SHOP).makeRecord(
        SHOP, logging.ERROR, "f.py", 1, message, arguments, raised, extra=extra or None
    )


class Unreadable:
    def __str__(self):
        raise RuntimeError


def test_json_has_the_error_and_what_the_application_has_added():
    error = ZeroDivisionError("no")
    found = json.loads(JsonFormat().format(record("%d parcels", 3, error=error, order=7, job_id="41", time="mine")))
    names = "level", "logger", "message", "error_type", "exception", "order", "job_id"
    assert [found[name] for name in names] == [
        "error", SHOP, "3 parcels", "ZeroDivisionError", "ZeroDivisionError: no", 7, "41",
    ]  # fmt: skip
    assert found["time"].startswith("20")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "nan"),
        ({("a", 1): 2}, "{('a', 1): 2}"),
        (Unreadable(), "<Unreadable whose __str__ raises RuntimeError>"),
        ("\ud800", "\ud800"),
    ],
)
def test_whatever_the_application_adds_is_one_line_of_json(value, told):
    line = JsonFormat().format(record(added=value))
    assert json.loads(line, parse_constant=None)["added"] == told


@pytest.mark.parametrize("message", ["%d parcels", Unreadable()])
def test_a_record_whose_arguments_do_not_fit_is_told_all_the_same(message):
    found = json.loads(JsonFormat().format(record(message, "three")))
    assert "its arguments do not fit" in found["message"]


def test_a_try_that_is_not_the_last_is_one_line_of_text_with_its_job():
    form = TextFormat(colour=False, pid=False)
    error = ValueError("odd")
    line = form.format(record("in a job", job_id="7", task="pack"))
    assert line[13:] == f"ERROR   {SHOP} pack[7]: in a job"
    assert "\n" not in form.format(record("again", error=error, outcome="retried"))
    assert form.format(record("failed", error=error, outcome="failed")).endswith("\nValueError: odd")


APP = """
import logging
from litequeue import Queue
logging.getLogger("shop").warning("imported")
queue = Queue("app.db", durability="normal")
@queue.task
def pack():
    logging.getLogger("shop").info("packing", extra={"order": 5})
    raise ValueError("no box left")
"""


@pytest.mark.slow
def test_each_line_of_a_worker_that_writes_json_is_an_object_with_its_job(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    assert ended(tmp_path, "enqueue", "app:queue", "pack").returncode == 0
    done = ended(tmp_path, "run", "app:queue", "--until-idle", "--log-format", "json")
    found = {each["message"].split(" after")[0]: each for each in map(json.loads, done.stderr.splitlines())}
    assert found["imported"]["logger"] == "shop"
    packing, failed = found["packing"], found["pack[1] failed"]
    assert [packing[name] for name in ("level", "job_id", "task", "queue", "try", "order")] == [
        "info", "1", "pack", "default", 1, 5,
    ]  # fmt: skip
    assert [failed[name] for name in ("level", "job_id", "error_type", "outcome")] == [
        "error", "1", "ValueError", "failed",
    ]  # fmt: skip
    assert failed["exception"].endswith("ValueError: no box left")


@pytest.mark.parametrize(
    ("app", "target", "code", "says"),
    [
        ("import nowhere_at_all", "app:queue", 1, "No module named 'nowhere_at_all'"),
        ("1 / 0", "app:queue", 1, "app could not be imported: ZeroDivisionError"),
        ("", "missing:queue", 2, "there is no module 'missing'"),
        ("from litequeue import Queue\nqueue = Queue('app.py')", "app:queue", 1, "app.py"),
    ],
)
def test_a_failure_at_the_start_is_an_object_of_json(tmp_path, app, target, code, says):
    (tmp_path / "app.py").write_text(app)
    done = ended(tmp_path, "run", target, "--until-idle", "--log-format", "json")
    rows = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, rows[-1]["level"]) == (code, "error")
    assert says in rows[-1]["message"]
    assert ("ZeroDivisionError" in rows[-1].get("exception", "")) == (app == "1 / 0")


def test_an_error_that_ends_a_thread_is_an_object_of_json(tmp_path):
    (tmp_path / "app.py").write_text(
        "import threading\nfrom litequeue import Queue\nqueue = Queue('app.db')\n@queue.task\ndef add(): ...\n"
        "thread = threading.Thread(target=lambda: 1 / 0, name='own')\nthread.start()\nthread.join()\n"
    )
    done = ended(tmp_path, "run", "app:queue", "--until-idle", "--log-format", "json")
    rows = [json.loads(line) for line in done.stderr.splitlines()]
    [row] = [row for row in rows if row["level"] == "error"]
    assert row["message"] == "an error that nothing caught ends the thread own"
    assert row["error_type"] == "ZeroDivisionError"
