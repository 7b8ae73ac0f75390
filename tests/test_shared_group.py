"""Two users of one group share a queue: neither has a name or a home, and either may come first."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from litequeue import Queue

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become other users"
)

GROUP = 64_100
ADA, BOB, EVE = 64_001, 64_002, 64_003  # in no passwd; Eve is not in the group

# The interpreter may lie where only root can read it. So a process of root's does all once, which imports whatever is
# imported late, and then forks those that become the users.
PROGRAM = """
import json, os, signal, sys, tempfile
from litequeue import Queue

driver = sys.argv[1]
worker = queue = None

def open_queue(path):
    global queue, same, gated
    queue = Queue(path, driver=driver)
    same = queue.task(name="same")(lambda number: number + os.geteuid())

    @queue.task(name="gated")
    def gated():
        import time
        while not os.path.exists(path + ".gate"):
            time.sleep(0.01)
        return os.geteuid()

def enqueue(number):
    return same.enqueue(number).id

def enqueue_gated():
    return gated.enqueue().id

def work_off():
    return queue.worker(threads=2, coroutines=1).run(until_idle=True)

def start_worker():
    global worker
    worker = queue.worker(threads=2, coroutines=1).__enter__()

def stop_worker():
    worker.__exit__(None, None, None)

def result(job_id):
    return queue.job(job_id).result(timeout=30)

def wait_until_running(job_id):
    import time
    until = time.monotonic() + 30
    while queue.job(job_id).status != "running":
        assert time.monotonic() < until
        time.sleep(0.01)

def close():
    queue.close()

with tempfile.TemporaryDirectory() as folder:
    for path in (folder + "/app.db", folder + "/app.db"):
        open_queue(path)
        start_worker()
        assert result(enqueue(0)) == 0
        stop_worker()
        work_off()
        close()
    try:
        Queue(folder)
    except Exception:
        import traceback
        traceback.format_exc()

def become(user, group, others, umask, asked, told):
    with open(asked) as lines, open(told, "w", buffering=1) as answers:
        os.setgroups(others)
        os.setgid(group)
        os.setuid(user)
        os.umask(umask)
        print(os.getpid(), file=answers)
        for line in lines:
            name, *arguments = json.loads(line)
            try:
                answer = [globals()[name](*arguments), None]
            except Exception as error:
                answer = [None, f"{type(error).__name__}: {error}"]
            print(json.dumps(answer), file=answers)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not kept
for line in sys.stdin:
    if os.fork() == 0:
        try:
            become(*json.loads(line))
        finally:
            os._exit(0)
"""


class Refused(Exception):
    """What a user's process was refused."""


class User:
    """A process of one user; its functions are called by name."""

    def __init__(self, nursery, number, user, group, others, umask):
        self.uid = user
        asked, told = (nursery.folder / f"{number}.{end}" for end in ("asked", "told"))
        for pipe in (asked, told):
            os.mkfifo(pipe)
        nursery.stdin.write(json.dumps([user, group, others, umask, str(asked), str(told)]) + "\n")
        nursery.stdin.flush()
        self.asked, self.answers = asked.open("w"), told.open()
        self.pid = int(self.answers.readline())

    def __getattr__(self, name):
        def call(*arguments):
            self.send(name, *arguments)
            return self.told()

        return call

    def send(self, name, *arguments):
        self.asked.write(json.dumps([name, *map(str_of_path, arguments)]) + "\n")
        self.asked.flush()

    def told(self):
        value, error = json.loads(self.answers.readline())
        if error is not None:
            raise Refused(error)
        return value

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        assert self.answers.read() == ""  # the end of its pipe: it is gone


def str_of_path(value):
    return str(value) if isinstance(value, Path) else value


@pytest.fixture
def folder():
    """A folder that the group may write, below one that everybody may pass: pytest's own is root's alone."""
    made = Path(tempfile.mkdtemp(prefix="litequeue-group-"))
    made.chmod(0o770)
    os.chown(made, ADA, GROUP)
    yield made
    shutil.rmtree(made)


