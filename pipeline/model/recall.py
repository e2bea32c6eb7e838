"""Recalls: what an operator has withdrawn, asked for at the router, at retry and before each send."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """One order to stop. Exactly one of event_id, collapse_key and type is given."""

    recall_id: str
    tenant: str
    at: datetime  # events created later are not meant
    event_id: str | None = None
    collapse_key: str | None = None
    type: str | None = None
    template_version: int | None = None  # with a type: only what renders this version; None: every one

    def evidence(self) -> str:
        """Which order it was, in words."""
        return f"recall {self.recall_id} of {self.at.isoformat()}"


class Recalls:
    """All orders in force, found without a search."""

    def __init__(self, recalls: Iterable[Recall] = ()) -> None:
        self._by_key: dict[tuple[str, str, str], list[Recall]] = {}
        for recall in recalls:
            for name in ("event_id", "collapse_key", "type"):
                value = getattr(recall, name)
                if value is not None:
                    self._by_key.setdefault((recall.tenant, name, value), []).append(recall)

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def match(
        self,
        *,
        tenant: str,
        event_id: str,
        collapse_key: str | None,
        type: str,
        template_version: int | None,
        created_at: datetime,
    ) -> Recall | None:
        """The order that stops this event or delivery, if any."""
        keys = (("event_id", event_id), ("collapse_key", collapse_key or ""), ("type", type))
        for name, value in keys:
            for recall in self._by_key.get((tenant, name, value), ()):
                right_version = recall.template_version in (None, template_version)
                if created_at <= recall.at and right_version:
                    return recall
        return None
