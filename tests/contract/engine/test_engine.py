"""The engine of a queue: found by its name, given as an object, attached once, told of every task."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from contract.engine.poor import PoorEngine
from litequeue import Queue
from litequeue.core.engine import Engine, Feature


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Have a package installed that offers the poor engine."""
    package = tmp_path / "site" / "poor_engine-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: poor-engine\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[litequeue.engines]\npoor = contract.engine.poor:PoorEngine\n")
    monkeypatch.syspath_prepend(str(package.parent))


def test_every_engine_has_a_name_and_features(rig):
    assert rig.queue.engine is rig.engine
    assert rig.engine.name in {"sqlite", "poor"}
    assert rig.engine.features <= set(Feature)
    engine: Engine = rig.engine
    assert repr(engine.jobs)


def test_an_engine_belongs_to_one_queue(rig):
    with pytest.raises(ValueError, match="has a queue already"):
        Queue(engine=rig.engine)
    assert rig.queue.engine is rig.engine
    job = rig.tasks.add.enqueue(1)
    rig.work()
    assert job.result(5) == 2


def test_an_engine_that_was_closed_is_opened_again_when_it_is_used(rig):
    job = rig.tasks.add.enqueue(1)
    rig.queue.close()
    rig.queue.close()
    rig.work()
    assert job.result(5) == 2


def test_what_a_worker_did_is_counted(rig):
    runner = rig.queue.worker(threads=2, name="mine")
    rig.tasks.add.enqueue_many([(1,), (2,)])
    assert runner.run(until_idle=True)
    assert (runner.name, runner.claimed, runner.settled, runner.released, runner.lost) == ("mine", 2, 2, 0, 0)


def test_text_names_an_installed_engine_and_what_follows_is_its_own(installed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queue = Queue("app.db", engine="poor:at this place:5")
    assert isinstance(queue.engine, PoorEngine)
    assert queue.engine.name == "at this place:5"
    assert not (tmp_path / "app.db").exists()
    assert repr(queue) == "<Queue on at this place:5 tasks=0>"


def test_an_engine_that_is_not_installed_is_refused_with_those_that_are(installed):
    with pytest.raises(ValueError, match=r"no engine named 'rich' is installed \(installed: poor\)"):
        Queue(engine="rich:postgresql://app@db/app")


@pytest.mark.parametrize(
    "option",
    [
        {"path": "app.db"},
        {"driver": "sqlite3"},
        {"durability": "normal"},
        {"foreign_keys": True},
        {"on_connect": print},
    ],
    ids=["path", "driver", "durability", "foreign_keys", "on_connect"],
)
def test_options_of_the_file_are_refused_beside_an_engine_object(option):
    engine = PoorEngine()
    with pytest.raises(ValueError, match="options of the SQLite file"):
        Queue(**option, engine=engine)
    assert engine.home is None


@pytest.mark.parametrize(
    "thing", [object(), 5, SimpleNamespace(name="half", features=frozenset())], ids=["object", "number", "half"]
)
def test_what_is_no_engine_is_refused(thing):
    with pytest.raises(TypeError, match="engine must be an engine"):
        Queue(engine=thing)


def test_an_engine_is_told_of_each_task_also_of_a_reload(tmp_path, monkeypatch):
    engine = PoorEngine()
    queue = Queue(engine=engine)
    monkeypatch.setitem(sys.modules, "engine_under_test", SimpleNamespace(queue=queue))
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "from engine_under_test import queue\n@queue.task\ndef first(): ...\n@queue.task\ndef second(): ...\n"
    (tmp_path / "tasks_to_reload.py").write_text(code)
    module = importlib.import_module("tasks_to_reload")
    assert engine.declared == ["first", "second"]
    importlib.reload(module)
    assert engine.declared == ["first", "second", "first", "second"]
    assert set(queue.tasks) == {"first", "second"}


def test_a_task_that_the_engine_refuses_is_not_declared():
    class Choosy(PoorEngine):
        def declare(self, task):
            raise ValueError("timeout must be less than 3600")

    queue = Queue(engine=Choosy())
    with pytest.raises(ValueError, match="3600"):
        queue.task(name="long", timeout="2h")(lambda: None)
    assert dict(queue.tasks) == {}


APP = """
from litequeue import Queue
from contract.engine.poor import PoorEngine

queue = Queue(engine=PoorEngine())

@queue.task
def greet():
    print("hello")

greet.enqueue()
"""


def command(folder, *arguments):
    (folder / "app.py").write_text(APP)
    program = [sys.executable, "-m", "litequeue", *arguments]
    root = Path(__file__).parents[3]
    env = {"PYTHONPATH": f"{root / 'tests'}:{root}"}
    return subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_run_runs_the_jobs_of_any_engine(tmp_path):
    done = command(tmp_path, "run", "app:queue", "--until-idle")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


@pytest.mark.parametrize(
    "words", ["status app:queue", "jobs app:queue", "backup app:queue copy.db", "doctor app:queue"]
)
def test_a_command_that_reads_the_file_says_that_there_is_none(tmp_path, words):
    done = command(tmp_path, *words.split())
    assert done.returncode == 2, done.stderr
    assert "poor" in done.stderr
    assert "Traceback" not in done.stderr
