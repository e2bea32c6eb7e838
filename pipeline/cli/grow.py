"""`everpost topics grow`: more partitions, if nothing is forgotten by it or the operator takes that on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from pipeline.adapters.kafka.grow import Remembered, counts, grow, remembered, require_rest
from pipeline.cli.show import answer, say
from pipeline.model.errors import ConfigurationError
from pipeline.model.topics import DECISIONS, table
from pipeline.model.window import WINDOW
from pipeline.settings import Settings
from pipeline.stages.route.records import GROUP
from pipeline.stages.route.step import TOPICS
from pipeline.wiring import clock


def grow_topics(current: Settings, partitions: int, *, forget: bool, json: bool) -> int:
    """Grow all topics; gives the exit code, 1 when it was refused.

    Raises ConfigurationError when it cannot be done at all, or not now, and DependencyDown.
    """
    servers = current.bootstrap_servers
    # The events come last: until they have as many as the decisions no router starts, so a crash in the
    # middle leaves nothing that works by halves.
    names = [topic.name for topic in reversed(table(partitions))]
    there = counts(servers, names)
    _check(names, there, partitions)
    if all(there[name] == partitions for name in names):
        say("all topics have as many already; nothing was changed")
        return 0
    require_rest(servers, GROUP, TOPICS)
    found = remembered(servers, DECISIONS, partitions, clock() - WINDOW)
    refused = found.moving > 0 and not forget
    grown = () if refused else grow(servers, names, partitions)
    if json:
        answer({"grown": grown, "refused": refused, "forgotten": asdict(found)})
    else:
        for line in _refusal(found, there[DECISIONS], partitions) if refused else _done(found, partitions):
            say(line)
    return 1 if refused else 0


def _check(names: Sequence[str], there: Mapping[str, int], partitions: int) -> None:
    if missing := [name for name in names if name not in there]:
        raise ConfigurationError(f"no topic {', '.join(missing)}: run everpost topics apply first")
    if more := {name: there[name] for name in names if there[name] > partitions}:
        told = ", ".join(f"{name} has {count}" for name, count in more.items())
        raise ConfigurationError(
            f"Kafka takes no partition away, and {told}: give at least {max(more.values())}"
        )


def _refusal(found: Remembered, now: int, partitions: int) -> Iterator[str]:
    assert found.latest is not None, "something moves"
    yield (
        f"[bold red]refused[/]: with {partitions} partitions the events of {found.users:,} users would go to another "
        f"one, and the router there knows nothing of {found.moving:,} of the {found.decisions:,} decisions of the "
        f"last {WINDOW.days} days. Of those users an event that is published again would be sent again, and caps would "
        "count from 0. Nothing was changed. What to do instead:"
    )
    yield f"- more routers: up to {now} processes of everpost run route share the {now} partitions that there are"
    yield (
        f"- wait: if nothing is published until {found.latest + WINDOW:%Y-%m-%d %H:%M} UTC, all of it has left the "
        "window, and the same command grows"
    )
    yield (
        f"- a second installation with EVERPOST_PARTITIONS={partitions}: services publish there from now on, and this "
        "one ends when everpost ledger shows nothing in flight; what is not published to both is sent once"
    )
    yield "- if no service repeats an event that it has published: the same command with --forget"


def _done(found: Remembered, partitions: int) -> Iterator[str]:
    forgotten = f"{found.moving:,} decisions about {found.users:,} users are forgotten, as you said"
    yield f"all topics have {partitions} partitions; {forgotten if found.moving else 'nothing is forgotten'}"
    yield (
        f"Set EVERPOST_PARTITIONS={partitions} for every process and start them again. Services that publish come "
        "first: until it is started again, a client may write into the old partitions for 5 minutes more"
    )
