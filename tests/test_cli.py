"""The command line, by way of click's runner; `run` and its signals as real processes."""

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from click.testing import CliRunner

from command_line import Command, make_folder
from crash.watching import until
from litequeue import Queue, __version__, cron, every
from litequeue.cli import banner, main
from litequeue.cli.look import about
from litequeue.queue import default_queue
from litequeue.scheduling.words import words
from litequeue.sqlite.parts.bulk import Bulk


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with app.py in it, where commands are run; what they import is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LITEQUEUE_PATH", raising=False)
    monkeypatch.setattr(sys, "path", sys.path[:])
    declared = dict(default_queue.tasks)
    default_queue.tasks.clear()
    before = set(sys.modules)
    yield make_folder(tmp_path)
    default_queue.close()
    default_queue.tasks.clear()
    default_queue.tasks.update(declared)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def call(folder):
    """Run one command; return its output. Fails where the exit code is another than expected."""

    def calling(*arguments, code=0):
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    return calling


@pytest.fixture
def start(folder):
    """Start a `litequeue` process in the folder."""
    started = []

    def starting(*arguments, **environment):
        started.append(Command(folder, *arguments, **environment))
        return started[-1]

    yield starting
    for command in started:
        command.clean_up()


def bytes_beside(path):
    return {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}


# enqueue


@pytest.mark.parametrize(
    ("words", "args", "kwargs"),
    [
        (["[2, 3]"], [2, 3], {}),
        (["2", "3"], [2, 3], {}),
        (["a=2", "b=3"], [2, 3], {}),
        (["2", "b=3"], [2, 3], {}),
        (['{"a": 2}'], [2], {}),
        (["--args", "[2]", "--kwargs", '{"b": 3}'], [2, 3], {}),
    ],
)
def test_enqueue_takes_arguments_as_json_or_one_by_one(call, words, args, kwargs):
    job_id = call("enqueue", "app:queue", "add", *words).strip()
    shown = json.loads(call("show", "app.db", job_id, "--json"))
    assert (shown["args"], shown["kwargs"], shown["status"]) == (args, kwargs, "queued")


def test_digits_for_a_parameter_of_text_stay_text(call):
    call("enqueue", "app:queue", "greet", "42")
    assert json.loads(call("show", "app.db", "1", "--json"))["args"] == ["42"]


def test_options_of_enqueue_reach_the_job(call):
    call(
        "enqueue", "app", "greet", "bob", "--delay", "1h", "--priority", "7", "--queue", "q", "--key", "k", "--tag", "t"
    )
    shown = json.loads(call("show", "app.db", "1", "--json"))
    assert [shown[name] for name in ("status", "priority", "queue", "key", "tags")] == ["scheduled", 7, "q", "k", ["t"]]


def test_enqueue_refuses_arguments_that_do_not_fit_and_stores_nothing(call):
    assert "a must be int" in call("enqueue", "app:queue", "add", "x", code=2)
    assert json.loads(call("jobs", "app.db", "--json")) == []


def test_enqueue_suggests_the_task_that_was_meant(call):
    assert "did you mean 'greet'?" in call("enqueue", "app:queue", "gret", "bob", code=2)


def test_enqueue_with_a_file_stores_a_call_by_name(call, start):
    assert "does not exist" in call("enqueue", "app.db", "add", "1", code=1)
    start("run", "app:queue").wait_for("serving")
    assert json.loads(call("enqueue", "app.db", "add", "2", "b=3", "--queue", "email", "--timeout", "30s")) == 5
    assert "name the app" in call("enqueue", "app.db", "add", "2", "-I", "app", code=2)


def test_a_command_tells_which_version_of_a_task_waits(call):
    job_id = call("enqueue", "app:queue", "add", "1").strip()
    call("enqueue", "app.db", "add@2", "1", "--driver", "sqlite3")
    assert "add (version 2)" in call("show", "app.db", "2")
    shown = json.loads(call("show", "app.db", job_id, "--json"))
    assert (shown["task"], shown["version"]) == ("add", 1)
    assert len(json.loads(call("jobs", "app.db", "--task", "add", "--json"))) == 2
    assert {(row["task"], row["version"]) for row in json.loads(call("status", "app.db", "--json"))["unserved"]} == {
        *[("add", 1), ("add", 2)],
    }


def test_enqueue_waits_for_the_result(call, start):
    start("run", "app:queue").wait_for("serving")
    assert json.loads(call("enqueue", "app:queue", "add", "2", "3", "--timeout", "30s")) == 5


def test_enqueue_that_waits_for_nobody_says_so_and_exits_1(call):
    assert "no worker is running" in call("enqueue", "app:queue", "add", "2", "--timeout", "10ms", code=1)


# finding the app or the file


def test_the_one_queue_of_a_module_is_found_by_the_modules_name(call):
    assert call("enqueue", "app", "add", "1").strip() == "1"


def test_tasks_on_the_default_queue_are_found_by_their_modules_name(call, folder):
    (folder / "script.py").write_text("from litequeue import task\n@task\ndef hi(): ...\n")
    call("enqueue", "script", "hi")
    assert "hi" in call("jobs", "litequeue.db")
    assert "hi" in call("jobs")


