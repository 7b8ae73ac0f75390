"""Draw the pictures of docs/composition.md: `python docs/design/compositions.py`. Needs only the standard library."""
# ruff: noqa: INP001 - a program, not a module

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

WIDE, HIGH = 150, 44  # a job
GAP = 90  # between two columns, where the arrows are
INK, GREY, PAPER = "#1f2933", "#52606d", "#ffffff"  # on paper of its own: readable on light and dark pages
FILL = {
    "": "#ffffff",
    "queued": "#e3f0fb",
    "scheduled": "#e3f0fb",
    "waiting": "#fdf3d8",
    "succeeded": "#e4f4e8",
    "failed": "#fbd9da",
    "cancelled": "#e4e7eb",
}

HEAD = '<path d="M0,0 L7,3.5 L0,7 z"/>'
MARKER = f'<marker id="head" markerWidth="7" markerHeight="7" refX="6" refY="3.5" orient="auto">{HEAD}</marker>'
STYLE = f"""
text {{ font: 12px "DejaVu Sans", Verdana, sans-serif; fill: {INK}; text-anchor: middle }}
.name {{ font: bold 13px "DejaVu Sans Mono", monospace }}
.small {{ font-size: 11px; fill: {GREY} }}
.left {{ text-anchor: start }}
"""


@dataclass(frozen=True)
class Node:
    """A job, by column and row; `more` is what stands below its name."""

    column: float
    row: float
    name: str
    more: str = ""
    state: str = ""

    @property
    def left(self) -> float:
        """Where it begins."""
        return 24 + self.column * (WIDE + GAP)

    @property
    def middle(self) -> float:
        """Where arrows come and go."""
        return 62 + self.row * 62

    def drawn(self) -> list[str]:
        """Its frame and its words."""
        centre, lift = self.left + WIDE / 2, 3 if self.more else -4
        frame = (
            f'<rect x="{self.left:g}" y="{self.middle - HIGH / 2:g}" width="{WIDE}" height="{HIGH}" rx="8" '
            f'fill="{FILL[self.state]}" stroke="{INK}"/>'
        )
        more = [words(centre, self.middle + 14, self.more, "small")] if self.more else []
        return [frame, words(centre, self.middle - lift, self.name, "name"), *more]


@dataclass(frozen=True)
class Arrow:
    """From a job to one that waits for it. `hands_on`: with its result; else dashed."""

    start: Node
    end: Node
    label: str = ""
    hands_on: bool = True

    def drawn(self) -> list[str]:
        """Its line, and the label above."""
        x1, y1, x2, y2 = self.start.left + WIDE, self.start.middle, self.end.left - 2, self.end.middle
        half = (x1 + x2) / 2
        dash = "" if self.hands_on else ' stroke-dasharray="6 4"'
        line = (
            f'<path d="M {x1:g} {y1:g} C {half:g} {y1:g} {half:g} {y2:g} {x2:g} {y2:g}" fill="none" stroke="{INK}" '
            f'stroke-width="1.6"{dash} marker-end="url(#head)"/>'
        )
        return [line, *([words(half, (y1 + y2) / 2 - 7, self.label, "small")] if self.label else [])]


@dataclass(frozen=True)
class Frame:
    """What is around the members of a group."""

    column: float
    rows: int
    label: str

    def drawn(self) -> list[str]:
        """A frame behind its members, and its label."""
        left, height = 24 + self.column * (WIDE + GAP) - 12, self.rows * 62 + 4
        frame = (
            f'<rect x="{left:g}" y="29" width="{WIDE + 24}" height="{height}" rx="10" fill="#f5f7fa" stroke="{GREY}" '
            f'stroke-dasharray="2 3"/>'
        )
        return [frame, words(left + (WIDE + 24) / 2, 20, self.label, "small")]


@dataclass(frozen=True)
class Text:
    """Words beside the jobs, from a column on."""

    column: float
    row: float
    text: str

    def drawn(self) -> list[str]:
        """The words, in small letters."""
        return [words(24 + self.column * (WIDE + GAP), 66 + self.row * 62, self.text, "small left")]


