"""`python -m benchmarks.alone PROVIDER DIR N`: one of our connectors alone, in a loop.

It drives a local provider to its ceiling, and says what of the sender's cost is the connector's.
"""

import sys
from importlib.metadata import entry_points
from pathlib import Path
from uuid import UUID

import uvloop

from benchmarks.deliveries import CONTESTS, Sandbox, addresses
from benchmarks.loop import Figures, timed
from connectors.contract import Connector, Content, Message

CONTENT = Content(
    title="UA 1018 is cancelled",
    text="EWR → IAH, 05:25. Tap to rebook.",
    link="https://example.com/flights/UA%201018",
)
AT_ONCE = 200


async def run(sandbox: Sandbox, provider: str, messages: int) -> Figures:
    """Send so many messages."""
    (contest,) = (one for one in CONTESTS if one.provider == provider)
    (entry,) = entry_points(group="everpost.connectors", name=provider)
    connector: Connector = entry.load()(sandbox.options_of(provider))
    numbers = iter(range(messages))

    async def send(address: str) -> None:
        id = str(UUID(int=next(numbers)))
        await connector.send(Message(delivery_id=id, event_id=id, address=address, content=CONTENT))

    try:
        at_once = min(AT_ONCE, connector.capacity)
        return await timed(send, addresses(contest, sandbox), messages, at_once)
    finally:
        await connector.aclose()


if __name__ == "__main__":
    print(uvloop.run(run(Sandbox.at(Path(sys.argv[2])), sys.argv[1], int(sys.argv[3]))).to_json())
