"""One run over frozen letters: read, judge, take, send, in batches, the next one prepared meanwhile.

    1 read    the next letters of the run's ranges, and of them those that are meant
    2 judge   each, by what the notification log, earlier runs and operators' recalls say
    3 take    those that are to be sent: a claim in PostgreSQL, which only one run can hold
    4 write   them and how far the run has come: one transaction of Kafka
    5 look    at what the operator wishes, and at what the senders answer

A crash between 3 and 4 leaves claims of letters that are not sent: they are this run's, so it sends them
when it is resumed; an abort gives them back. A crash between 4 and 5 loses nothing.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping

from pipeline.model.replay import Run, Status
from pipeline.stages.replay.pace import Pacer, batch, canary, failing
from pipeline.stages.replay.tools import Place, Told, Tools, Writer
from pipeline.stages.replay.weigh import Batch, Weigher

_LOOK = 1.0  # seconds between two looks: how soon an operator's wish is obeyed
_AHEAD = 3  # batches in work before the one that is written: PostgreSQL takes one while the next is read
_WATCHED = 2_000  # letters sent most recently, whose answers are counted


class Replay:
    """One process's work on a run. Without a writer nothing is taken and nothing sent: a dry run."""

    def __init__(self, tools: Tools, run: Run, writer: Writer | None) -> None:
        self._tools = tools
        self._run = run
        self._writer = writer
        self._reading = asyncio.Lock()
        self._weigher = Weigher(tools, run, dry=writer is None)
        self._progress: dict[Place, tuple[int, Mapping[str, int]]] = {}
        self._counts = Counter[str]()
        self._read = 0
        self._began = self._looked = tools.timer()
        self._pacer = Pacer(run.pace, self._began)
        self._watched: deque[tuple[str, int]] = deque(maxlen=max(_WATCHED, run.pace.canary))
        self._canary = 0 if writer is None else run.pace.canary  # to be sent before answers are waited for

    async def run(self, stop: asyncio.Event) -> Told:
        """Work until the end, `stop`, an operator's wish or too many failures. Raises DependencyDown."""
        if self._writer is not None:
            self._progress.update(await asyncio.to_thread(self._writer.progress))
            for _, counts in self._progress.values():
                self._counts.update(counts)
            if self._counts["sent"]:
                self._canary = 0  # it was sent before the run was interrupted
        ahead = deque[asyncio.Task[Batch | None]]()
        try:
            while True:
                # While a canary is out, nothing may follow it yet.
                while len(ahead) < (1 if self._canary else _AHEAD):
                    ahead.append(asyncio.create_task(self._prepare()))
                found = await ahead.popleft()
                if found is None:
                    return self._told("done")
                ended = await self._send(found, stop)
                if ended is not None:
                    return ended
        finally:
            # What they took stays taken by this run; an error of theirs would be that of the one before.
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _send(self, found: Batch, stop: asyncio.Event) -> Told | None:
        """Write a batch when it is due; how the run ends, if it does."""
        if self._writer is not None and found.records:
            await self._paced(stop)
        if stop.is_set():
            return self._told("paused", "interrupted")
        self._advance(found)
        if self._writer is not None:
            progress = {place: self._progress[place] for place in found.ends}
            await asyncio.to_thread(self._writer.write, found.records, progress)
        self._pacer.sent(len(found.records))
        self._watched.extend(found.sent)
        self._tools.tell(self._told("running"))
        if self._writer is None:
            return None
        return await self._after_canary(len(found.records), stop) or await self._look()

    async def _paced(self, stop: asyncio.Event) -> None:
        while not stop.is_set() and (rest := self._pacer.wait(self._tools.timer())) > 0:
            await _nap(stop, rest)

    def _advance(self, found: Batch) -> None:
        """Count a batch that is about to be written."""
        self._read += found.read
        for place, end in found.ends.items():
            before = self._progress.get(place, (0, {}))[1]
            self._progress[place] = (end, before)
        for (place, fate), count in found.fates.items():
            end, before = self._progress[place]
            self._progress[place] = (end, {**before, fate: before.get(fate, 0) + count})
            self._counts[fate] += count

    async def _after_canary(self, sent: int, stop: asyncio.Event) -> Told | None:
        """Wait for the canary's answers once all of it is out."""
        if not self._canary:
            return None
        self._canary = max(0, self._canary - sent)
        began = self._tools.timer()
        while not self._canary and self._watched and not stop.is_set():
            answers = await self._tools.books.answers(list(self._watched))
            word, why = canary(self._run.pace, answers, self._tools.timer() - began)
            if word == "go":
                break
            if word == "stop":
                return self._told("stopped", why)
            await _nap(stop, _LOOK / 4)
            if ended := await self._look():
                return ended
        return None

    async def _look(self) -> Told | None:
        """Once a second: the operator's wish, and the senders' answers."""
        now = self._tools.timer()
        if now - self._looked < _LOOK:
            return None
        self._looked = now
        status = await self._tools.books.save(self._run.run_id, self._counts)
        if status not in ("running", "pausing"):
            return self._told(status, "by an operator")
        if status == "pausing":
            return self._told("paused", "by an operator")
        if self._run.pace.stop_at is None or not self._watched:
            return None
        word, why = failing(self._run.pace, await self._tools.books.answers(list(self._watched)))
        return self._told("stopped", why) if word == "stop" else None

    async def _prepare(self) -> Batch | None:
        """The next batch, judged and taken; None when all letters are read."""
        limit = min(batch(self._run.pace), self._canary or batch(self._run.pace))
        async with self._reading:  # first come, first served, so the batches keep the topic's order
            letters = await asyncio.to_thread(self._tools.letters.read, limit)
        if not letters:
            return None
        return await self._weigher.weigh(letters)

    def _told(self, status: Status, why: str = "") -> Told:
        return Told(
            status=status,
            why=why,
            read=self._read,
            seconds=self._tools.timer() - self._began,
            counts=dict(self._counts),
            samples=self._weigher.samples,
            changes=self._weigher.changes,
        )


async def _nap(stop: asyncio.Event, seconds: float) -> None:
    """Wait, at most until the process is told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
