"""The faults of a run, one function a kind: each makes sure that its fault has happened."""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil
from confluent_kafka import Producer

from connectors.sandbox import faults as sandbox
from pipeline.model.event import CHANNELS, LANES
from pipeline.model.ladder import TIERS
from pipeline.model.topics import deliver, events, retry
from tests.faults.load import TENANT
from tests.faults.whole.schedule import BROKERS, Fault, Kind
from tests.faults.whole.stand import Stand
from tests.support.services import until

_PATIENCE = 90.0  # seconds for a killed program to be there again, or a replica to be up to date
_LOOK = 0.1  # seconds
_LONGEST = 6.0  # seconds that a provider or a process is away
_REBALANCE = ("route", "retry", "account", "hold", "relay", "send-sms", "send-email")
_JUMP = 20.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What an injection works with."""

    stand: Stand
    poison: set[bytes] = field(default_factory=set[bytes])  # what was written and acknowledged
    chance: random.Random


def inject(bench: Bench, fault: Fault) -> None:
    """Inject a fault, and right it. AssertionError when it did not happen."""
    _INJECTIONS[fault.kind](bench, fault)


def _seconds(fault: Fault) -> float:
    return 1 + (_LONGEST - 1) * fault.fraction


def _kill(bench: Bench, fault: Fault, number: signal.Signals = signal.SIGKILL) -> None:
    before = bench.stand.restarts(fault.target)
    until(lambda: bench.stand.supervisor.kill(fault.target, number), _PATIENCE, _LOOK)
    until(lambda: bench.stand.restarts(fault.target) > before, _PATIENCE, _LOOK)


def _broker(bench: Bench, fault: Fault) -> None:
    """One at a time: the next only once all are up to date."""
    until(bench.stand.in_sync, _PATIENCE, _LOOK)
    _kill(bench, fault)


def _postgres(bench: Bench, fault: Fault) -> None:
    _kill(bench, fault, signal.SIGKILL if fault.fraction < 0.5 else signal.SIGINT)


def _stopped(bench: Bench, fault: Fault) -> None:
    if fault.target in BROKERS:
        until(bench.stand.in_sync, _PATIENCE, _LOOK)
    process = psutil.Process(_pid(bench.stand, fault.target))
    process.suspend()
    try:
        until(lambda: process.status() == psutil.STATUS_STOPPED, _PATIENCE, 0.01)
        time.sleep(_seconds(fault))
    finally:
        process.resume()


def _pid(stand: Stand, program: str) -> int:
    """The process of a program, once there is one."""

    def running() -> int | None:
        return next(each.pid for each in stand.supervisor.status() if each.name == program)

    found = until(running, _PATIENCE, _LOOK)
    assert found is not None
    return found


def _provider(bench: Bench, fault: Fault) -> None:
    until_then = _seconds(fault)
    match fault.kind:
        case "provider down":
            faults = (sandbox.Fault(kind="status", status=503, provider=fault.target, until=until_then),)
        case "provider slow":
            faults = (sandbox.Fault(kind="delay", seconds=2.0, provider=fault.target, until=until_then),)
        case "provider rate-limiting":
            faults = (
                sandbox.Fault(
                    kind="status",
                    status=429,
                    retry_after="1",
                    provider=fault.target,
                    share=0.5,
                    until=until_then,
                ),
            )
        case _:
            faults = (
                sandbox.Fault(
                    kind="status", processed=True, provider=fault.target, share=0.2, each=1, until=until_then
                ),
                sandbox.Fault(
                    kind="hang_up", processed=True, provider=fault.target, share=0.5, each=1, until=until_then
                ),
            )
    bench.stand.provide(*faults)


def _rebalance(bench: Bench, fault: Fault) -> None:
    with bench.stand.another(_REBALANCE, "1"):
        time.sleep(8 + _seconds(fault))  # a process starts in 1 s, a join takes 3 s


def _poison(bench: Bench, _fault: Fault) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bench.stand.settings.bootstrap_servers,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 1,
            "message.timeout.ms": 60_000,
            "log_level": 0,
        }
    )
    topics = [
        *(events(lane) for lane in LANES),
        *(deliver(channel, "normal") for channel in CHANNELS),
        retry(TIERS[0].name),
    ]
    values = {topic: b"poison " + bench.chance.randbytes(12) for topic in topics}
    for topic, value in values.items():
        producer.produce(topic, value, f"{TENANT}/u-{bench.chance.randrange(9)}".encode())
    assert producer.flush(60) == 0, "poison was not acknowledged"
    bench.poison.update(values.values())


def _clock(bench: Bench, fault: Fault) -> None:
    file = bench.stand.clock_file(fault.target)
    file.write_text(str(_JUMP * (2 * fault.fraction - 1)), encoding="ascii")
    try:
        time.sleep(3)
    finally:
        file.unlink()


def _registry(bench: Bench, fault: Fault) -> None:
    """It does not answer while a stage has to start anew; the stage is there once it answers again."""
    process = psutil.Process(_pid(bench.stand, "registry"))
    process.suspend()
    try:
        _kill(bench, fault)
        time.sleep(_seconds(fault))
    finally:
        os.kill(process.pid, signal.SIGCONT)


_INJECTIONS: Mapping[Kind, Callable[[Bench, Fault], None]] = {
    "broker killed": _broker,
    "route killed": _kill,
    "sender killed": _kill,
    "relay killed": _kill,
    "retry killed": _kill,
    "hold killed": _kill,
    "account killed": _kill,
    "postgres killed": _postgres,
    "stopped": _stopped,
    "provider down": _provider,
    "provider slow": _provider,
    "provider lying": _provider,
    "provider rate-limiting": _provider,
    "providers killed": _kill,
    "rebalance": _rebalance,
    "poison": _poison,
    "clock jump": _clock,
    "registry outage": _registry,
}