Part = Node | Arrow | Frame | Text


def words(x: float, y: float, text: str, kind: str) -> str:
    """Text of a class of `STYLE`."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>'


def chain() -> list[Part]:
    """`fetch.s(url) | parse.s() | notify.si("done")`."""
    fetch, parse = Node(0, 0, "fetch.s(url)", "queued", "queued"), Node(1, 0, "parse.s()", "waiting", "waiting")
    notify = Node(2, 0, 'notify.si("done")', "waiting", "waiting")
    arrows = [Arrow(fetch, parse, "its result"), Arrow(parse, notify, "only its end", hands_on=False)]
    return [fetch, parse, notify, *arrows]


def group() -> list[Part]:
    """`group(resize.s(path) for path in paths)`."""
    members = [Node(0, row, f'resize.s("{name}")', "queued", "queued") for row, name in enumerate("abc")]
    return [Frame(0, 3, "JobGroup"), *members, Text(1, 1, 'results(): ["A", "B", "C"], in the order of the group')]


def chord() -> list[Part]:
    """`group(...) | zip_up.s()`."""
    members = [Node(0, row, f'resize.s("{name}")', "queued", "queued") for row, name in enumerate("abc")]
    body = Node(1.2, 1, "zip_up.s()", "waiting", "waiting")
    arrows = [Arrow(member, body) for member in members]
    around = [Text(1.2, 0.45, 'gets ["A", "B", "C"]'), Text(1.2, 1.6, "runs once, after the last member")]
    return [Frame(0, 3, "the group"), *members, body, *arrows, *around]


def dag() -> list[Part]:
    """Jobs with `after=`."""
    orders, prices = Node(0, 0, "load_orders", "queued", "queued"), Node(0, 1, "load_prices", "queued", "queued")
    bill, archive = Node(1, 0, "bill", "after both", "waiting"), Node(1, 1, "archive", "after one", "waiting")
    report = Node(2, 0.5, "report", 'after_failed="run"', "waiting")
    pairs = [(orders, bill), (prices, bill), (prices, archive), (bill, report), (archive, report)]
    return [orders, prices, bill, archive, report, *(Arrow(one, other, hands_on=False) for one, other in pairs)]


def failure() -> list[Part]:
    """A parent that fails, and its retry."""
    first = [
        Node(0, 0, "fetch", "41: failed", "failed"),
        Node(1, 0, "parse", "42: cancelled", "cancelled"),
        Node(2, 0, "notify", "43: cancelled", "cancelled"),
    ]
    then = [
        Node(0, 1.7, "fetch", "41: queued", "queued"),
        Node(1, 1.7, "parse", "42: waiting", "waiting"),
        Node(2, 1.7, "notify", "43: waiting", "waiting"),
    ]
    arrows = [Arrow(one, other) for row in (first, then) for one, other in pairwise(row)]
    return [
        *first, *then, *arrows,
        Text(1, 0.6, "parent 41 failed"), Text(2, 0.6, "parent 42 cancelled"), Text(0, 1.1, "job 41 .retry():"),
    ]  # fmt: skip


PICTURES = {
    "chain": (chain, 680, 104, "A chain: each call gets the result of the one before; .si takes nothing"),
    "group": (group, 680, 236, "A group: jobs that run side by side"),
    "chord": (chord, 680, 236, "A chord: a group, and a body that gets the list of its results"),
    "dag": (dag, 680, 166, "Jobs that wait for jobs"),
    "failure": (failure, 680, 216, "A failed parent cancels what follows, and its retry makes that waiting again"),
}


def picture(name: str) -> str:
    """One picture, as SVG."""
    parts, width, height, title = PICTURES[name]
    drawn = [line for part in parts() for line in part.drawn()]
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{MARKER}</defs>",
            f'<rect width="{width}" height="{height}" rx="10" fill="{PAPER}"/>',
            *drawn,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    for name in PICTURES:
        Path(__file__).with_name(f"composition_{name}.svg").write_text(picture(name), encoding="utf-8")
