"""The faults of the senders, one function a kind: each makes sure that its fault happens, then waits until all is well.

All is well when every partition of every channel has a final outcome of a delivery that was written after the
fault.
"""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.model.outcome import Outcome
from pipeline.stages.send.records import group
from tests.faults.sender_schedule import CHANNELS, INSTANCES, PROVIDER, Fault, Kind
from tests.faults.sender_stand import Stand, start
from tests.faults.watch import Watch
from tests.support.services import until

SESSION = 30.0  # seconds: the senders' session timeout
_VISITOR = "2"  # the instance that joins and leaves
_HANDLED = frozenset({0, 75})  # exit codes of a sender that wakes and finds itself replaced
_LOOK = 0.1  # seconds between two questions to the broker
_PATIENCE = 90.0  # seconds for all to be well again: a session, a rebalance, and the work
_THROTTLED: Mapping[str, Mapping[str, Any]] = {  # in the provider's own words
    "apns": {"kind": "status", "status": 429, "reason": "TooManyRequests"},
    "vonage": {"kind": "status", "status": 200, "reason": "1 Throttled"},
}
_WORDS: Mapping[Kind, Mapping[str, Any]] = {
    "hangs up": {"kind": "hang_up", "processed": True},
    "never answers": {"kind": "never", "processed": True},
    "refuses": {"kind": "status", "status": 503},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One fault and what it cost."""

    fault: Fault
    seconds: float  # to a final outcome in every partition of what was written after the fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What an injection works with."""

    stand: Stand
    watch: Watch[Outcome]

    def served(self, fault: Fault, began: float, *, after: float | None = None) -> Result:
        """Wait until what was written after the fault, or after a later moment, is sent."""
        at = self.watch.serving(began if after is None else after, _PATIENCE)
        return Result(fault=fault, seconds=at - began)


def inject(bench: Bench, fault: Fault) -> Result:
    """Inject a fault. AssertionError when it did not happen, or all is not well in time."""
    return _INJECTIONS[fault.kind](bench, fault)


def _kill(bench: Bench, fault: Fault) -> Result:
    senders = bench.stand.senders[fault.channel]
    sender = senders.get(fault.instance)
    sender.order("kill", fault.step, fault.batch, fault.fraction)
    return bench.served(fault, senders.killed(sender))


def _stopped(bench: Bench, fault: Fault) -> Result:
    senders = bench.stand.senders[fault.channel]
    told = time.monotonic()
    died = senders.down(fault.instance)
    assert died - told < 10, f"it took {died - told:.1f} s to leave"
    start(senders, fault.channel, fault.instance, bench.stand.notes_file)
    return bench.served(fault, told, after=died)


def _asleep(bench: Bench, fault: Fault) -> Result:
    senders = bench.stand.senders[fault.channel]
    sender = senders.get(fault.instance)
    sender.order("stop", "anywhere", 1, fault.fraction)
    until(sender.stopped, 30)
    began = time.monotonic()
    result = bench.served(fault, began)
    time.sleep(max(0.0, began + SESSION + 3 * fault.fraction - time.monotonic()))
    sender.signal(signal.SIGCONT)
    bench.served(fault, time.monotonic())
    code = sender.process.poll()
    assert code is None or code in _HANDLED, f"a sender was woken and ended with {code}"
    return result


def _joins(bench: Bench, fault: Fault) -> Result:
    name = group(fault.channel)
    start(bench.stand.senders[fault.channel], fault.channel, _VISITOR, bench.stand.notes_file)
    until(lambda: bench.stand.members(name) == len(INSTANCES) + 1, 60, _LOOK)
    return bench.served(fault, time.monotonic())


def _leaves(bench: Bench, fault: Fault) -> Result:
    began = bench.stand.senders[fault.channel].down(_VISITOR)
    until(lambda: bench.stand.members(group(fault.channel)) == len(INSTANCES), SESSION + 60, _LOOK)
    return bench.served(fault, began, after=time.monotonic())


def _broker(bench: Bench, fault: Fault) -> Result:
    number = signal.SIGKILL if fault.kind == "broker killed" else signal.SIGTERM
    began = time.monotonic()
    assert bench.stand.supervisor.kill("kafka", number), "the broker did not run"
    until(lambda: not bench.stand.answers(), 40, _LOOK)
    until(bench.stand.answers, 60, _LOOK)
    return bench.served(fault, began, after=time.monotonic())


def _provider(bench: Bench, fault: Fault) -> Result:
    provider = CHANNELS[fault.channel]
    seconds = 0.5 + 2 * fault.fraction
    words = _THROTTLED[provider] if fault.kind == "throttles" else _WORDS[fault.kind]
    before = len(bench.stand.providers.received())
    began = time.monotonic()
    bench.stand.providers.do({**words, "provider": provider, "until": seconds})
    time.sleep(seconds)  # the fault's own time
    names = {row.status for row in bench.stand.providers.received()[before:] if row.provider == provider}
    assert names - {"200", "200 status 0"}, f"{provider} did as ever: {names}"
    return bench.served(fault, began, after=time.monotonic())


_INJECTIONS: Mapping[Kind, Callable[[Bench, Fault], Result]] = {
    "kill": _kill,
    "told to stop": _stopped,
    "asleep": _asleep,
    "joins": _joins,
    "leaves": _leaves,
    "broker killed": _broker,
    "broker stopped": _broker,
    **dict.fromkeys(PROVIDER, _provider),
}
