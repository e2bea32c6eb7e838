"""What a schema registry may answer, and what each answer means for a service; the registry is scripted."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.adapters.wire import registry
from pipeline.adapters.wire.ids import releases, source
from pipeline.adapters.wire.registry import RegistryIds
from pipeline.model.errors import ConfigurationError, DependencyDown, EverpostError, Unreadable
from pipeline.model.topics import table

EVENT = json.dumps(source(releases()[0]))
UNKNOWN = (404, '{"error_code": 40403, "message": "Schema not found"}')


@dataclass(slots=True)
class Script:
    """A registry that gives one answer to everything, and counts."""

    answer: tuple[int, str] = (200, "{}")
    asked: list[str] = field(default_factory=list[str])
    url: str = ""


@contextmanager
def serving(script: Script) -> Generator[Script]:
    """The script on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = script.answer
            script.asked.append(self.path)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815 - the server calls it by this name

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        script.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield script
        finally:
            server.shutdown()


@pytest.fixture
def script() -> Generator[Script]:
    """A scripted registry."""
    with serving(Script()) as found:
        yield found


# Answer to a question for a schema, what it means, and what the message says to do.
ANSWERS: list[tuple[int, str, type[EverpostError], str]] = [
    (404, '{"error_code": 40403, "message": "x"}', Unreadable, "unknown to the registry"),
    (404, '{"error_code": 404, "message": "x"}', ConfigurationError, "no registry is at SCHEMA_REGISTRY_URL"),
    (404, "<h1>nothing here</h1>", ConfigurationError, "it looks like http://host:8081"),
    (401, '{"error_code": 401, "message": "x"}', ConfigurationError, "check user and password"),
    (403, '{"error_code": 403, "message": "x"}', ConfigurationError, "check user and password"),
    (422, '{"error_code": 42201, "message": "bad"}', ConfigurationError, "HTTP 422, bad"),
    (408, "{}", DependencyDown, "HTTP 408"),
    (429, '{"error_code": 42901, "message": "x"}', DependencyDown, "HTTP 429"),
    (500, '{"error_code": 50001, "message": "x"}', DependencyDown, "HTTP 500"),
    (503, "", DependencyDown, "HTTP 503"),
    (200, "<html>log in to the network</html>", DependencyDown, "is no registry"),
    (200, '{"schema": "{"}', Unreadable, "no Avro record"),
    (200, '{"schema": "\\"string\\""}', Unreadable, "no Avro record"),
    (200, '{"schema": "{\\"type\\": \\"object\\"}", "schemaType": "JSON"}', Unreadable, "no Avro record"),
    (200, '{"schema": "syntax = 3;", "schemaType": "PROTOBUF"}', Unreadable, "no Avro record"),
    (200, '{"schema": "{\\"type\\": \\"record\\"}"}', Unreadable, "no Avro record"),
]


@pytest.mark.parametrize(("status", "body", "kind", "words"), ANSWERS)
def test_every_answer_is_told_apart(
    script: Script, status: int, body: str, kind: type[EverpostError], words: str
) -> None:
    """Only what the registry says it does not know is unreadable; the rest is nobody's record's fault."""
    script.answer = (status, body)
    with pytest.raises(EverpostError, match=words) as told:
        RegistryIds(script.url, table()).schema(7)
    assert type(told.value) is kind


def test_an_id_is_asked_for_once(script: Script) -> None:
    """What is known is never asked for again."""
    script.answer = (200, json.dumps({"schema": EVENT}))
    ids = RegistryIds(script.url, table())
    assert ids.schema(7) is ids.schema(7)
    assert len(script.asked) == 1
    script.answer = (200, json.dumps({"id": 7, "subject": "s", "version": 1, "schema": EVENT}))
    assert ids.write_id("event") == ids.write_id("event") == 7
    assert len(script.asked) == 2


def test_an_unknown_id_is_asked_for_again_after_a_while(script: Script) -> None:
    """Damage is not a question a record; a schema that is registered a little later is found."""
    script.answer = UNKNOWN
    now = [100.0]
    ids = RegistryIds(script.url, table(), clock=lambda: now[0])
    for now[0] in (100.0, 129.9):
        with pytest.raises(Unreadable):
            ids.schema(7)
    assert len(script.asked) == 1
    script.answer = (200, json.dumps({"schema": EVENT}))
    now[0] = 130.0
    assert ids.schema(7)["name"] == "everpost.Event"


def test_unknown_ids_do_not_fill_the_memory(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many the latest are kept: an old one is simply asked for again."""
    monkeypatch.setattr(registry, "_UNKNOWN_KEPT", 3)
    script.answer = UNKNOWN
    ids = RegistryIds(script.url, table(), clock=lambda: 0.0)
    for id in (1, 2, 3, 4, 4, 3, 2, 1):
        with pytest.raises(Unreadable):
            ids.schema(id)
    assert [path.rpartition("/")[2] for path in script.asked] == ["1", "2", "3", "4", "1"]


def test_nothing_is_remembered_of_an_outage(script: Script) -> None:
    """The next question after an outage is asked at once."""
    script.answer = (503, "")
    ids = RegistryIds(script.url, table(), clock=lambda: 0.0)
    with pytest.raises(DependencyDown):
        ids.schema(7)
    script.answer = (200, json.dumps({"schema": EVENT}))
    assert ids.schema(7)["name"] == "everpost.Event"


@pytest.mark.parametrize("code", [40401, 40403])
def test_a_schema_that_was_not_registered_is_told(script: Script, code: int) -> None:
    """A service that starts before its schemas are there says what to run."""
    script.answer = (404, json.dumps({"error_code": code, "message": "x"}))
    with pytest.raises(ConfigurationError, match="run `everpost schemas register`"):
        RegistryIds(script.url, table()).write_id("event")
