"""Pushy's MockApnsServer with its validating handler: an APNs that nobody here wrote, in its own JVM."""

import json
import queue
import subprocess
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from connectors.sandbox.certs import Certs
from infra.embedded import jars, packages
from tests.support import services

KEY_ID, TEAM_ID, TOPIC = "PUSHYKEY01", "PUSHYTEAM1", "org.everpost.demo"

_HERE = Path(__file__).parents[1] / "integration" / "java"
_NAME = "pushy-0.15.4"
_COMPILE = 120.0  # seconds; 4 on a quiet machine
_WAIT = 60.0  # seconds for a line; the first comes when the JVM is up
_ENDED = "ended"  # behind the last line
_JVM = ("--sun-misc-unsafe-memory-access=allow", "-Dstdout.encoding=UTF-8", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notified:
    """A notification as the mock server saw it."""

    verdict: Literal["accepted", "rejected"]
    reason: str  # of a rejection, as pushy's enum names it: UNREGISTERED
    apns_id: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MockApns:
    """A running server."""

    port: int
    process: "subprocess.Popen[str]"
    lines: "queue.Queue[str]"

    def notified(self, count: int) -> list[Notified]:
        """The next `count` notifications; queue.Empty when they do not come within a minute each."""
        return [_notified(self.lines.get(timeout=_WAIT)) for _ in range(count)]

    def kill(self) -> list[Notified]:
        """End it at once; the notifications that nobody has asked for yet."""
        self.process.kill()
        return [_notified(line) for line in iter(lambda: self.lines.get(timeout=_WAIT), _ENDED)]


@contextmanager
def running(
    directory: Path, certs: Certs, valid: list[str], dead: Mapping[str, datetime]
) -> Generator[MockApns]:
    """Start it with these valid device tokens, and those that are unregistered since a time."""
    files = jars.fetch(jars.read(_NAME, str(_HERE / "pushy.lock")), services.cache(), lambda *_: None)
    command = (
        *packages.java(_JVM, f"{_compiled(files, directory)}:{files}/*"),
        "MockApns",
        *map(str, _pems(directory, certs)),
        *(KEY_ID, TEAM_ID, TOPIC),
        str(_tokens(directory, valid, dead)),
    )
    with (directory / "pushy.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
        )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines))
    reader.start()
    try:
        said = lines.get(timeout=_WAIT).split("\t")
        assert said[0] == "listening", (directory / "pushy.log").read_text()
        yield MockApns(port=int(said[1]), process=process, lines=lines)
    finally:
        process.kill()
        process.wait(_WAIT)
        reader.join(_WAIT)
        process.stdin.close()
        process.stdout.close()


def _read(stream: IO[str], lines: "queue.Queue[str]") -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(_ENDED)


def _compiled(files: Path, directory: Path) -> Path:
    """The class file. The runtime that we ship has no compiler, so the bundle brings one."""
    classes = directory / "classes"
    compiler, class_path = next(files.glob("ecj-*.jar")), ":".join(map(str, files.glob("*.jar")))
    options = ("-source", "21", "-target", "21", "-proc:none", "-cp", class_path, "-d", str(classes))
    main = "org.eclipse.jdt.internal.compiler.batch.Main"
    command = [*packages.java((), str(compiler)), main, *options, str(_HERE / "MockApns.java")]
    subprocess.run(command, check=True, timeout=_COMPILE)
    return classes


def _pems(directory: Path, certs: Certs) -> tuple[Path, Path, Path]:
    """Certificate chain, its key in PKCS#8, which is all that Netty reads, and the tokens' public key."""
    leaf = certs.leaf.read_bytes()
    chain, key, public = (directory / name for name in ("chain.pem", "key.pem", "public.pem"))
    chain.write_bytes(leaf[leaf.index(b"-----BEGIN CERTIFICATE") :])
    private = serialization.load_pem_private_key(leaf, None)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    signing = serialization.load_pem_private_key(certs.apns_key.read_bytes(), None)
    public.write_bytes(signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return chain, key, public


def _tokens(directory: Path, valid: list[str], dead: Mapping[str, datetime]) -> Path:
    file = directory / "tokens.txt"
    gone = [f"{token} {int(since.timestamp() * 1000)}" for token, since in dead.items()]
    file.write_text("\n".join([*valid, *gone]) + "\n")
    return file


def _notified(line: str) -> Notified:
    verdict, reason, apns_id, payload = line.split("\t", 3)
    assert verdict in ("accepted", "rejected"), line
    return Notified(
        verdict="accepted" if verdict == "accepted" else "rejected",
        reason=reason,
        apns_id=apns_id,
        payload=json.loads(payload) if payload else {},
    )
