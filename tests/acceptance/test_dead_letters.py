"""Given up, mended, sent again: the real commands on the running pipeline, against what the provider received."""

import json
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import services
from tests.support.commands import FLIGHT, last, ready, run, up

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]
EVENTS = 4
# The sender is not allowed: an error of the operator's account, which no retry mends.
FAULT = [{"kind": "status", "provider": "vonage", "status": 200, "reason": "15 Illegal Sender Address"}]


def asked(control: str, path: str, method: str, body: object = None) -> bytes:
    """One request to the control door of the local providers, which listens on the loopback."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(control + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def accepted(control: str) -> Counter[str]:
    """How often the provider has taken each delivery."""
    rows = [json.loads(line) for line in asked(control, "/received?provider=vonage", "GET").splitlines()]
    return Counter(row["delivery_id"] for row in rows if row["accepted"])


def ledger(here: Mapping[str, str]) -> Any:
    """The balance, when nothing is in flight."""
    figures = last(run(here, "ledger", "--json"))
    return figures if figures["accepted"] == EVENTS and figures["in_flight"] == 0 else None


def test_what_was_given_up_is_sent_again_once(home: Path) -> None:
    """The provider gets each once; the second replay says that all arrived and sends nothing."""
    with up(home) as process:
        here = ready(process, home)
        control = json.loads(next(home.rglob("sandboxes.json")).read_text())["control"]
        asked(control, "/faults", "POST", FAULT)
        assert run(here, "register", "u-1", "--sms", "+19175550100").returncode == 0
        for number in range(EVENTS):
            done = run(
                here, "publish", "flight.cancelled", *FLIGHT, "--user", "u-1", "--event-id", f"e-{number}"
            )
            assert done.returncode == 0, done.stderr
        assert services.until(lambda: ledger(here), 60, 0.2)["dead"]
        (row,) = last(run(here, "dead", "stats", "--json"))
        assert (row["total"], row["provider"], row["code"]) == (EVENTS, "vonage", "15")
        asked(control, "/faults", "DELETE")

        chosen = ("--error", row["fingerprint"], "--channel", "sms")
        dry = last(run(here, "dead", "replay", *chosen, "--dry-run", "--json"))
        assert (dry["sent"], dry["would_send"], sum(accepted(control).values())) == (0, EVENTS, 0)
        canary = ("--canary", "1", "--stop-at", "10", "--why", "the sender is registered now")
        told = last(run(here, "dead", "replay", *chosen, *canary, "--json"))
        assert (told["status"], told["sent"]) == ("done", EVENTS), told
        services.until(lambda: not ledger(here)["dead"] if ledger(here) else None, 60, 0.2)
        again = run(here, "dead", "replay", *chosen, "--why", "the same once more")
        assert f"{EVENTS:,}  already delivered" in again.stdout
        services.until(lambda: ledger(here), 60, 0.2)
        found = accepted(control)
        assert (len(found), set(found.values())) == (EVENTS, {1})
        result = last(run(here, "dead", "runs", told["run_id"], "--json"))
        assert result["results"] == {"delivered": EVENTS}
        assert "delivered by sms" in run(here, "why", "e-0").stdout
