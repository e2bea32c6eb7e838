"""`everpost topics` and `everpost schemas`: what the topics and the registry hold, against our tables."""

from dataclasses import asdict
from typing import Annotated, Literal

from cyclopts import Parameter

from pipeline import settings
from pipeline.adapters.kafka.admin import apply, check
from pipeline.cli.show import answer, say
from pipeline.model.topics import table

AsJson = Annotated[bool, Parameter(help="print one JSON object on the last line")]


def topics(
    do: Annotated[Literal["list", "apply", "check"], Parameter(help="what to do")] = "list",
    /,
    *,
    json: AsJson = False,
) -> int:
    """List the table of topics, create and set right what differs (apply), or only look (check).

    `apply` never changes a number of partitions: ids decided before would be forgotten. Exit code 1
    when something differs that stays.
    """
    current = settings.load()
    wanted = table(current.partitions)
    match do:
        case "list":
            if json:
                answer([asdict(topic) for topic in wanted])
            else:
                for topic in wanted:
                    days = topic.retention.days
                    say(
                        f"{topic.name:<34}{topic.schema or 'raw bytes':<12}"
                        f"{topic.partitions:>3} partitions {days:>3} days  {topic.purpose}"
                    )
            return 0
        case "apply":
            report = apply(current.bootstrap_servers, wanted, current.replication)
            if json:
                answer(asdict(report))
            else:
                say(f"{len(report.created)} topics created, {len(report.changed)} settings changed")
                for line in (*report.changed, *report.drift):
                    say(f"  {line}")
            return 1 if report.drift else 0
        case "check":
            drift = check(current.bootstrap_servers, wanted, current.replication)
            if json:
                answer({"drift": drift})
            else:
                for line in drift or ("all topics are as the table says",):
                    say(line)
            return 1 if drift else 0
