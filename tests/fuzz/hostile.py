"""What a foreign hand may write or type: the one place where hostile values stand. Knows nothing of litequeue."""

from __future__ import annotations

import json
import math
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Generator

CANARY = "fuzz_canary"  # a module that nothing may import
NOW = 1_700_000_000.0
LARGEST = 2**63 - 1
DEEP = 100_000

# What would betray itself if it were run, by whatever reads text as code.
CODE = (
    f"__import__('{CANARY}')",
    f"{{n.__class__.__init__.__globals__[{CANARY}]}}",
    f"!!python/module:{CANARY} x",
    f'{{"py/object": "{CANARY}.x"}}',
    f"$(python -c 'import {CANARY}')",
    f"c{CANARY}\nx\n(tR.",
    f"import {CANARY}",
)
TEXTS = (
    *CODE,
    "", " ", "\0", "a\0b", "\n", "a\nb", "\x1b[31mred", "\x9b31m", "\u202e\ufeff", "\u0663", "\U0001f600", "é" * 200,
    "'; DROP TABLE litequeue_jobs; --", "%s%n", "{}", "{0}", "{n}", "../../etc/passwd", "a/b", ".", "..", "-", "--help",
    "nan", "inf", "-inf", "1e999", "-1", "0", "9" * 400, "9" * 5000, "null", "[]", '"x"', '{"a"', "[" * DEEP,
    '{"a":' * DEEP, "[" * 400 + "]" * 400, '["\\ud800"]', '{"done": 1, "x": ' + "[" * DEEP, "a" * 70_000, "\ud800",
    "\udcff",
)  # fmt: skip
BYTES = (
    b"", b"\0", b"\xff\xfe", b"\x80\x04N.", f"c{CANARY}\nx\n(tR.".encode(), b"[[1],{}]", b"[[],{}]",
    b"[[1],{},[[0],{}]]",
    b"[1]", b"{}", b'[["\\ud800"],{}]', b"[[" * DEEP, b"[[" + b"[" * 400 + b"]" * 400 + b"],{}]",
    b"[[" + b"9" * 5000 + b"],{}]", b'[[1],{"n":1}]', b"[[1e999],{}]", b"[[NaN],{}]",
)  # fmt: skip
INTEGERS = (0, 1, 2, 3, -1, 499, 2**31, 2**53 + 1, LARGEST - 1, LARGEST, -LARGEST - 1)
REALS = (
    0.0, -0.0, -1.0, 0.001, NOW - 1, NOW, NOW + 1, 1e11, -1e11, 253_402_300_799.9, 253_402_300_800.0, -62_135_596_800.0,
    -62_135_596_801.0, 1e16, 1e300, -1e300, 5e-324, math.inf, -math.inf,
)  # fmt: skip
ZONES = (
    "UTC",
    "Europe/Paris",
    "America",
    "../../etc/passwd",
    "/etc/passwd",
    "Mars/X",
    "",
    "\0",
    "a" * 300,
    "localtime",
)
CRONS = (
    "* * * * *", "0 6 * * *", "@daily", "@reboot", "0 0 30 2 *", "* * * * * *", "R * * * *", "h * * * *", "*/0 * * * *",
    "0 0 31 2,4 *", "0 0 * * 7#9", "0 0 l * *", "9-1 * * * *", "1-1/99999 * * * *", "* * * *", "* * * * * * *",
    "L L L L L",
)  # fmt: skip
DURATIONS = ("90s", "1h30m", "0", "1e3", "-5s", "1w2d", "9" * 400 + "s", "0.000001ms", "1h-1m", "3001w", "٣s", "1 ms")
INSTANTS = (
    "2026-11-23T06:00:00+01:00", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    "2026-11-23", "2026-W01-1T00Z", "2026-11-23T06:00:00.1234567890Z", "20261123T060000+0100", "2026-02-30T00:00:00Z",
)  # fmt: skip
# Words of the formats that litequeue keeps as JSON: half of each object of hostile JSON is made of them.
WORDS = (
    "pid", "host", "started", "boot", "namespace", "cron", "zone", "every", "jitter", "at", "catch_up", "one", "all",
    "overlap", "skip", "queue",
    "none",
    "done", "total", "note", "n", "plain", "UTC", "* * * * *",
)  # fmt: skip


class Raw(bytes):
    """Bytes that a file holds as TEXT."""

    __slots__ = ()


