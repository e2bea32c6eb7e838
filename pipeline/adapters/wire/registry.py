"""Schema ids from a registry that speaks Confluent's API (Confluent, Apicurio, Karapace, Redpanda).

Services ask and never register: `everpost schemas register` does, at deployment. They write the
release that they were built with, whatever is newest in the registry. Ids are asked for once and kept:
a registry that is away stops only who meets an id for the first time.
"""

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from fastavro.schema import SchemaParseException, UnknownType

from pipeline.adapters.wire.ids import SCHEMAS, Release, parsed, releases, source
from pipeline.model.errors import ConfigurationError, DependencyDown, EverpostError, Unreadable
from pipeline.model.topics import Topic

COMPATIBILITY = "FULL_TRANSITIVE"
# Seconds. The asyncio stages ask on their loop, so one question with its one repeat stays below the
# 10 s after which a broker's patience with a silent member of a group would be at risk.
_TIMEOUT = 3
# An id that nobody knows is damage, most of the time; it may also be a schema that is registered in
# this moment. Asked again after so many seconds; and damage must not fill the memory.
_UNKNOWN_FOR = 30.0
_UNKNOWN_KEPT = 1_000
# The registry's own words for "no such subject" and "no such schema". HTTP's 404 alone may come from a
# wrong URL, and must not send good records to the dead letters.
_NOT_THERE = {40401, 40403}
_LOOKS = "it looks like http://host:8081 or, of Apicurio, http://host:8080/apis/ccompat/v7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A release as the registry knows it under one subject."""

    subject: str
    release: Release
    id: int  # the registry's; the lock file's is `release.id`


def connect(url: str) -> SchemaRegistryClient:
    """A client with deadlines, to be closed. Connects with the first question. Raises ConfigurationError."""
    try:
        return SchemaRegistryClient(
            {
                "url": url,
                "timeout": _TIMEOUT,
                "max.retries": 1,
                "retries.wait.ms": 200,
                "retries.max.wait.ms": 400,
            }
        )
    except ValueError as error:
        raise ConfigurationError(f"SCHEMA_REGISTRY_URL: {error}; {_LOOKS}") from error


class RegistryIds:
    """Ids of the registry at `url`, for the releases of the lock file in `directory`.

    What the lock file itself says about ids counts for nothing here: one number must not have two meanings.
    A client lives for one question, so nothing needs to be closed; there are a handful in a process's life.
    """

    def __init__(
        self,
        url: str,
        topics: Sequence[Topic],
        *,
        directory: Path = SCHEMAS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._url = url
        self._subjects = {topic.schema: topic.subject for topic in reversed(topics) if topic.schema}
        self._last = {release.name: release for release in releases(directory)}
        self._directory = directory
        self._clock = clock
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, Mapping[str, Any]] = {}
        self._unknown: dict[int, float] = {}  # id to when it is asked for again, oldest first

    def write_id(self, name: str) -> int:
        """The id under which the registry knows our release of this schema.

        Raises DependencyDown, or ConfigurationError when it was not registered.
        """
        found = self._ids.get(name)
        if found is None:
            found = self._ids[name] = self._ask_id(self._last[name])
        return found

    def schema(self, id: int) -> Mapping[str, Any]:
        """The writer schema. Raises Unreadable (the registry does not know the id) or DependencyDown."""
        found = self._schemas.get(id)
        if found is None:
            if self._clock() < self._unknown.get(id, 0):
                raise Unreadable(f"schema id {id} is unknown to the registry")
            try:
                found = self._schemas[id] = _record(id, self._ask_schema(id))
            except Unreadable:
                self._remember_unknown(id)
                raise
        return found

    def _ask_id(self, release: Release) -> int:
        subject = self._subjects[release.name]
        with connect(self._url) as client, _asking(f"the id of {release.label}"):
            try:
                answer = client.lookup_schema(subject, _schema(release, self._directory))
            except SchemaRegistryError as error:
                if error.error_code in _NOT_THERE:
                    raise ConfigurationError(
                        f"the registry has no {release.label} under {subject}: "
                        "run `everpost schemas register` when you deploy, before the services"
                    ) from error
                raise
        assert answer.schema_id is not None
        return answer.schema_id

    def _ask_schema(self, id: int) -> Schema:
        with connect(self._url) as client, _asking(f"schema {id}"):
            try:
                return client.get_schema(id)
            except SchemaRegistryError as error:
                if error.error_code in _NOT_THERE:
                    raise Unreadable(f"schema id {id} is unknown to the registry") from error
                raise

    def _remember_unknown(self, id: int) -> None:
        self._unknown.pop(id, None)
        if len(self._unknown) >= _UNKNOWN_KEPT:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[id] = self._clock() + _UNKNOWN_FOR