def test_the_default_queue_is_where_the_environment_says(call, monkeypatch):
    call("enqueue", "app", "add", "1")
    monkeypatch.setenv("LITEQUEUE_PATH", "app.db")
    assert json.loads(call("show", "1", "--json"))["task"] == "add"


def test_several_queues_in_a_module_are_listed(call, folder):
    (folder / "two.py").write_text("from litequeue import Queue\na = Queue('a.db')\nb = Queue('b.db')\n")
    assert "two:a, two:b" in call("jobs", "two", code=2)


@pytest.mark.parametrize(("typo", "meant"), [("apq:queue", "'app'"), ("app:quue", "'queue'")])
def test_a_typo_gets_a_suggestion(call, typo, meant):
    assert f"did you mean {meant}?" in call("run", typo, code=2)


@pytest.mark.parametrize("command", [("status", ""), ("jobs", ""), ("show", "", "1"), ("status", "a\0b")], ids=str)
def test_what_is_no_path_is_refused_with_advice(call, command):
    assert "is not a path; name the queue's file (app.db) or the app (app:queue)" in call(*command, code=2)


def test_a_page_before_what_no_id_can_be_is_refused(call, folder):
    assert "is not in the range" in call("jobs", "app:queue", "--before", "9" * 30, code=2)


def test_an_error_inside_the_users_module_shows_its_traceback_and_none_of_ours(start, folder):
    (folder / "broken.py").write_text("import app\n\ndef f():\n    import nothing_there\n\nf()\n")
    command = start("run", "broken:queue")
    assert command.ends() == 1
    assert 'broken.py", line 4' in command.output
    assert "ModuleNotFoundError" in command.output
    assert "litequeue/cli" not in command.output


def test_a_refusal_while_the_module_is_imported_is_told_without_a_traceback(call, folder):
    (folder / "elsewhere.py").write_text("from litequeue import Queue\nqueue = Queue('no/such/folder.db')\n")
    output = call("status", "elsewhere:queue", code=1)
    assert output.startswith("Error: the folder")
    assert "elsewhere.py:2" in output


COMMANDS = ["status", "jobs", "show", "retry", "cancel", "schedules", "prune", "doctor"]


def arguments_of(command, target):
    return [command, target, "1"] if command in {"show", "retry", "cancel"} else [command, target]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("driver", ["apsw", "sqlite3"])
def test_a_database_without_our_tables_is_left_as_it_is(call, tmp_path, command, mode, driver):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE other (x)")
    before = bytes_beside(path)
    assert "holds none of litequeue's tables" in call(*arguments_of(command, "other.db"), "--driver", driver, code=1)
    assert bytes_beside(path) == before
    assert not (tmp_path / "other.db-litequeue").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_does_not_exist_is_not_made(call, tmp_path, command):
    before = sorted(tmp_path.iterdir())
    assert "does not exist" in call(*arguments_of(command, "nothing.db"), code=1)
    assert sorted(tmp_path.iterdir()) == before


# looking


@pytest.fixture
def worked(call, start):
    """A queue on which one job has succeeded and one has failed, and one is scheduled."""
    call("enqueue", "app", "add", "2", "3", "--tag", "sum")
    call("enqueue", "app", "bad")
    call("enqueue", "app", "greet", "bob", "--delay", "1h")
    assert start("run", "app", "--until-idle").ends() == 0


@pytest.mark.parametrize("command", ["status", "jobs", "schedules", "doctor"])
def test_whatever_lists_does_so_in_json_too(call, worked, command):
    for target in ("app.db", "app:queue"):
        assert json.loads(call(command, target, "--json"))
        assert call(command, target)


def test_listings_tell_the_try_and_of_how_many_where_the_app_is_known(call, worked):
    for target, tries, most in (("app:queue", "1 of 3", 3), ("app.db", "1", None)):
        assert re.search(rf"^try +{tries}, run 1$", call("show", target, "1"), re.MULTILINE)
        assert re.search(rf"^ *1 +add +email +succeeded +{tries} +", call("jobs", target), re.MULTILINE)
        assert re.search(r"^ *3 +greet +default +scheduled +- +", call("jobs", target), re.MULTILINE)
        shown = json.loads(call("show", target, "1", "--json"))
        assert [shown[name] for name in ("tries", "max_tries", "attempt")] == [1, most, 1]


def test_status_tells_depth_failures_and_durations(call, worked):
    found = json.loads(call("status", "app.db", "--json"))
    default, email = found["queues"]
    assert (default["failed"], default["scheduled"], email["succeeded"]) == (1, 1, 1)
    assert [row["error"] for row in found["recent_failures"]] == ["ValueError: no good"]
    assert {row["task"] for row in found["tasks"]} == {"add", "bad"}
    assert found["tasks"][0]["p95_seconds"] >= 0


FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 123456)
INSERT INTO litequeue_jobs (task, queue, payload, state, priority, run_at, created_at, finished_at)
SELECT 'add', 'default', X'5b5d', 4, 0, 0, 0, 0 FROM n
"""


def test_status_says_that_the_number_of_succeeded_jobs_in_a_large_file_is_an_estimate(call, folder):
    with Queue(folder / "app.db") as queue, queue.transaction() as db:
        db.execute(FILL)
    assert "about 120,000" in call("status", "app.db")
    [found] = json.loads(call("status", "app.db", "--json"))["queues"]
    assert (found["succeeded_exact"], found["succeeded"]) == (False, pytest.approx(123_456, rel=0.1))
    [found] = json.loads(call("status", "app.db", "--json", "--exact"))["queues"]
    assert (found["succeeded_exact"], found["succeeded"]) == (True, 123_456)
    exact = call("status", "app.db", "--exact")
    assert "123456" in exact
    assert "about" not in exact


def enqueue_on_lanes(folder, lanes, queues):
    with Queue(folder / "app.db") as queue:
        tasks = [queue.task(name=f"task{number}")(lambda: None) for number in range(lanes)]
        for number, task in enumerate(tasks):
            task.using(queue=f"q{number % queues}").enqueue_many([()] * (3 if number == 44 else 1))


def test_status_and_doctor_show_the_largest_of_many_queues_and_tasks_and_how_many_more(call, folder):
    enqueue_on_lanes(folder, 60, 45)
    text = call("status", "app.db")
    assert text.index("q44 ") < text.index("q0 ")
    assert "and 25 more queues" in text
    assert "3 jobs of `task44`" in text
    assert "and 40 more such tasks and queues" in text
    assert len(text.splitlines()) < 60
    assert len(json.loads(call("status", "app.db", "--json"))["unserved"]) == 60
    checked = call("doctor", "app.db", code=0)
    assert "and 40 more like these" in checked
    assert len(json.loads(call("doctor", "app.db", "--json"))) > 60


def test_jobs_in_json_have_arguments_and_errors_and_leave_out_what_was_pruned(call, worked):
    succeeded, failed = sorted(
        (job for job in json.loads(call("jobs", "app.db", "--json")) if job["attempt"]), key=lambda job: job["task"]
    )
    assert (succeeded["args"], succeeded["result"], failed["errors"][0]["type"]) == ([2, 3], 5, "ValueError")


def test_a_listing_of_people_ends_in_time_and_says_how_to_go_on(call, folder, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.jobs.listing.FIRST_BLOCK", 10)
    with Queue(folder / "app.db") as queue:
        queue.task(name="rare")(lambda: None).enqueue()
        queue.task(name="add")(lambda: None).enqueue_many([()] * 20)
    stopped = call("jobs", "app.db", "--task", "rare", "--timeout", "0s")
    assert stopped == "no jobs that match were found yet\nstopped after the time limit; to look further: --before 12\n"
    assert "rare" in call("jobs", "app.db", "--task", "rare", "--before", "12")
    assert json.loads(call("jobs", "app.db", "--task", "rare", "--json"))[0]["task"] == "rare"


@pytest.mark.parametrize(
    ("number", "rounded"),
    [(0, 0), (7, 7), (99, 99), (123, 120), (996, 1000), (123_456, 120_000), (1_950_000, 2_000_000)],
)
def test_an_estimate_is_rounded_to_two_digits(number, rounded):
    assert about(number) == rounded


def test_status_names_ready_jobs_that_no_living_worker_takes(call, start):
    call("enqueue", "app", "add", "1")
    worker = start("run", "app:queue", "--queues", "other")
    worker.wait_for("serving")
    worker.signal(signal.SIGTERM)
    worker.ends()
    [row] = json.loads(call("status", "app.db", "--json"))["unserved"]
    assert (row["task"], row["queue"], row["jobs"]) == ("add", "email", 1)
    said = "1 job of `add` in queue `email` is waiting, and no worker is running. Start one: litequeue run app:queue"
    assert said in call("status", "app.db")


def test_status_check_exits_1_where_no_worker_is_alive_or_jobs_wait_too_long(call, start):
    assert "no worker is running" in call("status", "app:queue", "--check", code=1)
    call("enqueue", "app", "gated", "--queue", "other")
    start("run", "app:queue", "--queues", "other").wait_for("begins")
    call("enqueue", "app", "add", "1", "--at", "2001-01-01T00:00:00Z")
    assert "no worker" not in call("status", "app.db", "--check", "--max-age", "1h")
    assert "the oldest job has waited" in call("status", "app.db", "--max-age", "0s", code=1)


def test_jobs_are_narrowed_by_status_task_queue_and_tag_and_paged(call, worked):
    def ids(*options):
        return [job["id"] for job in json.loads(call("jobs", "app.db", "--json", *options))]

    assert ids() == ["3", "2", "1"]
    assert ids("--status", "failed") == ids("--task", "bad") == ["2"]
    assert ids("--queue", "email") == ids("--tag", "sum") == ["1"]
    assert ids("--limit", "1", "--before", "3") == ["2"]


def test_show_tells_the_error_with_its_traceback(call, worked):
    shown = call("show", "app.db", "2")
    assert 'raise ValueError("no good")' in shown
    assert re.search(r"^run 1, .*: ValueError: no good$", shown, re.MULTILINE)
    assert json.loads(call("show", "app.db", "1", "--json"))["result"] == 5


def test_a_job_that_is_not_there_is_an_error_without_a_traceback(call, worked):
    assert call("show", "app.db", "99", code=1).startswith("Error: no job 99")


# changing


def test_retry_queues_a_failed_job_anew_and_refuses_others(call, worked):
    assert call("retry", "app.db", "2") == "retried job 2\n"
    assert "job 1 succeeded" in call("retry", "app.db", "1", code=1)
    assert json.loads(call("jobs", "app.db", "--status", "queued", "--json"))[0]["id"] == "2"


def test_retry_and_cancel_take_all_or_those_of_a_task_or_queue(call, worked):
    assert json.loads(call("retry", "app.db", "--all", "--task", "add", "--json"))["retried"] == []
    assert json.loads(call("retry", "app.db", "--all", "--json"))["retried"] == ["2"]
    assert json.loads(call("cancel", "app.db", "--all", "--task", "greet", "--json"))["cancelled"] == ["3"]
    assert json.loads(call("cancel", "app.db", "--all", "--queue", "default", "--json"))["cancelled"] == ["2"]


def test_retry_and_cancel_want_ids_or_all(call, worked):
    for command in ("retry", "cancel"):
        call(command, "app.db", code=2)
        call(command, "app.db", "1", "--all", code=2)
        call(command, "app.db", "1", "x", code=2)


def test_cancel_with_wait_tells_of_jobs_that_do_not_end_as_cancelled(call, folder):
    begun, go_on = threading.Event(), threading.Event()

    def waits():
        begun.set()
        go_on.wait(20)

    call("enqueue", "app", "add", "1")
    queue = sys.modules["app"].queue
    running, queued = queue.task(name="waits")(waits).enqueue(), queue.tasks["add"].using(delay="1h").enqueue(2)
    with queue.worker(threads=1):
        assert begun.wait(20)
        told = call("cancel", "app.db", running.id, queued.id, "--wait", "0.05s", code=1)
        assert f"cancelled job {queued.id}" in told
        assert f"job {running.id} (waits) was asked to end and still runs: run 1" in told
        go_on.set()
        assert running.result(20) is None
    assert "has already ended" in call("cancel", "app.db", running.id, "--wait", "1s", code=1)
    assert "not for --all" in call("cancel", "app.db", "--all", "--wait", "1s", code=2)


def test_show_tells_the_place_of_a_queued_job_in_its_queue(call):
    for number in range(3):
        call("enqueue", "app", "add", str(number))
    assert "the next of its queue" in call("show", "app.db", "1")
    assert "behind 1 job of its queue" in call("show", "app.db", "2")
    assert "behind 2 jobs of its queue" in call("show", "app.db", "3")
    assert json.loads(call("show", "app.db", "3", "--json"))["position"] == 2
    call("cancel", "app.db", "2")
    assert json.loads(call("show", "app.db", "2", "--json"))["position"] is None


def test_more_jobs_than_one_transaction_holds_are_cancelled_and_pruned(call, folder, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.parts.bulk.CHUNK", 10)
    call("enqueue", "app", "add", "1")
    sys.modules["app"].queue.tasks["add"].enqueue_many([(n,) for n in range(34)])
    assert call("cancel", "app.db", "--all") == "cancelled 35 jobs\n"
    monkeypatch.setattr("litequeue.core.clock.SystemClock.now", lambda _: 9e9)
    assert call("prune", "app.db") == "deleted 35 jobs\n"
    assert json.loads(call("prune", "app.db", "--json")) == {"deleted": 0, "given_back": 0}


def test_prune_gives_the_room_of_what_it_deletes_back(call, folder, monkeypatch):
    call("enqueue", "app", "add", "1")
    sys.modules["app"].queue.task(name="long")(lambda text: text).enqueue_many([("x" * 50_000,)] * 40)
    call("cancel", "app.db", "--all")
    monkeypatch.setattr("litequeue.core.clock.SystemClock.now", lambda _: 9e9)
    assert re.fullmatch(r"deleted 41 jobs and gave 1\.\d MiB back\n", call("prune", "app.db"))


@pytest.fixture
def refusing(call, folder):
    """A file with 12 failed jobs whose keys others hold now, and one more failed job."""
    call("status", "app")  # imports it
    queue = sys.modules["app"].queue

    @queue.task(name="refuse", unique="{key}")
    def refuse(key, value):
        raise ValueError

    failing = [refuse.enqueue(str(number), 1) for number in range(13)]
    queue.worker(threads=1).run(until_idle=True)
    for number in range(12):
        refuse.using(delay="1h").enqueue(str(number), 1)
    assert {job.refresh().status for job in failing} == {"failed"}


def test_refusals_are_counted_with_three_examples_of_each_kind(call, refusing):
    output = call("retry", "app.db", "--all", code=1)
    retried, *lines = output.splitlines()
    assert retried == "retried job 13"
    assert [line.partition("key ")[2].partition(" is")[0] for line in lines[:3]] == [
        f"'{number}' of task 'refuse'" for number in (11, 10, 9)
    ]
    assert lines[3:] == ["       and 9 more: other jobs hold their keys now"]


def test_json_has_every_refusal(call, refusing):
    text, _, _ = call("retry", "app.db", "--all", "--json", code=1).partition("Error:")
    answer = json.loads(text)
    assert (answer["retried"], sorted(answer["refused"], key=int)) == (["13"], [str(n) for n in range(1, 13)])


def test_an_interrupted_cancel_of_all_says_what_was_done(call, folder, monkeypatch):
    call("enqueue", "app", "add", "1")
    sys.modules["app"].queue.tasks["add"].enqueue_many([(n,) for n in range(24)])
    monkeypatch.setattr("litequeue.sqlite.parts.bulk.CHUNK", 10)
    change = Bulk._cancel_each

    def interrupted(bulk, chunk, ended):
        if "1" in chunk:
            raise KeyboardInterrupt
        return change(bulk, chunk, ended)

    monkeypatch.setattr(Bulk, "_cancel_each", interrupted)
    output = call("cancel", "app.db", "--all", code=1)
    assert "at least 20 jobs were cancelled, and stay so; run it again for the rest" in output
    monkeypatch.setattr(Bulk, "_cancel_each", change)
    assert call("cancel", "app.db", "--all") == "cancelled 5 jobs\n"


def test_schedules_are_listed_paused_resumed_triggered_and_removed(call, worked):
    listed = call("schedules", "app.db")
    assert words(cron("0 6 * * *", tz="Europe/Paris")) in listed
    [then] = [line for line in listed.splitlines() if line.startswith("    then ")]
    assert then.count(",") == 3  # the first of the next five stands in the row
    shown = call("schedules", "app.db", "show", "daily")
    assert "overlap    skip, catch up one" in shown
    assert re.search(r"^arguments  \(.*\)$", shown, re.MULTILINE)
    call("schedules", "app.db", "pause", "daily")
    assert json.loads(call("schedules", "app.db", "--json"))[0]["paused"]
    call("schedules", "app.db", "resume", "daily", "--run-missed")
    assert "--run-missed is for resume" in call("schedules", "app.db", "pause", "daily", "--run-missed", code=2)
    job_id = call("schedules", "app.db", "trigger", "daily").strip()
    assert json.loads(call("show", "app.db", job_id, "--json"))["schedule"] == "daily"
    call("schedules", "app.db", "remove", "daily")
    assert json.loads(call("schedules", "app.db", "list", "--json")) == []


def test_show_tells_the_call_of_a_schedule_and_its_whole_trigger(call, worked):
    minutes = ",".join(str(minute) for minute in range(0, 60, 7))
    with Queue("app.db") as queue:
        other = queue.task(name="other", mask=["token"])(lambda name, token: None)
        queue.schedules.add("long", other.s("ada", token="hush"), cron(f"{minutes} 1-5,9,11 1,15,20 2-9 mon-fri"))
    shown = call("schedules", "app.db", "show", "long")
    assert 'arguments  ("ada", "***")' in shown
    assert f"{minutes} 1-5,9,11 1,15,20 2-9 mon-fri" in shown
    for row in (
        json.loads(call("schedules", "app.db", "show", "long", "--json")),
        *json.loads(call("schedules", "app.db", "--json"))[-1:],
    ):
        assert (row["args"], row["kwargs"]) == (["ada", "***"], {})


def test_schedules_show_the_options_of_their_calls_and_doctor_finds_wrong_ones(call, worked):
    with Queue("app.db") as queue:
        other = queue.task(name="other", mask=["token"])(lambda token: None)
        keyed = other.using(key="k", key_scope="queued", retries=3, timeout=None, delay=60, tags=["a", "b"])
        queue.schedules.add("told", keyed.using(on_failure=other.si("hush")).s("hush"), every("1h"))
    said = "delay 1m, retries 3, timeout none, tags a b, key k, key_scope queued, on_conflict return, on_failure other"
    assert re.search(rf"^options +{said}$", call("schedules", "app.db", "show", "told"), re.MULTILINE)
    assert "    with delay 1m, retries 3" in call("schedules", "app.db")
    row = json.loads(call("schedules", "app.db", "--json"))[-1]["options"]
    assert (row["timeout"], row["on_failure"]) == (None, {"task": "other", "queue": "default", "priority": 0})
    with sqlite3.connect("app.db") as db:
        db.execute("UPDATE litequeue_schedules SET options = x'5b' WHERE name = 'told'")
    db.close()
    assert "not understood" in call("schedules", "app.db", "show", "told")
    assert "told cannot fire" in call("doctor", "app.db", code=1)


def test_show_of_a_waiting_job_says_for_which_one_it_waits(call, worked):
    with Queue("app.db") as queue:
        other = queue.task(name="other")(lambda: None)
        queue.schedules.add("serial", other.s(), every("1h"), overlap="queue")
    first, second, third = (call("schedules", "app.db", "trigger", "serial").strip() for _ in range(3))
    said = f"it waits for job {first} of the same schedule (serial) to end"
    assert re.search(rf"^why +{re.escape(said)}$", call("show", "app.db", second), re.MULTILINE)
    assert json.loads(call("show", "app.db", third, "--json"))["why"] == said
    assert "no worker is running" in json.loads(call("show", "app.db", first, "--json"))["why"]


def test_the_next_times_of_a_schedule_have_fractions_where_they_need_them_and_a_zone(call, worked):
    with Queue("app.db") as queue:
        other = queue.task(name="other")(lambda: None)
        queue.schedules.add("fast", other.s(), every(0.25, first_at="2100-01-01T00:00:00Z"))
    times = r"then +(\S+ \d\d:\d\d:\d\d\.(25|50|75|00)0(, )?){4} \w+$"
    assert re.search(times, call("schedules", "app.db", "show", "fast"), re.MULTILINE)
    assert re.search(
        r"^then +(\S+ \d\d:\d\d:00(, )?){4} \w+$", call("schedules", "app.db", "show", "daily"), re.MULTILINE
    )


@pytest.fixture
def many_schedules(call, worked):
    """A file with 60 schedules beside `daily`, whose task no worker has."""
    with Queue("app.db") as queue:
        other = queue.task(name="other")(lambda: None)
        for number in range(60):
            queue.schedules.add(f"s{number:02}", other.s(), every("1h"))
        assert repr(queue.schedules) == "<Schedules daily, s00, s01 and 58 more>"


def test_of_many_schedules_the_first_are_listed(call, many_schedules):
    lines = call("schedules", "app.db").splitlines()
    assert (len(lines), lines[-1]) == (102, "and 11 more; --limit shows more, --json all")
    assert len(call("schedules", "app.db", "--limit", "100").splitlines()) == 123
    assert len(json.loads(call("schedules", "app.db", "--json"))) == 61


def test_the_doctor_names_three_of_many_schedules(call, many_schedules):
    found = [each["text"] for each in json.loads(call("doctor", "app.db", "--json")) if each["check"] == "schedules"]
    assert (len(found), found[-1]) == (4, "and 58 more schedules")


def test_a_worker_that_starts_tells_the_first_of_many_schedules(call, many_schedules):
    with Queue("app.db") as queue:
        queue.task(name="other")(lambda: None)
        found = banner.serving(queue.worker(), queue, queue.engine)
    assert (len(found["schedules"]), found["more_schedules"]) == (40, 20)
    assert "s39 (every 1h, in" in banner._banner(found, 0.0)


def test_a_declared_schedule_that_is_not_in_the_file_yet_is_named(call):
    assert "until a worker starts: daily" in call("schedules", "app:queue")


def test_an_unknown_schedule_or_action_is_an_error(call, worked):
    assert "no schedule named 'weekly'" in call("schedules", "app.db", "pause", "weekly", code=1)
    assert "no action 'stop'" in call("schedules", "app.db", "stop", "daily", code=2)


# doctor


def levels(output, check):
    return {finding["level"] for finding in json.loads(output) if finding["check"] == check}


def test_doctor_finds_a_sound_file_sound(call, worked):
    output = call("doctor", "app.db", "--json")
    for check in ("file", "file system", "library", "mode", "journal", "schema", "WAL", "integrity", "jobs"):
        assert levels(output, check) == {"ok"}, check


def test_doctor_fails_a_damaged_file(call, worked, folder):
    with (folder / "app.db").open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 8192)
    output = call("doctor", "app.db", "--json", code=1)
    assert "fail" in {finding["level"] for finding in json.loads(output)}


def test_doctor_notes_what_others_may_open_and_warns_of_jobs_in_vain(call, worked, folder):
    (folder / "app.db").chmod(0o644)
    call("retry", "app.db", "2")
    output = call("doctor", "app.db", "--json", "--quick")
    assert levels(output, "mode") == {"note"}
    assert levels(output, "jobs") == {"warn"}


def test_doctor_warns_of_a_worker_that_died(call, start):
    worker = start("run", "app:queue")
    call("enqueue", "app", "gated")
    worker.wait_for("begins")
    worker.signal(signal.SIGKILL)
    worker.ends()
    assert "is dead; its 1 jobs are released" in call("doctor", "app.db")


# doctor --repair


def findings(output, level="fail"):
    return {finding["check"] for finding in json.loads(output) if finding["level"] == level}


def spoil(folder, root):
    """Overwrite the page at which a table or an index begins."""
    with closing(sqlite3.connect(folder / "app.db")) as db:
        db.execute("PRAGMA wal_checkpoint(truncate)")
        [(page,)] = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (root,)).fetchall()
        [(size,)] = db.execute("PRAGMA page_size").fetchall()
    with (folder / "app.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("command", ["doctor", "status", "jobs", "backup"])
def test_a_name_that_cannot_be_printed_is_told_all_the_same(folder, command):
    asked = [sys.executable, "-m", "litequeue", command, os.fsdecode(b"no\xff.db"), *["copy"] * (command == "backup")]
    done = subprocess.run(asked, cwd=folder, capture_output=True, check=False)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    assert b"no\\udcff.db" in done.stdout + done.stderr


def test_repair_builds_a_damaged_index_anew_after_a_copy(call, worked, folder):
    before = call("jobs", "app.db", "--json")
    spoil(folder, "litequeue_jobs_ended")
    assert "integrity" in findings(call("doctor", "app.db", "--json", code=1))
    output = call("doctor", "app.db", "--repair", "--json")
    assert (findings(output), findings(output, "note") >= {"backup", "repaired"}) == (set(), True)
    assert call("jobs", "app.db", "--json") == before
    [copy] = [path.name for path in folder.iterdir() if "before-repair" in path.name and path.is_file()]
    assert "integrity" in findings(call("doctor", copy, "--json", code=1))


def test_repair_says_what_it_cannot_mend(call, worked, folder):
    spoil(folder, "litequeue_jobs")
    output = call("doctor", "app.db", "--repair", "--json", code=1)
    assert "integrity" in findings(output)
    assert "put a backup in its place" in output


def test_repair_of_the_whole_file_waits_for_no_worker(call, start, worked, folder):
    spoil(folder, "litequeue_jobs_key")  # which this worker does not read: one that meets damage ends
    worker = start("run", "app:queue")
    until(lambda: json.loads(call("status", "app.db", "--json"))["workers"], "the worker is on record")
    assert "stop them first" in call("doctor", "app.db", "--repair", code=1)
    worker.signal(signal.SIGTERM)
    worker.ends()
    call("doctor", "app.db", "--repair")


def test_repair_strikes_off_the_dead_and_queues_what_they_were_running(call, start, folder):
    worker = start("run", "app:queue")
    call("enqueue", "app", "gated")
    worker.wait_for("begins")
    worker.signal(signal.SIGKILL)
    worker.ends()
    output = call("doctor", "app.db", "--repair")
    assert "1 dead workers were deregistered" in output
    assert json.loads(call("jobs", "app.db", "--json"))[0]["status"] == "queued"
    assert "is dead" not in output.partition("were deregistered")[2]


def test_repair_mends_what_others_and_clocks_have_done(call, worked, folder):
    with closing(sqlite3.connect(folder / "app.db")) as db:
        db.execute("DELETE FROM litequeue_jobs WHERE state = 5")
        db.execute("UPDATE litequeue_schedules SET next_at = next_at + 1e8")
        db.execute("UPDATE litequeue_jobs SET state = 3, worker = 99, attempt = 1, started_at = 1 WHERE state < 3")
        db.commit()
        db.execute("PRAGMA journal_mode = delete")
    found = call("doctor", "app.db", "--json", code=1)
    assert findings(found) == {"journal", "schedules"}
    assert {"orphans", "jobs"} <= findings(found, "warn")
    output = call("doctor", "app.db", "--repair", "--json")
    assert findings(output) == set()
    assert "orphans" not in findings(output, "warn")
    assert "not registered" not in output.partition('"repaired"')[2].rpartition('"repaired"')[2]


def test_repair_of_a_sound_file_changes_nothing(call, worked, folder):
    before = {path.name for path in folder.iterdir()}
    assert findings(call("doctor", "app.db", "--repair", "--json"), "note") == set()
    assert {path.name for path in folder.iterdir()} == before


# run


def test_run_says_what_it_serves_and_then_a_line_a_job_with_its_time(call, start, folder):
    call("enqueue", "app", "add", "1")
    command = start("run", "app:queue", "--until-idle", "--threads", "3")
    assert command.ends() == 0
    for part in ("app.db (apsw, SQLite", "durability normal", "add (queue email, retries 2)", "3 threads, 100 corou"):
        assert part in command.output
    assert "daily (cron 0 6 * * * Europe/Paris, in " in command.output
    command.wait_for(r"INFO +add\[1\] succeeded in [0-9.]+m?s$")


def test_json_logs_are_one_object_a_line(call, start):
    call("enqueue", "app", "bad")
    command = start("run", "app:queue", "--until-idle", "--log-format", "json")
    assert command.ends() == 0
    serving, *others = map(json.loads, command.lines)
    failed = next(line for line in others if "job_id" in line)  # a slow disk has a line of its own
    assert (serving["event"], serving["threads"] > 0) == ("serving", True)
    assert [failed[name] for name in ("job_id", "task", "outcome", "try", "queue")] == [
        "1",
        "bad",
        "failed",
        1,
        "default",
    ]
    assert failed["seconds"] >= 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_running_job_end_and_exits_0(call, start, folder, number):
    command = start("run", "app:queue")
    call("enqueue", "app", "gated")
    command.wait_for("begins")
    command.signal(number)
    command.wait_for("finishing running jobs")
    (folder / "gate").touch()
    assert command.ends() == 0
    assert json.loads(call("show", "app.db", "1", "--json"))["result"] == "through"


def test_the_second_signal_puts_the_job_back_and_exits_75(call, start):
    command = start("run", "app:queue")
    call("enqueue", "app", "gated")
    command.wait_for("begins")
    command.signal(signal.SIGTERM)
    command.wait_for("finishing running jobs")
    command.signal_until(signal.SIGTERM, "releasing running jobs now")
    assert command.ends() == 75
    shown = json.loads(call("show", "app.db", "1", "--json"))
    assert (shown["status"], shown["failures"]) == ("queued", 0)


def test_a_job_that_outlasts_the_grace_is_released(call, start):
    command = start("run", "app:queue", "--grace", "10ms")
    call("enqueue", "app", "gated")
    command.wait_for("begins")
    command.signal(signal.SIGTERM)
    assert command.ends() == 75


def test_run_takes_the_tasks_of_other_modules_with_it(start, folder):
    (folder / "more.py").write_text("from app import queue\n@queue.task\ndef extra(): ...\n")
    command = start("run", "app:queue", "-I", "more", "--until-idle")
    assert command.ends() == 0
    command.wait_for("extra")


def test_logging_that_the_app_has_set_up_is_kept(call, start, folder):
    (folder / "logs.py").write_text(
        "import logging\nlogging.basicConfig(format='mine %(message)s')\nfrom app import *\n"
    )
    call("enqueue", "app", "add", "1")
    command = start("run", "logs:queue", "--until-idle")
    assert command.ends() == 0
    assert len(command.wait_for(r"add\[1\] succeeded")) == len(command.wait_for(r"^mine add\[1\] succeeded")) == 1


def test_run_wants_an_app(call):
    assert "app:queue" in call("run", code=2)
    assert "is a file" in call("run", "app.db", code=2)
    assert "'app'" in call("run", "app.py", code=2)


def test_backup_copies_to_a_file_or_into_a_folder_and_overwrites_nothing(call, worked, folder):
    assert "copied to" in call("backup", "app.db", "copy.db")
    assert call("jobs", "copy.db", "--json") == call("jobs", "app.db", "--json")
    assert "already exists" in call("backup", "app.db", "copy.db", code=1)
    (folder / "copies").mkdir()
    made = json.loads(call("backup", "app:queue", "copies", "--json"))
    assert made["bytes"] == os.stat(made["copy"]).st_size
    assert [path.name for path in (folder / "copies").iterdir()] == [os.path.basename(made["copy"])]


def test_backup_wants_a_queue_and_a_new_name(call, worked, folder):
    call("backup", code=2)
    assert "not 3 arguments" in call("backup", "app.db", "b.db", "c.db", code=2)
    assert "does not exist" in call("backup", "nothing.db", "b.db", code=1)
    assert not (folder / "b.db").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux")
def test_output_that_cannot_be_written_is_told_in_a_line(call, worked):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "litequeue", "jobs", "app.db", "--json"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("Error: the system refused: [Errno 28]")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "options",
    ["", *(pytest.param(option, marks=pytest.mark.slow) for option in ("--log-format json", "--processes 1"))],
)
def test_a_closed_standard_stream_stops_no_worker(call, folder, closed, options):
    """What is opened next would get its number, and what is printed would go into that."""
    call("enqueue", "app", "add", "1")
    line = f'exec "{sys.executable}" -m litequeue run app:queue --until-idle {options} {closed}'
    assert subprocess.run(["/bin/sh", "-c", line], cwd=folder, timeout=30, check=False).returncode == 0
    assert "succeeded" in call("jobs", "app.db")


@pytest.mark.parametrize("arguments", ["status app.db", "--help", "no-such-command"])
def test_a_closed_standard_stream_stops_no_command(worked, folder, arguments):
    line = f'exec "{sys.executable}" -m litequeue {arguments} >&- 2>&-'
    ended = subprocess.run(["/bin/sh", "-c", line], cwd=folder, timeout=30, check=False)
    assert ended.returncode == (2 if arguments == "no-such-command" else 0)


def in_a_terminal(*arguments, **environment):
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | environment
    subprocess.run([sys.executable, "-m", "litequeue", *arguments], stdout=theirs, env=environment, check=False)
    os.close(theirs)
    try:
        return os.read(ours, 65_536).decode()
    finally:
        os.close(ours)


@pytest.mark.parametrize("command", ["status", "jobs", "doctor"])
def test_colours_are_for_terminals_without_no_color(call, worked, command):
    assert "\x1b[" in in_a_terminal(command, "app.db")
    assert "\x1b[" not in in_a_terminal(command, "app.db", NO_COLOR="1")
    assert "\x1b[" not in call(command, "app.db")


# the rest


def test_the_version_is_told(call):
    assert __version__ in call("--version")


def test_every_command_has_a_help_page_and_stands_in_the_docs(call, request):
    page = (request.config.rootpath / "docs" / "cli.md").read_text()
    for name, command in main.commands.items():
        assert call(name, "--help")
        assert f"litequeue {name}" in page
        options = [
            o.opts[-1] for o in command.params if o.param_type_name == "option" and not getattr(o, "hidden", False)
        ]
        assert [option for option in options if f"`{option}" not in page] == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_a_script(call, shell):
    assert "_LITEQUEUE_COMPLETE" in call("completion", shell)


def test_completion_offers_modules_commands_and_files(start):
    command = start(_LITEQUEUE_COMPLETE="zsh_complete", COMP_WORDS="litequeue run ap", COMP_CWORD="2")
    command.ends()
    assert {"app", "file"} <= set(command.lines)


def test_a_module_that_leaves_on_import_is_no_success(call, folder):
    (folder / "app.py").write_text("import sys\nsys.exit(0)\n")
    said = call("status", "app:queue", code=1)
    assert "SystemExit: 0" in said


def test_positional_arguments_come_as_words_or_as_json_and_not_both(call):
    said = call("enqueue", "app", "add", "1", "--args", "[1]", code=2)
    assert "as words or with --args, not both" in said
