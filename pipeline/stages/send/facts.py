"""Profiles asked for one by one and fetched together: one query for all that ask while one runs."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pipeline.model.errors import DependencyDown
from pipeline.model.profile import Profile
from pipeline.observe import Log, Outage
from pipeline.ports import Profiles, UserKey
from pipeline.stages.send.pause import Abandoned

_MOST = 1_000  # users of one query
_AWAY = 0.5  # seconds between two tries while Postgres is away


class _Question(NamedTuple):
    user: UserKey
    mine: Callable[[], bool]
    answer: asyncio.Future[Profile | None]


class Facts:
    """The asking side is `profile`; `run` is a task of the stage."""

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        self._outage = Outage(Log(__name__))
        self._asked: deque[_Question] = deque()
        self._some = asyncio.Event()

    async def profile(self, user: UserKey, mine: Callable[[], bool]) -> Profile | None:
        """The user's profile as it is now, or None when there is none.

        Waits as long as Postgres is away. Raises Abandoned when `mine` becomes false.
        """
        answer: asyncio.Future[Profile | None] = asyncio.get_running_loop().create_future()
        self._asked.append(_Question(user, mine, answer))
        self._some.set()
        return await answer

    async def run(self) -> None:
        """Answer what is asked, for ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._asked:
                # Who asks from here on gets an answer that is younger than the question.
                asked = [self._asked.popleft() for _ in range(min(_MOST, len(self._asked)))]
                _answer(asked, await self._fetch(asked))

    async def _fetch(self, asked: Sequence[_Question]) -> Mapping[UserKey, Profile]:
        while True:
            try:
                profiles = await self._profiles.fetch(list({question.user for question in asked}))
            except DependencyDown as error:
                self._outage.down(error)
                await asyncio.sleep(_AWAY)
                _give_up(asked)
                _give_up(self._asked)
            else:
                self._outage.back()
                return profiles


def _answer(asked: Sequence[_Question], profiles: Mapping[UserKey, Profile]) -> None:
    for user, _, answer in asked:
        if not answer.done():  # its record was given up
            answer.set_result(profiles.get(user))


def _give_up(asked: Iterable[_Question]) -> None:
    """Whose record is no longer ours waits in vain."""
    for _, mine, answer in asked:
        if not answer.done() and not mine():
            answer.set_exception(Abandoned())
