"""The bugs that `python -m tests.faults mutants` plants, and for each the cheapest check that must see it.

A bug is the smallest edit that makes the mistake. Its text has to be found exactly once, so one that the
code has left behind is an error and not a silent pass.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Edit:
    """One text of one file and what stands there instead."""

    path: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Edit the copy below `root`. Raises ValueError unless the text stands there exactly once."""
        file = root / self.path
        text = file.read_text()
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.path} has this {found} times, not once; mend the bug: {self.old!r}")
        file.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake that somebody might make."""

    name: str
    edits: tuple[Edit, ...]
    check: str  # what pytest is given


_ROUTE = "pipeline/stages/route/step.py"
_TRANSACT = "pipeline/adapters/kafka/transact.py"
_CONSUME = "pipeline/adapters/kafka/consume.py"
_OUTBOX = "pipeline/adapters/postgres/outbox.py"
_CLIENTS = "tests/integration/test_kafka_asyncio.py"
_TRANSACTIONS = "tests/integration/test_transact.py"

BUGS = (
    Bug(
        "dedup changed before the commit",
        (
            Edit(
                _ROUTE,
                "    pages = router.transactions.commit(",
                "    router.state.learn(work.batch.pages, dict.fromkeys(work.batch.pages, 0))\n"
                "    pages = router.transactions.commit(",
            ),
        ),
        "tests/unit/stages/test_route_exactly_once.py",
    ),
    Bug(
        "outbox marked before the acknowledgement",
        (
            Edit(
                "pipeline/stages/relay/step.py",
                "    taken = await _produce(",
                "    await outbox.settle([row.id for row in good])\n    taken = await _produce(",
            ),
        ),
        "tests/unit/stages/test_relay_at_least_once.py",
    ),
    Bug(
        "relay by id > cursor",
        (
            Edit(
                "pipeline/adapters/postgres/queries/outbox.sql",
                "nullif(row.headers, '{}')\n",
                "nullif(row.headers, '{}'), row.seq\n",
            ),
            Edit(
                "pipeline/adapters/postgres/queries/outbox.sql",
                "    select id, aggregatetype, aggregateid, payload, headers,\n",
                "    select id, aggregatetype, aggregateid, payload, headers, seq,\n",
            ),
            Edit(
                "pipeline/adapters/postgres/queries/outbox.sql",
                "    where share = held.share\n",
                "    where share = held.share and seq > $4\n",
            ),
            Edit(
                _OUTBOX,
                "        self._wake = asyncio",
                "        self._last = 0\n        self._wake = asyncio",
            ),
            Edit(
                _OUTBOX,
                "_BYTES // len(held))\n",
                "_BYTES // len(held), self._last)\n"
                '        self._last = max([self._last, *(row["seq"] for row in rows)])\n',
            ),
        ),
        "tests/integration/test_relay.py::test_a_late_committer_with_a_smaller_number_is_not_skipped",
    ),
    Bug(
        "sender reads uncommitted records",
        (Edit(_CONSUME, 'isolation_level="read_committed"', 'isolation_level="read_uncommitted"'),),
        f"{_CLIENTS}::test_aborted_records_are_not_read",
    ),
    Bug(
        "bare commit",
        (
            Edit(
                _CONSUME,
                "{TopicPartition(*one): (done.next, done.metadata()) for one, done in offsets.items()}",
                "",
            ),
        ),
        f"{_CLIENTS}::test_the_successor_reads_the_holes_alone",
    ),
    Bug(
        "offset reset to latest with a lost group",
        (Edit(_CONSUME, 'auto_offset_reset="earliest"', 'auto_offset_reset="latest"'),),
        f"{_CLIENTS}::test_a_lost_group_skips_nothing",
    ),
    Bug(
        "random transactional id",
        (
            Edit(
                _TRANSACT,
                '"transactional.id": transactional_id,',
                '"transactional.id": f"{transactional_id}-{datetime.now(UTC)}",',
            ),
        ),
        f"{_TRANSACTIONS}::test_a_successor_fences_who_went_before",
    ),
    Bug(
        "mixed partitioners",
        (Edit(_TRANSACT, '"partitioner": "murmur2_random"', '"partitioner": "consistent_random"'),),
        f"{_TRANSACTIONS}::test_both_producers_agree_on_partitions",
    ),
    Bug(
        "retry committed before it is produced",
        (
            Edit(
                "pipeline/stages/retry/step.py",
                '        with span("process batch", stage="retry"):',
                "        await retrier.consumer.commit([one.source for one in gone])\n"
                '        with span("process batch", stage="retry"):',
            ),
        ),
        "tests/unit/stages/test_retry.py::test_nothing_is_committed_before_it_is_acknowledged",
    ),
    Bug(
        "breaker burns attempts",
        (
            Edit(
                "pipeline/stages/send/attempt.py",
                "if gate.answered(verdict.result, probe=found.probe, era=found.era):",
                "if gate.answered(verdict.result, probe=found.probe, era=found.era) or True:",
            ),
        ),
        "tests/unit/stages/test_send_breaker.py::test_a_probe_that_is_refused_is_not_given_up_on_its_last_attempt",
    ),
    Bug(
        "a channel fault burns attempts",
        (
            Edit(
                "pipeline/stages/send/decide.py",
                "            return Pause(reason=why, code=code)",
                '            return _again(_climb(delivery, now, None, tiers), "transient", why, code)',
            ),
        ),
        "tests/unit/stages/test_send.py::test_a_channel_fault_pauses_and_burns_nothing",
    ),
    Bug(
        "hold forgotten before its release is acknowledged",
        (
            Edit(
                "pipeline/stages/hold/step.py",
                '        holder.reached("claimed")\n        if timers:\n            with span("process batch", stage="hold"):\n                await holder',
                '        holder.reached("claimed")\n    if timers:\n        with span("process batch", stage="hold"):\n            await holder',
            ),
            Edit(
                "pipeline/stages/hold/step.py",
                '        holder.reached("produced")\n',
                '    holder.reached("produced")\n',
            ),
        ),
        "tests/unit/stages/test_hold_run.py",
    ),
    Bug(
        "offsets committed over a hole",
        (
            Edit(
                "pipeline/adapters/kafka/tracker.py",
                "        while self.order and self.order[0] not in self.open:",
                "        while self.order:",
            ),
            Edit(
                "pipeline/adapters/kafka/tracker.py",
                "        if self.order[0] not in self.open:\n            self._advance()",
                "        if self.order:\n            self._advance()",
            ),
        ),
        "tests/unit/adapters/test_tracker.py",
    ),
)
