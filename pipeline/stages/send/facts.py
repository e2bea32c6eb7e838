"""Profiles asked for one by one and fetched together: one query for all that ask while one runs."""

import asyncio
from collections.abc import Callable, Mapping

from pipeline.model.errors import DependencyDown
from pipeline.model.profile import Profile
from pipeline.observe import Log, Outage
from pipeline.ports import Profiles, UserKey
from pipeline.stages.send.pause import Abandoned

_MOST = 1_000  # users of one query
_AWAY = 0.5  # seconds between two tries while Postgres is away
_LOOK = 0.5  # seconds between two looks at whether a waiting record is still ours


class Facts:
    """The asking side is `profile`; `run` is a task of the stage."""

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        self._outage = Outage(Log(__name__))
        self._asked: dict[UserKey, asyncio.Future[Profile | None]] = {}
        self._some = asyncio.Event()

    async def profile(self, user: UserKey, mine: Callable[[], bool]) -> Profile | None:
        """The user's profile as it is now, or None when there is none.

        Waits as long as Postgres is away. Raises Abandoned when `mine` becomes false.
        """
        found = self._asked.get(user)
        if found is None:
            found = self._asked[user] = asyncio.get_running_loop().create_future()
            self._some.set()
        while True:
            done, _ = await asyncio.wait([found], timeout=_LOOK)
            if done:
                return found.result()
            if not mine():
                raise Abandoned

    async def run(self) -> None:
        """Answer what is asked, for ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._asked:
                asked = dict(list(self._asked.items())[:_MOST])
                for user in asked:  # who asks from here on gets an answer that is younger than the question
                    del self._asked[user]
                profiles = await self._fetch(list(asked))
                for user, answer in asked.items():
                    answer.set_result(profiles.get(user))

    async def _fetch(self, users: list[UserKey]) -> Mapping[UserKey, Profile]:
        while True:
            try:
                profiles = await self._profiles.fetch(users)
            except DependencyDown as error:
                self._outage.down(error)
                await asyncio.sleep(_AWAY)
            else:
                self._outage.back()
                return profiles
