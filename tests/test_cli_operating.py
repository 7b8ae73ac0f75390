"""The commands `limits`, `pause` and `resume`, and what `status`, `show` and `doctor` tell of them."""

import json

import pytest
from click.testing import CliRunner

from litequeue import Queue
from litequeue.cli import main


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run one command in a folder with a file; return its output. Fails where the exit code is another."""
    monkeypatch.chdir(tmp_path)
    with Queue("app.db", durability="normal") as queue:
        limit = queue.limit("openai", concurrency=1)
        ask = queue.task(name="ask", queue="email", limits=[limit])(lambda: None)
        queue.task(name="mail", limit_key="{user}", concurrency=1)(lambda user: None)
        with queue.worker():
            ask.enqueue().result(10)
        ask.enqueue()

    def calling(*arguments, code=0):
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    return calling


def test_limits_lists_what_is_allowed_taken_and_waiting(call):
    head, mail, openai = call("limits", "app.db").splitlines()
    assert head.split() == ["NAME", "ALLOWED", "TAKEN", "WAITING", "TASKS"]
    assert mail.split() == ["mail", "1", "at", "once", "for", "each", "key", "0", "running", "0", "mail"]
    assert openai.split() == ["openai", "1", "at", "once", "0", "of", "1", "running", "1", "ask"]
    _, found = json.loads(call("limits", "app.db", "--json"))
    assert (found["name"], found["allowed"]["concurrency"], found["tasks"], found["waiting"]) == (
        "openai",
        1,
        ["ask"],
        1,
    )


def test_a_limit_is_set_and_reset(call):
    said = call("limits", "app.db", "set", "openai", "--concurrency", "3", "--rate", "250/m", "--smooth")
    assert said == "openai allows 3 at once, 250/m smooth\n"
    assert "1 at once -> 3 at once, 250/m smooth, set " in call("limits", "app.db")
    assert "openai allows 250/m smooth\n" in call("limits", "app.db", "set", "openai", "--concurrency", "none")
    assert json.loads(call("limits", "app.db", "reset", "openai", "--json"))["changed"] is True
    assert call("limits", "app.db", "reset", "openai") == "openai allows 1 at once already\n"
    assert call("limits", "app.db", "remove", "openai") == "removed openai\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("set", "openai"), 2, "give concurrency="),
        (("set", "openai", "--concurrency", "many"), 2, "a whole number or none"),
        (("set", "openai", "--rate", "often"), 2, "rate must be text such as"),
        (("set", "--rate", "1/s"), 2, "name the limit to set"),
        (("reset", "openai", "--rate", "1/s"), 2, "are for set"),
        (("drop", "openai"), 2, "use one of list, set, reset, remove"),
        (("set", "opena", "--concurrency", "1"), 1, "did you mean 'openai'?"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_to_do(call, words, code, said):
    assert said in call("limits", "app.db", *words, code=code)


def test_what_is_paused_is_told_everywhere_until_it_is_resumed(call):
    assert call("pause", "app.db", "email", "--task", "mail") == "paused queue email\npaused task mail\n"
    assert call("pause", "app.db", "email") == "paused queue email (it was already)\n"
    assert "paused: queue email (" in call("status", "app.db")
    assert [each["name"] for each in json.loads(call("status", "app.db", "--json"))["paused"]] == ["email", "mail"]
    assert "queue email is paused, since" in call("doctor", "app.db", "--quick")
    assert json.loads(call("resume", "app.db", "email", "--json"))[0]["changed"] is True
    assert call("resume", "app.db", "--all") == "resumed task mail\n"
    assert call("resume", "app.db", "email") == "resumed queue email (it was not paused)\n"


def test_a_name_that_nothing_has_is_told_of(call):
    assert "note: no job and no worker here knows a queue 'emial'; there are email" in call("pause", "app.db", "emial")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the file or the app first: litequeue pause app.db email"),
        (("no.db", "email"), "'no.db' is no file and no app"),
        (("app.db",), "name the queues to pause, or tasks by --task"),
        (("app.db", "a,b"), "a queue's name must be"),
    ],
)
def test_a_pause_names_its_file_and_what_to_pause(call, words, said):
    assert said in call("pause", *words, code=2)


def test_show_says_why_a_job_does_not_run(call):
    assert "why        no worker is running; start one" in call("show", "app.db", "2")
    assert json.loads(call("show", "app.db", "1", "--json"))["why"].startswith("it succeeded at ")


def test_doctor_names_a_task_that_can_never_start_and_mends_what_is_left_over(call):
    with Queue("app.db") as queue:
        write = queue.engine.kernel.writer.run
        rules = '{"limits":[["openai",false,5]]}'
        write(lambda db: db.rows("UPDATE litequeue_tasks SET rules = ? WHERE name = 'ask'", (rules,)))
        write(lambda db: db.rows("INSERT INTO litequeue_starts VALUES ('gone', '', 1.0, 1)"))
    found = call("doctor", "app.db", "--quick", code=1)
    assert "task ask takes 5 of limit openai, which never has more than 1" in found
    assert "1 starts belong to jobs, limits or workers that are no longer in the file" in found
    assert "1 starts deleted" in call("doctor", "app.db", "--quick", "--repair", code=1)
