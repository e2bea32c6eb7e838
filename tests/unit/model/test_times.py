"""The rules of the door about times: what is late or contradicts itself is named, what is to come is taken."""

from datetime import timedelta
from typing import Any

import pytest

from pipeline.model.catalogue import problems
from tests.support.make import CATALOGUE, NOW, event

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("times", "wrong"),
    [
        ({}, []),
        ({"deliver_at": NOW + timedelta(days=30)}, []),
        ({"deliver_at": NOW + HOUR, "expires_at": NOW + 2 * HOUR}, []),
        ({"deliver_at": NOW - HOUR, "expires_at": NOW + HOUR}, []),
        ({"deliver_at": NOW + HOUR, "expires_at": NOW + HOUR}, ["deliver_at"]),
        ({"deliver_at": NOW + HOUR, "expires_at": NOW - HOUR}, ["deliver_at"]),
        ({"deliver_at": NOW + timedelta(days=367)}, ["deliver_at"]),
        ({"expires_at": NOW}, ["expires_at"]),
        ({"created_at": NOW + timedelta(days=2)}, ["created_at"]),
        ({"deliver_at": NOW.replace(tzinfo=None), "expires_at": NOW + HOUR}, ["deliver_at"]),
    ],
)
def test_times_at_the_door(times: dict[str, Any], wrong: list[str]) -> None:
    """An event may wait for a month; one that can never be sent is told so at once."""
    assert [problem.field for problem in problems(event(**times), CATALOGUE, NOW)] == wrong
