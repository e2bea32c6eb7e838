"""What the local providers received: every request that was read, in order, kept over a restart."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request, as a provider understood it."""

    provider: str  # apns, fcm, webpush, vonage, twilio, smtp, webhook
    delivery_id: str  # empty when the request carried none
    address: str
    at: datetime  # aware, UTC
    accepted: bool  # the provider took it: it would reach the device, whatever the client saw
    status: str  # what the client was told, for example "410 Unregistered"; or the fault: "hang_up"
    content: Mapping[str, str] = field(default_factory=dict[str, str])  # title, text, html, link, image, ...
    identity: Mapping[str, str] = field(default_factory=dict[str, str])  # headers that mark a repeat

    def to_json(self) -> str:
        """One line, without its end."""
        fields = {
            "provider": self.provider,
            "delivery_id": self.delivery_id,
            "address": self.address,
            "at": self.at.isoformat(),
            "accepted": self.accepted,
            "status": self.status,
            "content": dict(self.content),
            "identity": dict(self.identity),
        }
        return json.dumps(
            fields
        )  # not `asdict`, which copies every mapping deeply: a third of a provider's time

    @staticmethod
    def from_json(line: str) -> "Received":
        """The row in a line that `to_json` wrote."""
        fields = json.loads(line)
        return Received(**fields | {"at": datetime.fromisoformat(fields["at"])})


class Recorder:
    """Rows in memory and, when given a file, appended to it as JSON lines.

    A file that is already there is read first; a last line that was cut off by a kill is removed.
    """

    def __init__(self, file: Path | None = None) -> None:
        # As lines: with 300,000 rows as objects the garbage collector stopped every provider for a second.
        self._lines: list[str] = []
        self._file: TextIOWrapper | None = None
        if file is not None:
            self._lines.extend(_recover(file))
            # Line buffering: a row is with the operating system before the client has its answer.
            self._file = file.open("a", encoding="utf-8", buffering=1)

    def add(self, row: Received) -> None:
        """Keep a row."""
        line = row.to_json()
        self._lines.append(line)
        if self._file is not None:
            self._file.write(line + "\n")

    def rows(self, provider: str | None = None) -> tuple[Received, ...]:
        """All rows in the order of arrival, of one provider when it is named."""
        rows = map(Received.from_json, self._lines)
        return tuple(row for row in rows if provider in (None, row.provider))

    def accepted_ids(self, provider: str | None = None) -> Counter[str]:
        """How often each delivery id was accepted; more than once means that a phone rang twice."""
        return Counter(row.delivery_id for row in self.rows(provider) if row.accepted)

    def summary(self) -> dict[str, dict[str, object]]:
        """Per provider: requests received, accepted, accepted again (repeats), and counts by status."""
        found: dict[str, dict[str, object]] = {}
        every = self.rows()
        for provider in sorted({row.provider for row in every}):
            rows = [row for row in every if row.provider == provider]
            ids = Counter(row.delivery_id for row in rows if row.accepted)
            found[provider] = {
                "received": len(rows),
                "accepted": ids.total(),
                "repeats": ids.total() - len(ids),
                "statuses": dict(sorted(Counter(row.status for row in rows).items())),
            }
        return found

    def close(self) -> None:
        """Close the file, if any."""
        if self._file is not None:
            self._file.close()


def _recover(file: Path) -> list[str]:
    if not file.exists():
        return []
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        file.write_bytes(whole)
    return whole.decode().splitlines()
