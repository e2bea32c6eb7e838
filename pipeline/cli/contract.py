"""`everpost topics` and `everpost schemas`: what the topics and the registry hold, against our tables."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.adapters.kafka.admin import apply, check
from pipeline.adapters.wire import release as contract
from pipeline.adapters.wire.ids import releases
from pipeline.adapters.wire.registry import COMPATIBILITY, Registered, register_all
from pipeline.cli.grow import grow_topics
from pipeline.cli.show import answer, say
from pipeline.model.errors import ConfigurationError
from pipeline.model.topics import Topic, table
from pipeline.settings import Settings

AsJson = Annotated[bool, Parameter(help="print one JSON object on the last line")]


def topics(
    do: Annotated[Literal["list", "apply", "check", "grow"], Parameter(help="what to do")] = "list",
    partitions: Annotated[int | None, Parameter(help="with grow: how many each topic is to have")] = None,
    /,
    *,
    forget: Annotated[bool, Parameter(help="with grow: whatever is forgotten by it")] = False,
    json: AsJson = False,
) -> int:
    """List the table of topics, create and set right what differs (apply), or only look (check).

    `apply` never changes a number of partitions: ids decided before would be forgotten. `grow` does, while
    no router runs and nothing waits to be decided: it refuses when anything would be forgotten, and says
    what, unless you take that on with --forget. Exit code 1 when something differs that stays, or was
    refused.
    """
    if (do == "grow") != (partitions is not None) or (forget and do != "grow"):
        raise ConfigurationError("a number of partitions and --forget go with grow: everpost topics grow 8")
    current = settings.load()
    wanted = table(current.partitions)
    match do:
        case "list":
            return _table(wanted, json)
        case "apply":
            return _apply(current, wanted, json)
        case "check":
            return _differences(current, wanted, json)
        case "grow":
            assert partitions is not None, "asked for above"
            return grow_topics(current, partitions, forget=forget, json=json)


def _table(wanted: Sequence[Topic], json: bool) -> int:
    if json:
        answer([asdict(topic) for topic in wanted])
        return 0
    for topic in wanted:
        say(
            f"{topic.name:<36}{topic.schema or 'raw bytes':<12}"
            f"{topic.partitions:>3} partitions {topic.retention.days:>3} days  {topic.purpose}"
        )
    return 0


def _apply(current: Settings, wanted: Sequence[Topic], json: bool) -> int:
    report = apply(current.bootstrap_servers, wanted, current.replication)
    if json:
        answer(asdict(report))
    else:
        say(f"{len(report.created)} topics created, {len(report.changed)} settings changed")
        for line in (*report.changed, *report.drift):
            say(f"  {line}")
    return 1 if report.drift else 0


def _differences(current: Settings, wanted: Sequence[Topic], json: bool) -> int:
    drift = check(current.bootstrap_servers, wanted, current.replication)
    if json:
        answer({"drift": drift})
    else:
        for line in drift or ("all topics are as the table says",):
            say(line)
    return 1 if drift else 0


def schemas(
    do: Annotated[
        Literal["list", "check", "release", "register"],
        Parameter(help="what to do"),
    ] = "list",
    /,
    *,
    json: AsJson = False,
) -> int:
    """List the released schemas, check a change, release it, or register all with SCHEMA_REGISTRY_URL.

    `check` and `release` need no server and hold a changed schemas/*.avsc against every earlier version,
    both ways. `register` is a step of deployment, before the services start; again is harmless. Exit
    code 1 when `check` finds something.
    """
    match do:
        case "list":
            return _list(json)
        case "check":
            return _check(json)
        case "release":
            return _release(json)
        case "register":
            return _register(settings.load(), json)


def _list(json: bool) -> int:
    known = releases()
    if json:
        answer([asdict(release) for release in known])
    else:
        for release in known:
            say(f"{release.id:>4}  {release.label:<22}{release.file:<32}{release.fingerprint[:16]}")
    return 0


def _check(json: bool) -> int:
    wrong = contract.check()
    if json:
        answer({"problems": wrong})
    else:
        for line in wrong or ("every schema is as it was released",):
            say(escape(line))
    return 1 if wrong else 0


def _release(json: bool) -> int:
    new = contract.release()
    if json:
        answer([asdict(release) for release in new])
    else:
        for release in new:
            say(
                f"{release.label} released with id {release.id}: commit schemas/{release.file} and schemas/ids.json"
            )
        if not new:
            say("nothing has changed since the last release")
    return 0


def _register(current: Settings, json: bool) -> int:
    if current.schema_registry_url is None:
        raise ConfigurationError(
            "SCHEMA_REGISTRY_URL is not set. Without a registry nothing needs to be registered: "
            "ids come from schemas/ids.json"
        )
    done = register_all(current.schema_registry_url, table(current.partitions))
    other = _other_ids(done)
    if json:
        answer({"registered": [asdict(each) for each in done], "same_ids": not other})
        return 0
    subjects = len({each.subject for each in done})
    say(f"{len(done)} schemas under {subjects} subjects, {COMPATIBILITY}")
    if not other:
        say("the ids are those of schemas/ids.json")
        return 0
    for line in other:
        say(f"  {line}")
    say(
        "The registry counts otherwise than schemas/ids.json. That is well when everything that reads and writes "
        "has SCHEMA_REGISTRY_URL set. Records that were written without it carry the ids of the lock file, which "
        "mean something else here: begin with empty topics, or with a registry of everpost's own."
    )
    return 0


def _other_ids(done: Sequence[Registered]) -> list[str]:
    """A sentence for each release whose id is not the lock file's."""
    found = {
        f"{each.release.label} has id {each.id} in the registry, {each.release.id} in schemas/ids.json": None
        for each in done
        if each.id != each.release.id
    }
    return list(found)