def register_all(url: str, topics: Sequence[Topic], directory: Path = SCHEMAS) -> tuple[Registered, ...]:
    """Register every release under the subject of every topic that carries it; again is harmless.

    Every subject is set to FULL_TRANSITIVE before its first version.
    Raises DependencyDown, or ConfigurationError when the registry refuses.
    """
    with connect(url) as client:
        for subject in (topic.subject for topic in topics if topic.schema):
            with _asking(f"the compatibility of {subject}"):
                client.set_compatibility(subject, COMPATIBILITY)
        return tuple(
            _register(client, release, subject, directory)
            for release, subject in _in_order(releases(directory), topics)
        )


def _in_order(lock: Sequence[Release], topics: Sequence[Topic]) -> Iterator[tuple[Release, str]]:
    """Each release under its first subject, then under the others.

    So an empty registry counts as the lock file does. Release by release would not do: Apicurio takes a
    number for every subject, also for one whose schema has a number already (seen: 1, 4, 5, 25, 26).
    """
    subjects = {
        release: [topic.subject for topic in topics if topic.schema == release.name] for release in lock
    }
    yield from ((release, first) for release, (first, *_) in subjects.items())
    yield from ((release, subject) for release, (_, *others) in subjects.items() for subject in others)


def _register(client: SchemaRegistryClient, release: Release, subject: str, directory: Path) -> Registered:
    with _asking(f"registering {release.label} under {subject}"):
        id = client.register_schema(subject, _schema(release, directory))
    return Registered(subject=subject, release=release, id=id)


def _schema(release: Release, directory: Path) -> Schema:
    return Schema(json.dumps(source(release, directory)), "AVRO")


def _record(id: int, schema: Schema) -> Mapping[str, Any]:
    """The schema parsed. Raises Unreadable when it is none of an Avro record: ours always are."""
    try:
        source: Any = json.loads(schema.schema_str or "")
        if source["type"] == "record":
            return parsed(source)
    except (ValueError, KeyError, TypeError, SchemaParseException, UnknownType):
        pass  # JSON Schema, Protobuf, or an Avro type of another shape
    raise Unreadable(f"schema id {id} is no Avro record to the registry")


@contextmanager
def _asking(what: str) -> Generator[None]:
    """Translate what the client raises: away, refused, or not a registry at all."""
    try:
        yield
    except httpx2.TransportError as error:
        raise DependencyDown(
            f"the schema registry does not answer ({what}): {error or type(error).__name__}"
        ) from error
    except SchemaRegistryError as error:
        raise _refusal(what, error) from error
    except ValueError as error:
        raise DependencyDown(
            f"what answers at SCHEMA_REGISTRY_URL is no registry ({what}): {error}"
        ) from error


def _refusal(what: str, error: SchemaRegistryError) -> EverpostError:
    """Whose fault an answer is, and what to do."""
    match error.http_status_code:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN as status:
            return ConfigurationError(
                f"the schema registry refuses us ({what}): HTTP {status}; check user and password in "
                "SCHEMA_REGISTRY_URL (http://user:password@host) and their rights"
            )
        case HTTPStatus.NOT_FOUND:
            return ConfigurationError(f"no registry is at SCHEMA_REGISTRY_URL ({what}): HTTP 404; {_LOOKS}")
        case HTTPStatus.CONFLICT:
            return ConfigurationError(
                f"{what}: the registry holds a version that this one breaks; `everpost schemas check` tells which "
                "field when it is ours, else the subject belongs to somebody else"
            )
        case HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.TOO_MANY_REQUESTS as status:
            return DependencyDown(f"the schema registry cannot answer ({what}): HTTP {status}")
        case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return DependencyDown(f"the schema registry cannot answer ({what}): HTTP {status}")
        case status:
            return ConfigurationError(f"{what}: the registry answered HTTP {status}, {error.error_message}")
