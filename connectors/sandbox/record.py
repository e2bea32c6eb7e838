"""What the local providers received: every request that was read, in order, kept over a restart."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
        return json.dumps(asdict(self) | {"at": self.at.isoformat()})

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
        self._rows: list[Received] = []
        self._file: TextIOWrapper | None = None
        if file is not None:
            self._rows.extend(_recover(file))
            # Line buffering: a row is with the operating system before the client has its answer.
            self._file = file.open("a", encoding="utf-8", buffering=1)

    def add(self, row: Received) -> None:
        """Keep a row."""
        self._rows.append(row)
        if self._file is not None:
            self._file.write(row.to_json() + "\n")

    def rows(self, provider: str | None = None) -> tuple[Received, ...]:
        """All rows in the order of arrival, of one provider when it is named."""
        return tuple(row for row in self._rows if provider in (None, row.provider))

    def accepted_ids(self, provider: str | None = None) -> Counter[str]:
        """How often each delivery id was accepted; more than once means that a phone rang twice."""
        return Counter(row.delivery_id for row in self.rows(provider) if row.accepted)

    def summary(self) -> dict[str, dict[str, object]]:
        """Per provider: requests received, accepted, accepted again (repeats), and counts by status."""
        found: dict[str, dict[str, object]] = {}
        for provider in sorted({row.provider for row in self._rows}):
            ids = self.accepted_ids(provider)
            rows = self.rows(provider)
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


def _recover(file: Path) -> list[Received]:
    if not file.exists():
        return []
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        file.write_bytes(whole)
    return [Received.from_json(line) for line in whole.decode().splitlines()]
