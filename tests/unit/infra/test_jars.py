"""Files of the Java side: fetched once, checked, then used without a network."""

import hashlib
import threading
from collections.abc import Generator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.embedded import jars, kafka, registry
from pipeline.model.errors import DependencyDown

CONTENT = b"x" * 100_000


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """The directory behind a real package repository on the loopback address, which jgo is pointed to."""
    root = tmp_path / "repository"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("jgo.maven._core.DEFAULT_REMOTE_REPOS", {"local": url})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield root
    server.shutdown()
    thread.join()
    server.server_close()


def jar(name: str, content: bytes = CONTENT) -> jars.Jar:
    """What a lock file says of an artifact with this content."""
    return jars.Jar(
        coordinate=f"org.example:{name}:1.0",
        packaging="jar",
        classifier="",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def publish(root: Path, name: str, content: bytes = CONTENT) -> None:
    """Put an artifact where a repository has it."""
    directory = root / "org" / "example" / name / "1.0"
    directory.mkdir(parents=True)
    (directory / f"{name}-1.0.jar").write_bytes(content)


def bundle(*names: str) -> jars.Bundle:
    """A bundle of such artifacts."""
    return jars.Bundle(name="example-1", jars=tuple(jar(name) for name in names))


def test_fetched_once_then_offline(tmp_path: Path, repository: Path) -> None:
    """A bundle is fetched whole, its progress ends at its size, and afterwards nothing is asked for."""
    publish(repository, "a")
    publish(repository, "b")
    told: list[tuple[str, int, int]] = []
    directory = jars.fetch(bundle("a", "b"), tmp_path, lambda *progress: told.append(progress))
    assert sorted(path.name for path in directory.iterdir()) == ["a-1.0.jar", "b-1.0.jar"]
    assert told[-1] == ("example-1", 200_000, 200_000)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    told.clear()
    assert jars.fetch(bundle("a", "b"), tmp_path, lambda *progress: told.append(progress)) == directory
    assert told == []


def test_only_what_is_missing_is_fetched(tmp_path: Path, repository: Path) -> None:
    """After a fetch that broke off, the files that came are kept and only the others are asked for."""
    publish(repository, "a")
    with pytest.raises(DependencyDown, match=r"org\.example:b:1\.0"):
        jars.fetch(bundle("a", "b"), tmp_path, lambda *_: None)
    jars.fetch(bundle("a"), tmp_path, lambda *_: None)
    (repository / "org" / "example" / "a" / "1.0" / "a-1.0.jar").unlink()
    publish(repository, "b")
    told: list[int] = []
    jars.fetch(bundle("a", "b"), tmp_path, lambda _label, done, _total: told.append(done))
    assert told[0] > 100_000
    assert told[-1] == 200_000


def test_another_file_is_refused(tmp_path: Path, repository: Path) -> None:
    """A file that is not the one of the lock file never reaches the class path."""
    publish(repository, "a", b"y" * len(CONTENT))
    with pytest.raises(DependencyDown, match="another checksum"):
        jars.fetch(bundle("a"), tmp_path, lambda *_: None)
    assert not jars.present(bundle("a"), tmp_path)
    assert list((tmp_path / "example-1").iterdir()) == []


def test_no_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the first start says so, names no host, and promises that later ones need none."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DependencyDown, match=r"check the network .* everpost starts offline") as caught:
        jars.fetch(bundle("a"), tmp_path, lambda *_: None)
    assert "maven" not in str(caught.value)


def test_lock_files_are_whole() -> None:
    """The lock files name the versions that the modules name, each file with size and checksum."""
    broker = kafka.bundle()
    coordinates = {each.coordinate for each in broker.jars}
    assert {kafka.COORDINATE, kafka.LOG4J_BRIDGE, "org.apache.kafka:kafka-clients:4.3.1"} <= coordinates
    assert len(broker.jars) == 46
    assert [each.coordinate for each in registry.bundle().jars] == [registry.COORDINATE]
    for each in (*broker.jars, *registry.bundle().jars):
        assert each.size > 0
        assert len(bytes.fromhex(each.sha256)) == 32
