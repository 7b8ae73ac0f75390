"""Every example runs by itself and prints what it promises, and the demo proves what it claims."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

# What each example must print, line by line, among other lines.
PRINTS = {
    "script.py": ["enqueued: queued", "result: 5", "a plain call stays a plain call: 5"],
    "asyncio_app.py": ["one: {'city': 'Lisbon', 'letters': 6}", "many: ['Oslo', 'Quito', 'Bern']", "with a limit: 16"],
    "embedded_worker.py": ["all finished: ['loaf 1', 'loaf 2', 'loaf 3']"],
    "schedules.py": [
        "new-century     next at 2100-01-01 00:00:00 UTC",
        "paused: ['remind-ada']",
        "now: all is well",
        "ticked by itself: True",
    ],
    "keys.py": [
        "same job: True",
        "other arguments: refused, job 1 has the key",
        "on_conflict=raise: refused",
        "debounced: {'readme version 3'}",
        "while it is unfinished, one: True",
        "once it has ended, another: True",
    ],
    "compositions.py": [
        "zipped: 3",
        "not zipped: parent 7 failed",
        "counted: 2 thumbnails, 1 missing",
        "told: ['thumbnail: FileNotFoundError after 2 tries']",
    ],
    "dag.py": [
        "2 build: failed, RuntimeError: web does not compile",
        "4 build: cancelled, parent 2 failed",
        "5 clean: succeeded",
        "built: ['cli', 'core']",
        "retried: web does not compile",
        "built: ['cli', 'core', 'docs', 'web']",
    ],
    "retries.py": [
        "flaky: succeeded at attempt 3",
        "patient: no longer too early",
        "hopeless: 'nobody' is no address, after 1 attempt",
        "open_shop: the key is lost, after 1 attempt",
        "dead letter: the key is lost -> retried: open, with the spare key",
    ],
    "transactional_sqlite3.py": [
        "refused: no second user, and no second job",
        "users: [('Ada',)] jobs: 1",
        "welcome, Ada",
    ],
    "transactional_aiosqlite.py": [
        "tea is on its way",
        "honey is on its way",
        "the card was declined: 2 jobs in the file",
    ],
    "transactional_apsw.py": ["refused: nothing changed, and 1 job in the file", "accounts: {'ada': 750, 'bob': 250}"],
}
TESTED_BELOW = {"fastapi_app.py", "token_stream.py", "thumbnails.py", "demo"}


def run_python(*arguments, cwd, **environment):
    """Run a program in a process of its own, with warnings as errors, and return what became of it."""
    kept = {name: value for name, value in os.environ.items() if name != "LITEQUEUE_PATH"}
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=kept | environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_every_example_is_tested():
    there = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith(("_", "."))}
    assert there == PRINTS.keys() | TESTED_BELOW


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_the_first_line_of_an_example_says_what_it_shows(path):
    assert path.read_text(encoding="utf-8").startswith('"""')


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_prints_what_it_promises_and_leaves_nothing_behind(name, tmp_path):
    temporary, here = tmp_path / "temporary", tmp_path / "here"
    temporary.mkdir()
    here.mkdir()
    ran = run_python(EXAMPLES / name, cwd=here, TMPDIR=str(temporary))
    assert ran.returncode == 0, ran.stderr
    assert [line for line in ran.stderr.splitlines() if "WAL-reset bug" not in line] == []
    missing = [line for line in PRINTS[name] if line not in ran.stdout.splitlines()]
    assert not missing, ran.stdout
    assert list(here.iterdir()) == []


# ---- the decoder that hangs and crashes


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.slow
def test_the_pictures_that_hang_and_crash_are_dead_letters_and_the_others_have_thumbnails(tmp_path):
    ran = run_python(EXAMPLES / "thumbnails.py", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    printed = ran.stdout.splitlines()
    assert [line for line in printed if re.match(r"\S+\.pgm: ", line)] == [
        "hangs.pgm: failed, litequeue.JobTimeout",
        "crashes.pgm: failed, ChildDied",
        *(f"good-{number}.pgm: 64 x 48 became 8 x 6" for number in range(1, 7)),
    ]
    died, killed = (line for line in printed if line.startswith("dead letter"))
    # [] where the stack that Python prints is so long that only its end is kept
    assert re.match(
        r"dead letter: run 3, printed (\[\]|\['decoding crashes.pgm'\]): its process was killed by SIGSEGV; ", died
    )
    assert killed == "dead letter: run 1, printed ['decoding hangs.pgm']: thumbnail ran longer than its limit of 3 s"
    assert ran.stderr.count("Fatal Python error: Segmentation fault") == 3
    assert list(tmp_path.iterdir()) == []


# ---- the web application


@pytest.fixture(scope="module")
def client():
    testclient = pytest.importorskip("fastapi.testclient")
    from examples import fastapi_app

    with testclient.TestClient(fastapi_app.app) as client:
        yield client
    fastapi_app.queue.close()


LET_IN = {"token": "let me in"}


def ended(client, title):
    """Order a report, follow its job to the end, and return what the last event says of it."""
    answer = client.post("/reports", params={"title": title})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    events = client.get(f"/jobs/{answer.json()['id']}/events", headers=LET_IN).text.split("\n\n")
    [last] = [event for event in events if event.startswith("event: end")]
    return json.loads(last.partition("data: ")[2])


def test_the_application_orders_a_report_and_tells_of_its_progress(client):
    job = ended(client, "Sales")
    assert (job["status"], job["progress"]) == ("succeeded", {"done": 3, "total": 3, "note": "page 3"})


def test_the_application_tells_why_a_report_failed(client):
    job = ended(client, " ")
    assert (job["status"], job["error"]) == ("failed", "ValueError")


def test_the_application_stores_mails_with_the_response(client):
    from examples import fastapi_app

    assert client.post("/signup", params={"email": "ada@example.org"}).status_code == 200
    mails = fastapi_app.queue.jobs(task="send_mail")
    assert {mail.status for mail in mails if mail.run_at > mail.created_at} == {"scheduled"}
    assert len(mails) == 2


def test_the_application_lets_nobody_look_at_jobs_without_the_token(client):
    assert client.get("/jobs/1").status_code == 401
    assert client.get("/jobs/999", headers=LET_IN).status_code == 404


# ---- the page that shows tokens


@pytest.fixture(scope="module")
def page():
    testclient = pytest.importorskip("fastapi.testclient")
    from examples import token_stream

    with testclient.TestClient(token_stream.app) as client:
        yield client
    token_stream.queue.close()


def tokens(page, job_id, **headers):
    """Follow an answer to its end; return the text that the page shows, and the id of the last token."""
    blocks = page.get(f"/jobs/{job_id}/stream", headers=headers).text.split("\n\n")
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks if "data: " in block]
    values = [event for event in events if event["event"] == "value"]
    assert events[-1]["event"] == "end"
    return "".join(json.loads(event["data"]) for event in values), values[-1]["id"]


