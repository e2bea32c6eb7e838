"""`everpost up` and the commands that people type beside it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import services
from tests.support.commands import FLIGHT, last, ready, run, up

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]


def test_one_event_from_publish_to_why(home: Path) -> None:
    """A newcomer registers a user, publishes, and is told what became of it; the checks find all well."""
    with up(home) as process:
        here = ready(process, home)
        second = run(here, "up")
        assert second.returncode == 0
        assert "up already" in second.stdout

        registered = run(here, "register", "u-1", "--email", "ann@example.com", "--sms", "+19175550100")
        assert "2 addresses" in registered.stdout, registered.stderr
        published = run(
            here, "publish", "flight.cancelled", *FLIGHT, "--user", "u-1", "--event-id", "one", "--json"
        )
        assert last(published)["event_id"] == "one"

        def settled() -> bool:
            figures = last(run(here, "ledger", "--json"))
            return figures["accepted"] == 1 and figures["in_flight"] == 0

        services.until(settled, 60, 0.2)
        why = run(here, "why", "one")
        assert "delivered by sms, email" in why.stdout
        assert last(run(here, "why", "one", "--json"))["timelines"][0]["decision"]["event_id"] == "one"
        assert "passed  preference" in why.stdout
        assert "ledger balanced" in run(here, "ledger").stdout
        assert run(here, "topics", "check").returncode == 0
        doctor = run(here, "doctor", "--json")
        assert last(doctor)["good"], last(doctor)["findings"]


def test_without_kafka_the_commands_say_what_is_away() -> None:
    """Nothing listens: exit code 75, a sentence, and no traceback."""
    environment = os.environ | {
        "EVERPOST_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "EVERPOST_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none",
    }
    commands = (("ledger",), ("why", "one"), ("topics", "check"))
    with ThreadPoolExecutor() as pool:  # each waits for its own deadline
        ended = list(pool.map(lambda command: run(environment, *command), commands))
    for done in ended:
        assert done.returncode == 75, (done.args, done.stderr)
        assert "Traceback" not in done.stderr
    wrong = run(os.environ | {"EVERPOST_BOTSTRAP": "x"}, "doctor")
    assert wrong.returncode == 78
    assert "EVERPOST_BOTSTRAP is no setting" in wrong.stderr
