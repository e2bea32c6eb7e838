"""Ids from a real registry: the same bytes as without one, changes refused, an outage survived."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from pydantic import SecretStr

from infra.embedded import ports, registry
from infra.embedded.supervisor import Supervisor
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile, releases, source
from pipeline.adapters.wire.registry import RegistryIds, connect, register_all
from pipeline.cli import contract
from pipeline.cli.stages import bootstrap
from pipeline.model.errors import ConfigurationError, DependencyDown, Unreadable
from pipeline.model.event import Event
from pipeline.model.topics import events, table
from pipeline.sdk.registry import encoder
from pipeline.settings import Settings
from pipeline.wiring import wire
from tests.support import services
from tests.support.golden import examples
from tests.support.make import event

pytestmark = pytest.mark.integration
SUBJECT = f"{events('normal')}-value"
STRANGER = Schema(json.dumps({"type": "record", "name": "Parcel", "fields": []}), "AVRO")
UNKNOWN = 987_654  # an id that no registry here has given


@pytest.fixture(scope="module")
def filled(registry: str) -> str:
    """URL of a registry that had no schemas, and now has ours."""
    register_all(registry, table())
    return registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A registry that somebody else uses too, and that can be stopped."""

    url: str
    signal: Callable[[signal.Signals], bool]
    ready: Callable[[], bool]


@pytest.fixture(scope="module")
def shared() -> Generator[Shared]:
    """A registry in which others have taken the first ids."""
    files = registry.unpacked(services.cache(), lambda *_: None)
    with services.scratch() as home, Supervisor(home / "logs") as supervisor:
        port, management = ports.free(2)
        server = registry.Registry(files=files, port=port, management_port=management)
        supervisor.run(server.program())
        services.until(lambda: server.ready(1), 120)
        with connect(server.url) as client:
            client.register_schema("parcels-value", STRANGER)
        yield Shared(
            url=server.url,
            signal=partial(supervisor.kill, server.program().name),
            ready=lambda: server.ready(1),
        )


@pytest.fixture
def client(filled: str) -> Generator[SchemaRegistryClient]:
    """A client that knows nothing yet."""
    with connect(filled) as found:
        yield found


def test_a_new_registry_counts_as_the_lock_file(filled: str) -> None:
    """Every release has under every subject the id of the lock file; registering again changes nothing."""
    again = register_all(filled, table())
    assert {(each.release.label, each.id) for each in again} == {(each.label, each.id) for each in releases()}
    assert {each.subject for each in again} == {topic.subject for topic in table() if topic.schema}


def test_the_bytes_are_the_same_with_and_without_a_registry(filled: str) -> None:
    """Turning a registry on changes no byte, so both sides read each other."""
    with_registry = wire(Settings(SCHEMA_REGISTRY_URL=filled))  # pyright: ignore[reportCallIssue] - its alias
    offline = Wire(LockFile())
    with_registry.ready()
    for example in examples():
        written = with_registry.encode(example.record)
        assert written == offline.encode(example.record)
        assert with_registry.decode(type(example.record), example.bytes) == example.record


def test_every_subject_is_held_to_full_transitive(client: SchemaRegistryClient) -> None:
    """The registry itself guards what the contract test guards, for who registers past us."""
    assert {client.get_compatibility(topic.subject) for topic in table() if topic.schema} == {
        "FULL_TRANSITIVE"
    }


def test_an_incompatible_change_is_refused(client: SchemaRegistryClient) -> None:
    """HTTP 409 for a field without a default, and nothing is registered."""
    schema = source(releases()[0])
    schema["fields"].append({"name": "region", "type": "string"})
    with pytest.raises(SchemaRegistryError) as refused:
        client.register_schema(SUBJECT, Schema(json.dumps(schema), "AVRO"))
    assert refused.value.http_status_code == 409
    assert len(client.get_versions(SUBJECT)) == len([each for each in releases() if each.name == "event"])