def test_the_page_shows_the_tokens_as_they_come_and_goes_on_where_it_was(page):
    job_id = page.post("/ask", params={"prompt": "hello"}).json()["id"]
    text, last = tokens(page, job_id)
    assert text.startswith("You said: hello. That is")
    again, _ = tokens(page, job_id, **{"Last-Event-ID": str(int(last) - 2)})
    assert text.endswith(again)
    assert again == "an end. "
    assert "EventSource" in page.get("/").text


# ---- the demo


def run_demo(*arguments, **environment):
    return run_python("-m", "examples.demo", *arguments, cwd=ROOT, **environment)


@pytest.fixture
def folder(tmp_path):
    """A folder of 60 files, a few of them too large for a coroutine."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.txt").write_text("two words\n" * (2_000 if number % 10 == 0 else number))
    return folder


@pytest.mark.parametrize("place", ["missing", "empty", "no_folder"])
def test_the_demo_says_when_there_is_nothing_to_count(place, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no_folder").write_text("")
    ran = run_demo(tmp_path / place)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert "name a folder with files" in ran.stderr


def test_the_demo_counts_right_and_prints_no_control_characters_into_a_pipe(folder):
    ran = run_demo(folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.replace("\n", "").isprintable()
    [total] = [line.split() for line in ran.stdout.splitlines() if line.startswith(" all ")]
    lines = sum(2_000 if number % 10 == 0 else number for number in range(60))
    assert total[1:5] == ["60", f"{lines * 10:,}", f"{lines:,}", f"{lines * 2:,}"]
    assert ran.stdout.count("  ok    ") == 5


@pytest.mark.slow
def test_the_demo_kills_a_worker_and_its_jobs_are_rescued(folder):
    for number in range(2_000):
        (folder / f"{number}.py").write_text("pass\n" * number)
    ran = run_demo(folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"worker 2 \(pid \d+\) killed with SIGKILL; its running jobs: [1-9]", ran.stdout)
    assert re.search(r"worker 1 \(pid \d+\) noticed and released them, \d+\.\d\d s after the kill", ran.stdout)
    assert "2,060 files have one row each; " in ran.stdout


SABOTAGED = """
import sys
from pathlib import Path
from rich.console import Console
from examples.demo import __main__, folder, proof
from litequeue import default_queue

listing, place = folder.list_files(Path(sys.argv[1])), Path(sys.argv[2])
prove = proof.prove

def sabotage(*arguments):
    {sabotage}
    return prove(*arguments)

proof.prove = sabotage
{before}
sys.exit(__main__.run(listing, place, Console(width=100)))
"""


def run_sabotaged(folder, tmp_path, *, sabotage="pass", before=""):
    return run_python("-c", SABOTAGED.format(sabotage=sabotage, before=before), folder, tmp_path, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sql", "claim"),
    [
        ("INSERT INTO files SELECT * FROM files LIMIT 1", "files have one row each"),
        ("DELETE FROM files WHERE rowid = 1", "files have one row each"),
        ("UPDATE summary SET files = files + 1", "each was added once"),
        ("UPDATE summary SET bytes = bytes - 1", "os.stat says"),
        ("UPDATE files SET digest = 'x' WHERE rowid = 1", "digests recomputed by this process, 1 differ"),
    ],
)
def test_the_proof_of_the_demo_fails_when_a_count_is_wrong(sql, claim, folder, tmp_path):
    ran = run_sabotaged(folder, tmp_path, sabotage=f"with default_queue.transaction() as db: db.execute({sql!r})")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert any(line.startswith("  WRONG ") and claim in line for line in ran.stdout.splitlines()), ran.stdout


def test_a_file_that_vanishes_is_reported_and_the_rest_is_counted(folder, tmp_path):
    ran = run_sabotaged(folder, tmp_path, before="(listing.root / '7.txt').unlink()")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "not counted: FileNotFoundError: " in ran.stdout
    assert "60 jobs enqueued: 59 succeeded, 1 failed, none left or lost" in ran.stdout
