"""For services whose events carry the ids of a schema registry instead of the lock file's.

A module of its own: the registry's client costs 15 MB, and most services do without.
"""

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.registry import RegistryIds
from pipeline.model.topics import table
from pipeline.sdk.door import Encoder


def encoder(schema_registry_url: str) -> Encoder:
    """The `encoder` of `Client` and `outbox.enqueue` where the pipeline has SCHEMA_REGISTRY_URL set.

    To be made once, before the event loop runs: it asks for the id of `event`, for at most 7 s, and never
    again. Raises DependencyDown, or ConfigurationError when the schema is not registered.
    """
    ids = RegistryIds(schema_registry_url, table())
    ids.schema(ids.write_id("event"))
    return Wire(ids)