def test_an_incompatible_release_is_told_with_its_subject(filled: str, tmp_path: Path) -> None:
    """`register` says which release broke which subject."""
    first = releases()[0]
    schema = source(first)
    schema["fields"].append({"name": "region", "type": "string"})
    (tmp_path / "event.2.avsc").write_text(json.dumps(schema), encoding="utf-8")
    entry = {"id": 1, "name": "event", "version": 2, "file": "event.2.avsc", "fingerprint": ""}
    (tmp_path / "ids.json").write_text(json.dumps({"schemas": [entry]}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"event version 2 under notification\.events\.\w+-value"):
        register_all(filled, table(), tmp_path)


def test_an_id_that_is_not_ours_is_unreadable(filled: str) -> None:
    """Neither an id that nobody gave nor somebody else's schema is misread."""
    ids = RegistryIds(filled, table())
    with pytest.raises(Unreadable, match=f"schema id {UNKNOWN} is unknown to the registry"):
        ids.schema(UNKNOWN)
    with connect(filled) as client:
        stranger = client.register_schema("parcels-value", STRANGER)
    with pytest.raises(Unreadable, match=r"is Parcel, not everpost\.Event"):
        Wire(ids).decode(Event, b"\0" + stranger.to_bytes(4, "big") + b"\0")


def test_a_service_refuses_to_start_before_its_schemas_are_there(shared: Shared) -> None:
    """The message says what to run; nothing is registered by a service."""
    with pytest.raises(ConfigurationError, match="run `everpost schemas register` when you deploy"):
        Wire(RegistryIds(shared.url, table())).ready()


def test_bootstrap_registers_the_schemas(kafka: str, postgres: str, shared: Shared) -> None:
    """One step of deployment for topics, schemas and tables; a second time finds all of it there."""
    here = Settings(bootstrap_servers=kafka, postgres_dsn=SecretStr(postgres), SCHEMA_REGISTRY_URL=shared.url)  # pyright: ignore[reportCallIssue] - its alias
    first, second = asyncio.run(bootstrap(here)), asyncio.run(bootstrap(here))
    assert first.schemas == second.schemas >= len(releases())
    assert (second.topics.created, second.migrations) == ((), ())
    wire(here).ready()


def test_a_wrong_path_is_no_unknown_schema(filled: str) -> None:
    """A mistyped URL stops the service; it must not send good records to the dead letters."""
    wrong = RegistryIds(filled.removesuffix("/v7"), table())
    with pytest.raises(ConfigurationError, match="no registry is at SCHEMA_REGISTRY_URL"):
        wrong.schema(1)
    with pytest.raises(ConfigurationError, match="no registry is at SCHEMA_REGISTRY_URL"):
        wrong.write_id("event")
    with pytest.raises(ConfigurationError, match="it looks like http://host:8081"):
        connect("registry:8081")


def test_in_a_shared_registry_its_ids_hold(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others have taken our ids: `register` says so, records carry the registry's, and lock ids are refused."""
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", shared.url)
    monkeypatch.setenv("COLUMNS", "1000")
    assert contract.schemas("register") == 0
    said = capsys.readouterr().out
    assert "event version 1 has id 2 in the registry, 1 in schemas/ids.json" in said
    assert "The registry counts otherwise than schemas/ids.json" in said
    assert "begin with empty topics" in said
    theirs = Wire(RegistryIds(shared.url, table()))
    written = theirs.encode(event())
    assert written[:5] == b"\0\0\0\0\x02"
    assert theirs.decode(Event, written) == event()
    assert encoder(shared.url).encode(event()) == written
    with pytest.raises(Unreadable, match=r"schema id 1 is Parcel, not everpost\.Event"):
        theirs.decode(Event, Wire(LockFile()).encode(event()))


def test_a_registry_that_is_away_stops_only_who_meets_an_id_for_the_first_time(shared: Shared) -> None:
    """It hangs, comes back, and is killed: each question ends in time, and what is known goes on."""
    register_all(shared.url, table())
    known, new = Wire(RegistryIds(shared.url, table())), Wire(RegistryIds(shared.url, table()))
    written = known.encode(event())
    assert shared.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(DependencyDown, match="the schema registry does not answer"):
            new.decode(Event, written)
        assert time.monotonic() - began < 8  # two tries of 3 s
        assert known.decode(Event, written) == event()
    finally:
        shared.signal(signal.SIGCONT)
    assert new.decode(Event, written) == event()

    last = Wire(RegistryIds(shared.url, table()))
    assert shared.signal(signal.SIGKILL)
    with pytest.raises(DependencyDown):
        last.encode(event())
    services.until(shared.ready, 120)  # its supervisor starts it again, without schemas
    register_all(shared.url, table())
    assert last.decode(Event, last.encode(event())) == event()
