"""A file that may be in use under a second name: a hard link, or a single file that is mounted."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from command_line import ended
from litequeue import Queue, UnsafeFilesystem
from litequeue.sqlite.file.second_names import is_mount_point

pytestmark = pytest.mark.disk

COMMANDS = [["status"], ["backup", "copy.db"], ["doctor"]]


def beside(database):
    return sorted(path.name for path in database.parent.iterdir())


@pytest.fixture
def linked(database, driver):
    """A queue's file with a second name in another folder."""
    with Queue(database, driver=driver) as queue:
        queue.task(name="same")(lambda number: number).enqueue(1)
    other = database.parent / "other"
    other.mkdir()
    os.link(database, other / "linked.db")
    return other / "linked.db"


@pytest.mark.parametrize("risk", [False, True], ids=["careful", "allow_unsafe_filesystem"])
def test_a_file_with_two_hard_links_is_refused_under_both_names_and_left_as_it_is(linked, database, driver, risk):
    content, names = database.read_bytes(), [beside(database), beside(linked)]
    for name in (linked, database):
        with pytest.raises(UnsafeFilesystem, match=r"has 2 hard links: .* Delete the other names"):
            Queue(name, driver=driver, allow_unsafe_filesystem=risk)
    assert (database.read_bytes(), [beside(database), beside(linked)]) == (content, names)


def test_a_file_whose_other_name_was_deleted_is_used_again(linked, database, driver):
    linked.unlink()
    with Queue(database, driver=driver) as queue:
        assert len(queue.jobs()) == 1


def test_a_link_made_while_the_file_is_open_stops_nobody_and_refuses_the_next_who_opens_it(queue, database, driver):
    task = queue.task(name="same")(lambda number: number)
    task.enqueue(1)
    os.link(database, database.parent / "linked.db")
    task.enqueue(2)
    for name in (database, database.with_name("linked.db")):  # also in the process that has it open
        with pytest.raises(UnsafeFilesystem, match="has 2 hard links"):
            Queue(name, driver=driver)
    queue.close()
    task.enqueue(3)
    assert len(queue.jobs()) == 3


@pytest.mark.parametrize("driver", ["apsw"])  # the commands' own
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_each_command_refuses_a_file_with_two_names(linked, arguments):
    told = ended(linked.parent, arguments[0], linked, *arguments[1:])
    assert (told.returncode, "has 2 hard links" in told.stdout + told.stderr) == (1, True)
    assert "Traceback" not in told.stderr
    assert beside(linked) == ["linked.db"]


@pytest.mark.parametrize("driver", ["apsw"])  # the commands' own
def test_doctor_fails_on_a_file_with_two_names_in_one_line(linked):
    told = ended(linked.parent, "doctor", linked, "--json")
    failed = [(found["check"], found["text"]) for found in json.loads(told.stdout) if found["level"] == "fail"]
    assert (told.returncode, [check for check, _ in failed]) == (1, ["name"])
    assert str(linked) in failed[0][1]


# A file that is mounted alone


def can_mount():
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


mounts = pytest.mark.skipif(not can_mount(), reason="mounting takes Linux, unshare(1) and the right to use it")


def mounted(script, *arguments):
    """Run a shell script in a mount namespace of its own."""
    return subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def opening(path, driver, more=""):
    return [
        sys.executable,
        "-c",
        f"from litequeue import Queue; print(len(Queue({str(path)!r}, driver={driver!r}{more}).jobs()))",
    ]


@mounts
@pytest.mark.parametrize("more", ["", ", allow_unsafe_filesystem=True"], ids=["careful", "allow_unsafe_filesystem"])
def test_a_file_that_is_mounted_alone_is_refused_and_nothing_is_made_beside_it(database, driver, more):
    Queue(database, driver=driver).close()
    point = database.parent / "in container" / "app.db"
    point.parent.mkdir()
    point.touch()
    told = mounted('mount --bind "$1" "$2"; shift 2; exec "$@"', database, point, *opening(point, driver, more))
    assert told.returncode == 1
    assert f"UnsafeFilesystem: {point} is mounted as a single file" in told.stderr
    assert "Mount the folder, not the file" in told.stderr
    assert beside(point) == ["app.db"]


@mounts
def test_a_symbolic_link_to_a_mounted_file_is_refused_as_well(database, driver):
    Queue(database, driver=driver).close()
    point, link = database.parent / "mounted.db", database.parent / "link.db"
    point.touch()
    link.symlink_to(point)
    told = mounted('mount --bind "$1" "$2"; shift 2; exec "$@"', database, point, *opening(link, driver))
    assert f"{point} is mounted as a single file" in told.stderr


@mounts
def test_the_folder_of_a_file_may_be_mounted(database, driver):
    with Queue(database, driver=driver) as queue:
        queue.task(name="same")(lambda number: number).enqueue(1)
    point = database.parent / "mounted"
    point.mkdir()
    told = mounted(
        'mount --bind "$1" "$2"; shift 2; exec "$@"', database.parent, point, *opening(point / "app.db", driver)
    )
    assert (told.returncode, told.stdout) == (0, "1\n"), told.stderr


@mounts
def test_a_mounted_file_that_a_later_mount_hides_is_no_second_name(database, driver):
    folder, point = database.parent / "folder", database.parent / "folder" / "app.db"
    folder.mkdir()
    point.touch()
    database.touch()
    script = 'mount --bind "$1" "$2/app.db"; mount -t tmpfs tmpfs "$2"; shift 2; exec "$@"'
    told = mounted(script, database, folder, *opening(point, driver))
    assert (told.returncode, told.stdout) == (0, "0\n"), told.stderr


TABLE = [
    "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
    r"40 27 254:0 /srv/app.db /data/my\040app.db rw,relatime shared:1 - ext4 /dev/vda rw",
    "41 27 254:0 /srv/app.db /hidden/app.db rw - ext4 /dev/vda rw",
    "42 27 0:30 / /hidden rw - tmpfs tmpfs rw",
    "43 27 0:31 / /twice rw - tmpfs tmpfs rw",
    "44 43 254:0 /srv/app.db /twice/app.db rw - ext4 /dev/vda rw",
    "45 999 254:0 /srv/app.db /elsewhere/app.db rw - ext4 /dev/vda rw",
    "46 46 254:0 /srv/app.db /own/app.db rw - ext4 /dev/vda rw",
]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/data/my app.db", True),
        ("/data/my", False),
        ("/data/my app.db-wal", False),
        ("/hidden/app.db", False),
        ("/hidden", True),
        ("/twice/app.db", True),
        ("/elsewhere/app.db", True),
        ("/own/app.db", True),
        ("/app.db", False),
    ],
)
def test_a_mount_point_is_told_by_the_kernels_table(place, expected):
    assert is_mount_point(place, TABLE) is expected


def test_without_a_table_of_mounts_nothing_is_a_mount_point():
    assert not is_mount_point("/data/app.db", [])
