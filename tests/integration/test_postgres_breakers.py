"""Orders to breakers on a real PostgreSQL, and the command that gives them."""

import asyncio
import json
import os
import sys

import pytest

from pipeline.adapters.postgres.breakers import Wish
from tests.support.database import migrated
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


async def command(dsn: str, *arguments: str) -> tuple[int, str]:
    """Run `everpost breaker`; its exit code and what it printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.cli.main", "breaker", *arguments,
        env={**os.environ, "EVERPOST_POSTGRES_DSN": dsn},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await asyncio.wait_for(child.communicate(), 60)
    return child.returncode or 0, printed.decode()


async def test_an_order_reaches_the_sender_it_means_and_stays(postgres: str) -> None:
    """The last one for channel and provider holds until it is taken back; others are not meant."""
    async with migrated(postgres) as pool:
        vonage, twilio = Wish(pool, "sms", "vonage"), Wish(pool, "sms", "twilio")
        task = asyncio.create_task(vonage.run())
        try:
            code, text = await command(postgres, "open", "sms", "--why", "maintenance")
            assert (code, "nothing is sent" in text) == (0, True)

            async def known() -> bool:
                return vonage() == "open"

            await eventually(known)
        finally:
            task.cancel()
        await twilio.refresh()
        assert twilio() is None
        code, text = await command(postgres, "--json")
        (listed,) = json.loads(text.splitlines()[-1])
        assert (listed["channel"], listed["provider"], listed["wish"]) == ("sms", "vonage", "open")
        assert (await command(postgres, "auto", "sms", "--why", "over"))[0] == 0
        await vonage.refresh()
        assert vonage() is None
        assert "no order is in force" in (await command(postgres))[1]


@pytest.mark.parametrize(
    "wrong", [("open", "sms"), ("open", "--why", "x"), ("list", "sms"), ("open", "fax", "--why", "x")]
)
async def test_an_order_that_says_too_little_is_refused(wrong: tuple[str, ...]) -> None:
    """Without a channel, a reason or a known channel nothing is written."""
    code, text = await command("postgresql://127.0.0.1:1/none", *wrong)
    assert code == 78, text
