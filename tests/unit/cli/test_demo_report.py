"""When the demo says that all is accounted for."""

from dataclasses import replace

import pytest

from pipeline.cli.demo.day import Accepted
from pipeline.cli.demo.report import Report
from pipeline.cli.demo.verify import Comparison
from pipeline.model.ledger import Books, balance

# 12 calls for 10 events; one repeat met its first in the outbox.
CALLS = Accepted(events=12, absorbed=1, distinct=10)


@pytest.mark.parametrize(
    ("records", "duplicates", "balanced"),
    [
        (11, 1, True),
        (14, 4, True),  # PostgreSQL was killed: the relay wrote three records again
        (10, 0, False),  # a record that was accepted is gone
        (11, 2, False),  # an event whose every record is a duplicate: nobody hears of it
        (14, 3, False),  # an event that was decided twice
    ],
)
def test_each_accepted_event_is_decided_once(records: int, duplicates: int, balanced: bool) -> None:
    """However often it was written; with one decision too few or too many the demo fails."""
    ledger = replace(balance(Books(), {}), accepted=records, final=records, duplicates=duplicates)
    report = Report(
        accepted=CALLS, ledger=ledger, comparison=Comparison(mismatches=(), repeats=0), restarts={}
    )
    assert report.balanced is balanced
    assert report.good is balanced
