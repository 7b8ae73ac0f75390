"""The time zone of the machine: found, or refused; never UTC in silence."""

import os
import zoneinfo

import pytest

from litequeue import cron
from litequeue.scheduling import timezones


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with such a TZ, such a file or link /etc/localtime, and such a text in /etc/timezone."""

    def made(tz=None, link=None, copy=None, name=None):
        monkeypatch.delenv("TZ", raising=False)
        if tz is not None:
            monkeypatch.setenv("TZ", tz)
        localtime, timezone = tmp_path / "localtime", tmp_path / "timezone"
        if link is not None:
            localtime.symlink_to(link)
        if copy is not None:
            localtime.write_bytes(copy)
        if name is not None:
            timezone.write_text(name + "\n")
        monkeypatch.setattr(timezones, "LOCALTIME", str(localtime))
        monkeypatch.setattr(timezones, "TIMEZONE", str(timezone))
        return tmp_path

    return made


def data(name):
    """The file of a zone, of the system or the package tzdata."""
    from importlib import resources

    for folder in zoneinfo.TZPATH:
        if os.path.isfile(os.path.join(folder, name)):
            with open(os.path.join(folder, name), "rb") as file:
                return file.read()
    return resources.files("tzdata.zoneinfo").joinpath(name).read_bytes()


@pytest.mark.parametrize("text", ["Asia/Tokyo", ":Asia/Tokyo", "/usr/share/zoneinfo/Asia/Tokyo"])
def test_the_variable_tz_names_the_local_zone(machine, text):
    machine(text, link="/usr/share/zoneinfo/Europe/Paris")
    assert timezones.local() == "Asia/Tokyo"


@pytest.mark.parametrize("text", ["UTC", "UTC0", "Etc/UTC", "/usr/share/zoneinfo/Etc/UTC"])
def test_a_machine_that_is_set_to_utc_has_utc(machine, text):
    machine(text)
    assert timezones.local() == "UTC"


@pytest.mark.parametrize(
    "text",
    ["JST-9", "EST5EDT,M3.2.0,M11.1.0", "<+0530>-5:30", "<+03>-3", "", "Nowhere/City", "America", "../x", ":/no/file"],
)
def test_a_variable_tz_without_an_iana_name_is_refused(machine, text):
    machine(text, link="/usr/share/zoneinfo/Europe/Paris")
    with pytest.raises(ValueError, match=r"has no IANA name; pass tz=") as refused:
        cron("0 6 * * *")
    assert f"TZ={text}" in str(refused.value)
    assert cron("0 6 * * *", tz="Europe/Paris").zone == "Europe/Paris"


def test_a_link_names_the_zone(machine):
    machine(link="/usr/share/zoneinfo/Europe/Paris")
    assert timezones.local() == "Europe/Paris"


def test_a_link_to_no_zone_is_refused(machine):
    machine(link="/usr/share/zoneinfo/Nowhere/City")
    with pytest.raises(ValueError, match="pass tz="):
        cron("@daily")


def test_a_variable_tz_that_names_the_link_says_what_the_link_says(machine, monkeypatch):
    folder = machine(link="/usr/share/zoneinfo/Europe/Paris")
    monkeypatch.setenv("TZ", f":{folder / 'localtime'}")
    assert timezones.local() == "Europe/Paris"


def test_a_copy_is_the_zone_that_a_second_file_names(machine):
    machine(copy=data("Europe/Paris"), name="Europe/Paris")
    assert timezones.local() == "Europe/Paris"


@pytest.mark.parametrize("name", [None, "Asia/Tokyo", "Etc/UTC", "nonsense"])
def test_a_copy_that_is_named_nowhere_or_otherwise_is_refused(machine, name):
    machine(copy=data("Europe/Paris"), name=name)
    with pytest.raises(ValueError, match=r"has no name: .* pass tz="):
        cron("@daily")


@pytest.mark.parametrize("name", [None, "Etc/UTC"])
def test_a_copy_of_utc_is_utc(machine, name):
    machine(copy=data("UTC"), name=name)
    assert timezones.local() == "UTC"


def test_a_zone_mounted_over_the_file_of_another_is_refused(machine):
    """As by docker run -v /etc/localtime:/etc/localtime, where the image links it to Etc/UTC."""
    folder = machine()
    (folder / "zoneinfo").mkdir()
    (folder / "zoneinfo" / "UTC").write_bytes(data("Europe/Paris"))
    machine(link=folder / "zoneinfo" / "UTC")
    with pytest.raises(ValueError, match=r"has no name: .* pass tz="):
        cron("@daily")


@pytest.mark.parametrize("content", [None, b"", b"no zone at all"])
def test_a_machine_that_says_nothing_of_its_zone_is_refused(machine, content):
    machine(copy=content)
    with pytest.raises(ValueError, match=r"is not known: .* pass tz="):
        cron("@daily")


def test_a_machine_without_a_database_is_told_to_install_one(machine, monkeypatch):
    machine(link="/usr/share/zoneinfo/Europe/Paris")

    def no_zone(name):
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(timezones.zoneinfo, "ZoneInfo", no_zone)
    monkeypatch.setattr(timezones.zoneinfo, "available_timezones", set)
    with pytest.raises(ValueError, match="install the package tzdata, or pass tz="):
        cron("@daily")