def decodable(text: str) -> bool:
    """Whether UTF-8 holds it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_text = st.text(max_size=12)
_scalars = (
    st.none() | st.booleans() | st.sampled_from(INTEGERS) | st.sampled_from(REALS) | _text | st.sampled_from(WORDS)
)
plain = st.recursive(
    _scalars | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | _text, inner, max_size=4),
    max_leaves=8,
)
json_texts = plain.map(json.dumps)
texts = st.sampled_from(TEXTS) | _text | json_texts
whens = st.sampled_from(INSTANTS) | st.datetimes(timezones=st.none() | st.timezones()) | texts
spans = (
    st.sampled_from(DURATIONS)
    | st.text("0123456789.wdhms ", max_size=12)
    | st.timedeltas()
    | st.floats()
    | st.integers()
    | texts
)
crons = (
    st.sampled_from(CRONS)
    | st.lists(st.text("0123456789*/-,#lLWrRhH?MON", min_size=1, max_size=6), min_size=4, max_size=7).map(" ".join)
    | texts
)
zones = st.sampled_from(ZONES) | texts
integers = st.sampled_from(INTEGERS) | st.integers(-LARGEST - 1, LARGEST)
reals = st.sampled_from(REALS) | st.floats(allow_nan=False)
raws = st.builds(
    Raw, st.sampled_from([b"\xff", b"a\xc3", b"plain\xff", b'["\xff"]', b"\xed\xa0\x80"]) | st.binary(max_size=6)
)
stored_texts = (
    texts.filter(decodable)
    | raws
    | st.builds(lambda good, cut, more: good[:cut] + more, json_texts, st.integers(0, 40), _text).filter(decodable)
)
_given = st.lists(plain, max_size=3), st.dictionaries(st.sampled_from(WORDS), plain, max_size=2)
calls = st.tuples(*_given) | st.tuples(*_given, st.just([]), st.sampled_from([1, 2, 3]))
blobs = (
    st.sampled_from(BYTES) | st.binary(max_size=40) | json_texts.map(str.encode) | calls.map(json.dumps).map(str.encode)
)
OF_TYPE = {"INTEGER": integers, "REAL": reals, "TEXT": stored_texts, "BLOB": blobs}
anything = (
    texts | spans | whens | integers | reals | st.binary(max_size=8) | plain | st.complex_numbers() | st.decimals()
)


def trigger_texts() -> st.SearchStrategy[str]:
    """Stored triggers: near the format, and far from it."""
    length, expression, zone = (
        st.sampled_from([0.01, 1, 3600, 1e11]),
        st.sampled_from(CRONS[:3]),
        st.sampled_from(ZONES[:2]),
    )
    number = reals | integers | texts | st.booleans()
    begin = {"first_at": st.just("now") | number, "since": st.just(NOW) | number}
    dates = {
        "every": st.sampled_from(["1 month", "3 weeks", "100 years", "0 days"]),
        "at": st.sampled_from(["09:00", "9"]),
    }
    combined = (
        st.fixed_dictionaries({"every": length, "jitter": length}, optional=begin)
        | st.fixed_dictionaries(dates | {"zone": zone, "jitter": length}, optional=begin)
        | st.fixed_dictionaries({"cron": st.just("H H * * *") | expression, "zone": zone}, optional={"name": texts})
    )
    return st.one_of(
        st.fixed_dictionaries({"cron": expression, "zone": zone}).map(json.dumps),
        st.fixed_dictionaries({"every": length, "jitter": length}).map(json.dumps),
        st.fixed_dictionaries({"cron": crons, "zone": zones}).map(json.dumps),
        st.fixed_dictionaries({"every": number, "jitter": number}).map(json.dumps),
        st.fixed_dictionaries({"at": number}).map(json.dumps),
        combined.map(json.dumps),
        st.fixed_dictionaries({"first_of": st.lists(combined, max_size=3)}).map(json.dumps),
        texts,
    )


# ---- nothing is run


class Watched(NamedTuple):
    """What was run while somebody watched."""

    events: list[str]


_watchers: list[list[str]] = []
_STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pty.spawn")


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _watchers and (event.startswith(_STARTS) or (event == "import" and arguments[0] == CANARY)):
        _watchers[-1].append(f"{event} {arguments!r:.200}")


sys.addaudithook(_hear)


@contextmanager
def nothing_is_run() -> Generator[None, None, None]:
    """Refuse that in the block a process is started or the canary imported."""
    _watchers.append([])
    try:
        yield
    finally:
        seen = _watchers.pop()
    assert not seen, f"what the text named was run: {seen}"
