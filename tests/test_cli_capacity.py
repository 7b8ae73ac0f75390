"""Slots and offers on the command line: how they are written, and what `status` says of them."""

import pytest
from click.testing import CliRunner

from command_line import ended, make_folder
from litequeue import Queue
from litequeue.cli import main
from litequeue.cli.children import arguments


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


def call(*words, code=0):
    result = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--queues", "reports:0"), "'reports:0': after the colon comes how many of its jobs run at once, from 1 on"),
        (("--queues", "reports:-2"), "'reports:-2': after the colon"),
        (("--queues", "reports:1.5"), "'reports:1.5': after the colon"),
        (("--queues", "reports:"), "'reports:': after the colon"),
        (("--queues", "email,reports:2,reports:3"), "reports is given twice, with different slots"),
        (("--queues", "reports,reports:3"), "reports is given twice, with different slots"),
        (("--queues", " , "), "no name is given; write for example email,default"),
        (("--offer", "gpu"), "'gpu' is not a name and a whole number; write for example gpu=2"),
        (("--offer", "gpu=-1"), "'gpu=-1' is not a name and a whole number"),
        (("--offer", "gpu=0"), "gpu must be a whole number from 1 to"),
        (("--offer", "gpu=1", "--offer", "gpu=2"), "gpu is given twice"),
        (("--offer", "gpu=1", "other:queue"), "--offer is what one app's worker has for its jobs"),
    ],
)
def test_what_is_no_slot_and_no_resource_is_refused_before_anything_starts(words, message):
    assert message in call("run", "app:queue", *words, code=2)


def test_worker_processes_are_given_the_same_slots_and_offers():
    given = dict.fromkeys(("threads", "coroutines", "max_jobs", "max_memory", "log_format", "log_level"))
    given |= {"children": 2, "max_jobs_per_child": None, "max_memory_per_child": 500_000_000}
    given |= {"import_errors": "stop", "grace": 30, "until_idle": False, "reload": False, "imports": ()}
    given |= {"queues": {"email": None, "reports": 2}, "offers": {"gpu": 2, "ram_mb": 16000}}
    words = arguments(("app:queue",), given, "first", 1.0)
    at = words.index("--queues")
    assert words[at : at + 6] == ["--queues", "email,reports:2", "--offer", "gpu=2", "--offer", "ram_mb=16000"]
    assert words[words.index("--children") + 1] == "2"
    assert words[words.index("--max-memory-per-child") + 1] == "500000000"


def test_run_says_what_it_serves_and_offers_and_what_it_leaves(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "app.py").write_text(
        "from litequeue import Queue\n"
        'queue = Queue("app.db", durability="normal")\n'
        '@queue.task(queue="reports", uses={"gpu": 4})\n'
        "def large(): ...\n"
        '@queue.task(queue="reports", uses={"gpu": 2})\n'
        "def small(): ...\n"
        "large.enqueue(), small.enqueue_many([()] * 3)\n"
    )
    words = ("--queues", "email,reports:2", "--offer", "gpu=3", "--until-idle")
    done = ended(tmp_path, "run", "app:queue", *words)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "queues     email, reports (at most 2 at once)" in output
    assert "offers     gpu=3" in output
    assert "3 runs ended, 0 released; left: 1 that use what is not offered here" in output


def test_status_shows_slots_and_offers_and_what_nobody_offers(queue, database):
    render = queue.task(name="render", uses={"gpu": 4})(lambda: None)
    with queue.worker(queues={"default": 3}, offers={"gpu": 2}):
        render.enqueue()
        shown = call("status", database)
        assert "default:3 (offers gpu=2)" in shown
        waits = (
            "1 job of `render` in queue `default` is waiting, and the task asks for gpu: 4; no running worker offers "
        )
        assert f"{waits}more than 2. Start one that does: litequeue run --offer gpu=4" in shown
        with queue.worker(offers={"gpu": 4}):
            render.enqueue().result(20)
            assert "asks for" not in call("status", database)
