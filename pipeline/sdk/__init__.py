"""The callers' door: `Client.publish` for Kafka at once, `outbox.enqueue` within a transaction.

    async with Client(bootstrap_servers, catalogue=catalogue) as everpost:
        await everpost.publish(new_event("flight.cancelled", tenant="air", user_id="u-42", data={...}))

    async with connection.transaction():
        await connection.execute("update booking set ...")
        await outbox.enqueue(connection, event, catalogue=catalogue)

Nothing connects at import. Both doors check an event against the catalogue before it is accepted.
"""

from pipeline.sdk import outbox
from pipeline.sdk.catalogue import load_catalogue
from pipeline.sdk.client import Client, Receipt
from pipeline.sdk.events import new_event

__all__ = ["Client", "Receipt", "load_catalogue", "new_event", "outbox"]
