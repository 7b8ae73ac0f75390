"""What the command line tells of chains, groups and chords, and does to them."""

import json

import pytest
from click.testing import CliRunner

from litequeue import Queue, chain, group
from litequeue.cli import main


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Queue("app.db", durability="normal") as queue:
        yield queue


@pytest.fixture
def fetch(queue):
    return queue.task(name="fetch")(lambda *given: list(given))


@pytest.fixture
def boom(queue):
    @queue.task(name="boom", retries=0)
    def boom(*_given):
        raise ValueError("no")

    return boom


def call(*arguments, code=0):
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def read(*arguments):
    return json.loads(call(*arguments, "--json"))


def tree_of(node_id):
    """The lines that are drawn of what runs before and after a job or a group."""
    lines = call("show", "app.db", node_id).partition("\n\n")[0].splitlines()  # errors come behind it
    first = next((number for number, line in enumerate(lines) if line.startswith(("after ", "then "))), len(lines))
    return [line.rstrip() for line in lines[first:]]


def test_show_draws_what_a_job_waits_for_and_what_waits_for_it(queue, fetch, boom):
    mail = queue.task(name="mail")(lambda *_given: None)
    chain(fetch.s(1), boom.s(), fetch.using(on_failure=mail.s()).s()).enqueue()
    assert tree_of("2") == [
        "after      1  fetch  queued",
        "then       3  fetch  waiting",
        "             4  mail  waiting, runs only if that fails",
    ]
    shown = read("show", "app.db", "2")
    assert shown["why"] == "it waits for job 1"
    [after] = shown["tree"]["after"]
    assert (after["id"], after["status"], after["branches"][0]["runs_on"]) == ("3", "waiting", "failure")
    queue.worker().run(until_idle=True)
    assert tree_of("2")[1:] == [
        "then       3  fetch  cancelled: parent 2 failed",
        "             4  mail  cancelled: parent 3 cancelled, runs only if that fails",
    ]
    assert "reason     parent 2 failed" in call("show", "app.db", "3").splitlines()
    assert read("show", "app.db", "3")["reason"] == "parent 2 failed"
    assert "parent 2 failed" in call("jobs", "app.db", "--status", "cancelled")


def test_a_group_of_many_is_a_line_with_its_first_members(queue, fetch):
    (group(fetch.s(number) for number in range(1_000)) | fetch.s()).enqueue()
    assert tree_of("1001") == [
        "after      g1  1,000 members, 1,000 have not ended",
        *(f"             {number}  fetch  queued" for number in range(1, 6)),
        "             and 995 more (litequeue show g1)",
    ]
    [drawn] = read("show", "app.db", "1001")["tree"]["before"]
    assert (drawn["kind"], drawn["members"], len(drawn["branches"]), drawn["more"]) == ("group", 1000, 5, 995)


def test_show_tells_of_a_group(queue, fetch, boom):
    (group(fetch.s(1), boom.s(), fetch.using(delay="1h").s()) | fetch.s()).enqueue()
    queue.worker().run(until_idle=True)
    shown = read("show", "app.db", "g1")
    assert (shown["total"], shown["done"], shown["failed"]) == (3, 2, "2")
    assert shown["by_status"] == {"scheduled": 1, "succeeded": 1, "failed": 1}
    assert "jobs       1 scheduled, 1 succeeded, 1 failed" in call("show", "app.db", "g1").splitlines()
    assert tree_of("g1")[-1] == "then       4  fetch  cancelled: parent 2 failed"
    assert "no group g9" in call("show", "app.db", "g9", code=1)


def test_a_job_that_stands_twice_in_the_tree_is_drawn_once(queue, fetch):
    first = fetch.enqueue()
    ways = [fetch.using(after=[first]).enqueue() for _ in range(2)]
    last = fetch.using(after=ways).enqueue()
    fetch.using(after=[last]).enqueue()
    assert tree_of("1") == [
        "then       2  fetch  waiting",
        "             4  fetch  waiting",
        "               5  fetch  waiting",
        "           3  fetch  waiting",
        "             4  fetch  waiting (see 4 in this tree)",
    ]


