"""What a batch comes to."""

from dataclasses import dataclass, field

from pipeline.model.record import Written
from pipeline.stages.route.state import Batch

LINKS = 100  # deliveries whose traces a batch's span is linked to


@dataclass(slots=True)
class Work:
    """What a batch comes to."""

    batch: Batch
    written: Written = field(default_factory=Written)
    verdicts: dict[str, int] = field(default_factory=dict[str, int])
    traces: list[str | None] = field(default_factory=list[str | None])
