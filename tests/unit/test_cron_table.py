"""Each row of the tables of docs/triggers.md is as it says."""

import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

from litequeue.core.duration import utc
from litequeue.scheduling.cron import cron
from litequeue.scheduling.triggers import first, named, upcoming

PAGE = (Path(__file__).parents[2] / "docs" / "triggers.md").read_text(encoding="utf-8")
START = datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp()
SYNTAX, SLIPS = PAGE.split("What is probably a slip", 1)
TAKEN = re.findall(r"^\| `([^`]+)` \| .* \| ([-0-9:, ]+) \|$", SYNTAX, re.MULTILINE)
REFUSED = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| [^|]+ \|$", SLIPS, re.MULTILINE)
assert len(TAKEN) > 30
assert len(REFUSED) > 8


@pytest.mark.parametrize(("expression", "times"), TAKEN)
def test_an_expression_of_the_table_is_due_when_the_table_says(expression, times):
    trigger = named(cron(expression, tz="UTC"), "report")
    found = upcoming(trigger, first(trigger, START), 2)
    assert ", ".join(f"{utc(tick):%Y-%m-%d %H:%M:%S}".removesuffix(":00") for tick in found) == times


@pytest.mark.parametrize(("expression", "said"), REFUSED)
def test_an_expression_that_the_page_refuses_is_refused_in_these_words(expression, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        cron(expression, tz="UTC")