def test_a_tree_reads_some_levels_and_says_what_it_leaves_out(queue, fetch):
    chain(*(fetch.s() for _ in range(30))).enqueue()
    lines = tree_of("15")
    assert [line.split()[0] for line in lines if "more" in line] == ["1", "1"]
    assert (lines[10].split(), lines[21].split()) == (
        ["1", "more", "(litequeue", "show", "5)"],
        ["1", "more", "(litequeue", "show", "25)"],
    )


def test_a_wide_tree_is_cut_too(queue, fetch):
    first = fetch.enqueue()
    for _ in range(4):
        ways = [fetch.using(after=[first]).enqueue() for _ in range(6)]
        first = fetch.using(after=ways).enqueue()
    drawn = tree_of(first.id)
    assert len(drawn) < 200
    assert any("and 1 more" in line for line in drawn)


def test_jobs_are_listed_by_group_with_other_filters_and_in_pages(queue, fetch, boom):
    group(group(fetch.s(), boom.s()), fetch.s()).enqueue()
    fetch.enqueue()
    assert [job["id"] for job in read("jobs", "app.db", "--group", "g1")] == ["3", "2", "1"]
    assert [job["id"] for job in read("jobs", "app.db", "--group", "g1", "--task", "boom")] == ["2"]
    first = call("jobs", "app.db", "--group", "g1", "--limit", "2")
    assert first.splitlines()[-1] == "for older jobs: --before 2"
    assert [job["id"] for job in read("jobs", "app.db", "--group", "g1", "--before", "2")] == ["1"]
    assert "no group g7" in call("jobs", "app.db", "--group", "g7", code=1)
    assert "the id of a group is like g7" in call("jobs", "app.db", "--group", "7", code=1)


def test_cancel_of_a_last_job_or_of_a_group_cancels_the_whole(queue, fetch):
    last = chain(fetch.s(), fetch.s(), fetch.s()).enqueue()
    (group(fetch.s() for _ in range(3)) | fetch.s()).enqueue()
    assert call("cancel", "app.db", last.id) == f"cancelled job {last.id}, and with it 2 more\n"
    assert call("cancel", "app.db", "g1") == "cancelled group g1: 4 jobs\n"
    assert "group g1 has already ended" in call("cancel", "app.db", "g1", code=1)
    assert "no group g5" in call("cancel", "app.db", "g5", code=1)


def test_cancel_of_a_job_in_the_middle_cancels_what_follows(queue, fetch):
    chain(fetch.s(), fetch.s(), fetch.s()).enqueue()
    assert read("cancel", "app.db", "2") == {"cancelled": ["2"], "also": ["3"], "refused": {}}
    assert [job["status"] for job in read("jobs", "app.db")] == ["cancelled", "cancelled", "queued"]


def test_a_parent_and_its_dependent_are_cancelled_and_retried_in_one_command(queue, fetch):
    chain(fetch.s(), fetch.s(), fetch.s()).enqueue()
    assert call("cancel", "app.db", "1", "2", "--wait", "1s") == "cancelled 2 jobs, and with them 1 more\n"
    assert call("retry", "app.db", "2", "1") == "retried 2 jobs\n"
    assert [job["status"] for job in read("jobs", "app.db")] == ["waiting", "waiting", "queued"]
    assert call("cancel", "app.db", "--all") == "cancelled 3 jobs\n"
    assert call("retry", "app.db", "--all", "--status", "cancelled") == "retried 3 jobs\n"
    queue.worker().run(until_idle=True)
    assert {job["status"] for job in read("jobs", "app.db")} == {"succeeded"}


def test_retry_says_what_stays_cancelled_since_its_key_was_taken(queue, fetch):
    first = fetch.enqueue()
    fetch.using(after=[first], key="k", key_scope="unfinished").enqueue()
    first.cancel()
    fetch.using(key="k", key_scope="unfinished", delay="1h").enqueue()
    said = call("retry", "app.db", first.id)
    assert said.startswith(f"retried job {first.id}\n")
    assert "still cancelled, since other jobs have taken their keys: 2;" in said
    first.cancel()
    assert read("retry", "app.db", first.id)["still_cancelled"] == ["2"]


def test_status_counts_what_waits(queue, fetch):
    chain(fetch.s(), fetch.s(), fetch.s()).enqueue()
    head, row = call("status", "app.db").splitlines()[2:4]
    assert dict(zip(head.split(), row.split(), strict=False))["WAITING"] == "2"
    assert read("status", "app.db")["queues"][0]["waiting"] == 2
