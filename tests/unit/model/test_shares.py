"""Relays that come, die, stop and wake: no share has two holders, none stays without one, order is kept."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.model.shares import SHARES, change, fair

LEASE = 4  # looks; more would only make the walks longer
USERS = 24


@given(members=st.sets(st.integers(1, 1 << 22), min_size=1, max_size=40))
def test_everybody_s_parts_make_up_the_whole(members: set[int]) -> None:
    """Every share is in exactly one part, and no part is larger than another by more than one."""
    parts = [fair(list(members), me) for me in members]
    assert sorted(share for part in parts for share in part) == list(range(SHARES))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(held=st.sets(st.integers(0, SHARES - 1)), members=st.lists(st.integers(1, 9)), me=st.integers(1, 9))
def test_a_change_leads_to_the_fair_part(held: set[int], members: list[int], me: int) -> None:
    """What is kept and what is asked for is the fair part, and nothing is asked for twice."""
    leave, take = change(held, members, me)
    assert (held - set(leave)) | set(take) == set(fair(members, me))
    assert not held & set(take)


@dataclass(slots=True)
class Relay:
    """A relay, and what the server knows of its session."""

    heard: int  # when the server heard of it
    stopped: bool = False
    believes: set[int] = field(default_factory=set[int])  # the shares that it thinks it holds
    hands: list[int] = field(default_factory=list[int])  # claimed, not yet produced


class Relays(RuleBasedStateMachine):
    """The server's part is as PostgreSQL does it: locks end with their session, and a session by silence."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.pids = self.rows = self.calm = 0
        self.sessions: dict[int, Relay] = {}
        self.cut: list[Relay] = []  # relays whose session has ended, and who do not know it yet
        self.locks: dict[int, int] = {}  # share to pid
        self.table: list[int] = []  # rows that are committed and not deleted; a row's user is its number's
        self.topic: list[int] = []

    @rule()
    def start(self) -> None:
        """Somebody joins."""
        self.calm = 0
        if len(self.sessions) < 2 * SHARES:
            self._join(Relay(heard=self.now))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """A process dies: the server sees its connection closed."""
        self.calm = 0
        self._end(data.draw(st.sampled_from(sorted(self.sessions))))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        """A process stands still, with whatever it has in its hands."""
        self.calm = 0
        self.sessions[data.draw(st.sampled_from(sorted(self.sessions)))].stopped = True

    @rule()
    def wake(self) -> None:
        """All that stood still go on: they produce what they hold, can't settle it, and begin anew."""
        self.calm = 0
        for relay in [*self.sessions.values(), *self.cut]:
            relay.stopped = False

    @rule(users=st.lists(st.integers(0, USERS - 1), max_size=5))
    def commit(self, users: list[int]) -> None:
        """Services commit rows."""
        for user in users:
            self.table.append(self.rows * USERS + user)
            self.rows += 1

    @rule(limit=st.integers(1, 3))
    def claim(self, limit: int) -> None:
        """Everybody who runs and has nothing in hand claims."""
        for pid, relay in self.sessions.items():
            if not relay.stopped and not relay.hands:
                for share in sorted(relay.believes):
                    assert self.locks[share] == pid, "it would claim what another one holds"
                    relay.hands += [row for row in self.table if _share(row) == share][:limit]

    @rule()
    def produce_and_settle(self) -> None:
        """Everybody who runs produces what it has in hand; a session that has ended settles nothing."""
        for relay in [*self.sessions.values(), *self.cut]:
            if not relay.stopped:
                self.topic += relay.hands
                if relay not in self.cut:
                    self.table = [row for row in self.table if row not in relay.hands]
                relay.hands = []

    @rule(looks=st.integers(1, 4))
    def time_passes(self, looks: int) -> None:
        """Every half second everybody who runs looks around, and the server ends sessions that are silent."""
        for _ in range(looks):
            self.now += 1
            self.calm += 1
            for pid, relay in list(self.sessions.items()):
                if relay.stopped and relay.heard + LEASE <= self.now:
                    self.cut.append(relay)
                    self._end(pid)
            for relay in [one for one in self.cut if not one.stopped and not one.hands]:
                self.cut.remove(relay)
                relay.believes = set()
                self._join(relay)
            for pid, relay in self.sessions.items():
                if not relay.stopped:
                    self._look(pid, relay)

    @invariant()
    def somebody_holds_each_share(self) -> None:
        """While one runs, every share is held by one that runs, within the lease and two looks."""
        running = {pid for pid, relay in self.sessions.items() if not relay.stopped and not relay.hands}
        if self.calm > LEASE + 2 and running and len(running) == len(self.sessions):
            assert sorted(self.locks) == list(range(SHARES))
            parts = [sum(holder == pid for holder in self.locks.values()) for pid in running]
            assert max(parts) - min(parts) <= 1

    @invariant()
    def first_copies_are_in_order(self) -> None:
        """Of each user, the first copies on the topic stand in the order of their commits."""
        for user in range(USERS):
            its = [row for row in dict.fromkeys(self.topic) if row % USERS == user]
            assert its == sorted(its)

    @invariant()
    def nothing_is_lost(self) -> None:
        """What is deleted is on the topic."""
        assert len(set(self.topic) | set(self.table)) == self.rows

    def _join(self, relay: Relay) -> None:
        self.pids += 1
        relay.heard = self.now
        self.sessions[self.pids] = relay

    def _end(self, pid: int) -> None:
        del self.sessions[pid]
        self.locks = {share: holder for share, holder in self.locks.items() if holder != pid}

    def _look(self, pid: int, relay: Relay) -> None:
        relay.heard = self.now
        if relay.hands:  # between claiming and settling a relay is heard of, and changes no share
            return
        leave, take = change(relay.believes, list(self.sessions), pid)
        for share in leave:
            del self.locks[share]
        taken = [share for share in take if self.locks.setdefault(share, pid) == pid]
        relay.believes = (relay.believes - set(leave)) | set(taken)


def _share(row: int) -> int:
    return (row % USERS) % SHARES


TestRelays = Relays.TestCase