# Whether the group is the users' own, which new files get, or one more; and a umask, which must not matter.
MEMBERSHIPS = {"their own group": ("primary", 0o002), "one more group": ("supplementary", 0o077)}
both_memberships = pytest.mark.parametrize("membership", MEMBERSHIPS, indirect=True)


@pytest.fixture
def membership(request):
    return MEMBERSHIPS[getattr(request, "param", "one more group")]


@pytest.fixture(scope="module")
def nurseries(tmp_path_factory):
    """For each driver a process of root's that makes those of users; started when it is first needed."""
    running = {}

    def of(driver):
        if driver not in running:
            command = [sys.executable, "-c", PROGRAM, driver]
            environment = {name: value for name, value in os.environ.items() if name not in {"HOME", "USER", "LOGNAME"}}
            started = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
            )
            started.folder = tmp_path_factory.mktemp(f"users {driver}")
            running[driver] = started
        return running[driver]

    yield of
    for process in running.values():
        process.stdin.close()
        process.wait()


@pytest.fixture
def users(driver, nurseries, membership, request):
    """Start processes of users."""
    kind, umask = membership
    started, numbers = [], itertools.count()

    def start(*ids):
        for user in ids:
            own = GROUP if kind == "primary" and user != EVE else user
            others = [] if own == GROUP or user == EVE else [GROUP]
            name = f"{abs(hash(request.node.name))}-{next(numbers)}"
            started.append(User(nurseries(driver), name, user, own, others, umask))
        return started[-len(ids) :]

    yield start
    for user in started:
        user.kill()
        user.asked.close()
        user.answers.close()


def made(folder, mode):
    """Make a file as Ada, give it the group and the mode, and take away what lies beside it."""
    path = folder / "app.db"
    path.touch(0o600)
    os.chown(path, ADA, GROUP)
    path.chmod(mode)
    return path


def permissions(path):
    there = path.lstat()
    return there.st_gid, stat.S_IMODE(there.st_mode)


def beside(database):
    return Path(f"{database}-litequeue")


def assert_for_the_group(database):
    assert permissions(beside(database)) == (GROUP, 0o770)
    names = sorted(beside(database).iterdir())
    assert names
    assert {permissions(path) for path in names} == {(GROUP, 0o660)}


@both_memberships
@pytest.mark.parametrize("order", [(ADA, BOB), (BOB, ADA)], ids=["the owner first", "the other first"])
def test_both_enqueue_run_and_get_results_whoever_comes_first(folder, users, order):
    first, second = users(*order)
    database = made(folder, 0o660)
    first.open_queue(database)
    one = first.enqueue(1)
    second.open_queue(database)
    two = second.enqueue(2)
    first.start_worker()
    assert_for_the_group(database)
    assert (second.result(one), first.result(two)) == (1 + first.uid, 2 + first.uid)
    assert second.result(second.enqueue(3)) == 3 + first.uid
    first.stop_worker()
    second.start_worker()
    assert first.result(first.enqueue(4)) == 4 + second.uid
    assert_for_the_group(database)


@pytest.mark.parametrize("order", [(ADA, BOB), (BOB, ADA)], ids=["the owner first", "the other first"])
def test_one_user_comes_when_the_other_has_gone(folder, users, order):
    first, second = users(*order)
    database = made(folder, 0o660)
    first.open_queue(database)
    job = first.enqueue(1)
    first.close()
    second.open_queue(database)
    assert second.work_off()
    second.close()
    assert first.result(job) == 1 + second.uid


@both_memberships
def test_two_users_who_come_at_once_are_none_of_them_refused(folder, users):
    both = users(ADA, BOB)
    for number in range(5):
        database = made(folder, 0o660)
        database = database.rename(folder / f"{number}.db")
        for user in both:
            user.send("open_queue", database)
        for user in both:
            user.told()
        for user in both:
            user.send("enqueue", number)
        first, second = (user.told() for user in both)
        both[0].work_off()
        assert [both[1].result(job) for job in (first, second)] == [number + ADA] * 2


def test_a_worker_takes_over_from_one_of_another_user_that_was_killed(folder, users):
    ada, bob = users(ADA, BOB)
    database = made(folder, 0o660)
    for user in (ada, bob):
        user.open_queue(database)
    ada.start_worker()
    job = bob.enqueue_gated()
    bob.wait_until_running(job)
    ada.kill()
    Path(f"{database}.gate").touch()
    bob.start_worker()
    assert bob.result(job) == BOB


def test_a_private_file_stays_private(folder, users):
    ada, bob = users(ADA, BOB)
    database = made(folder, 0o600)
    ada.open_queue(database)
    ada.start_worker()
    assert ada.result(ada.enqueue(1)) == 1 + ADA
    assert permissions(beside(database))[1] == 0o700
    files = [path for path in beside(database).iterdir() if path.is_file()]
    assert {permissions(path)[1] for path in files} == {0o600}
    with pytest.raises(Refused, match="is read-only for this user"):
        bob.open_queue(database)


def test_a_file_that_others_may_only_read_gives_them_nothing(folder, users):
    [ada] = users(ADA)
    database = made(folder, 0o644)
    ada.open_queue(database)
    ada.enqueue(1)
    assert permissions(beside(database))[1] == 0o700


def test_a_file_that_is_opened_to_the_group_later_is_refused_to_it_until_its_owner_comes_again(folder, users):
    ada, bob = users(ADA, BOB)
    database = made(folder, 0o600)
    ada.open_queue(database)
    job = ada.enqueue(1)
    ada.close()
    database.chmod(0o660)
    with pytest.raises(Refused, match=rf"StoreError: {beside(database)} cannot be used by this user: .* 0700"):
        bob.open_queue(database)
    ada.open_queue(database)
    bob.open_queue(database)
    bob.start_worker()
    assert ada.result(job) == 1 + BOB
    assert_for_the_group(database)
    bob.stop_worker()
    database.chmod(0o600)
    ada.close()
    ada.open_queue(database)
    assert permissions(beside(database))[1] == 0o700


def test_who_is_not_in_the_group_is_refused(folder, users):
    ada, eve = users(ADA, EVE)
    folder.chmod(0o777)
    database = made(folder, 0o666)
    ada.open_queue(database)
    eve.open_queue(database)  # 0666 is for everybody
    assert ada.work_off()
    eve.close()
    ada.close()
    shutil.rmtree(beside(database))
    database.chmod(0o660)
    with pytest.raises(Refused, match="is read-only for this user"):
        eve.open_queue(database)


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_what_sqlite_has_made_for_another_group_is_refused_with_what_to_do(folder, users, ending):
    ada, bob = users(ADA, BOB)
    database = made(folder, 0o660)
    ada.open_queue(database)
    ada.enqueue(1)
    os.chown(f"{database}{ending}", ADA, ADA)
    with pytest.raises(Refused, match=rf"StoreError: {database}{ending} cannot be used by this user: .* chmod g\+s"):
        bob.open_queue(database)


def test_a_lock_of_another_user_that_cannot_be_looked_at_is_refused_with_what_to_do(folder, users):
    ada, bob = users(ADA, BOB)
    database = made(folder, 0o660)
    ada.open_queue(database)
    ada.start_worker()
    [lock] = beside(database).glob("*.lock")
    lock.chmod(0o600)
    with pytest.raises(Refused, match=rf"StoreError: {lock} cannot be used by this user: .* chmod -R u=rwX,g=rwX"):
        bob.open_queue(database)


def test_roots_look_at_a_queue_takes_nothing_away_from_its_users(folder, users, driver):
    ada, bob = users(ADA, BOB)
    database = made(folder, 0o660)
    with Queue(database, driver=driver) as queue:
        queue.task(name="same")(lambda number: number).enqueue(1)
        with queue.worker():
            for user in (ada, bob):
                user.open_queue(database)
                user.enqueue(2)
    assert bob.work_off()
    assert ada.work_off()
