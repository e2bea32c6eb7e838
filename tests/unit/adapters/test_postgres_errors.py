"""What errors of PostgreSQL and asyncpg become."""

import inspect

import asyncpg
import pytest

from pipeline.adapters.postgres.errors import FAULTS, fault, translated
from pipeline.model.errors import ConfigurationError, DependencyDown

# The SQLSTATE classes that are a bug of ours when they come. A new class of a later asyncpg fails the
# test below until somebody has thought about it.
BUGS = set(
    "00 01 02 03 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 2B 2D 2F 34 38 39 3B 42 44 54 55 72 HV P0 XX".split()  # noqa: SIM905  # a list of 33 literals reads worse
)


def _states() -> list[str]:
    found = [cls for _, cls in inspect.getmembers(asyncpg.exceptions, inspect.isclass)]
    return [state for cls in found if (state := getattr(cls, "sqlstate", None))]


def test_every_class_that_asyncpg_knows_has_its_place() -> None:
    """The table is complete."""
    classes = {code for code in FAULTS if len(code) == 2}
    assert {state[:2] for state in _states()} <= BUGS | classes
    assert not BUGS & classes


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        # the server stops, is full, or gave up on a lock or a statement
        (asyncpg.AdminShutdownError("shutting down"), DependencyDown),
        (asyncpg.TooManyConnectionsError("too many"), DependencyDown),
        (asyncpg.LockNotAvailableError("lock"), DependencyDown),
        (asyncpg.QueryCanceledError("statement timeout"), DependencyDown),
        (asyncpg.DeadlockDetectedError("deadlock"), DependencyDown),
        (asyncpg.ReadOnlySQLTransactionError("standby"), DependencyDown),
        # the connection breaks under us: asyncpg has three ways to say so
        (asyncpg.ConnectionDoesNotExistError("closed"), DependencyDown),
        (asyncpg.InterfaceError("connection is closed"), DependencyDown),
        (ConnectionRefusedError("refused"), DependencyDown),
        (TimeoutError(), DependencyDown),
        # what an operator must mend
        (asyncpg.InvalidPasswordError("password"), ConfigurationError),
        (asyncpg.UndefinedTableError("no profile"), ConfigurationError),
        (asyncpg.InsufficientPrivilegeError("grant"), ConfigurationError),
        # bugs stay what they are
        (asyncpg.PostgresSyntaxError("select select"), asyncpg.PostgresSyntaxError),
        (asyncpg.UniqueViolationError("twice"), asyncpg.UniqueViolationError),
        (asyncpg.InterfaceError("another operation is in progress"), asyncpg.InterfaceError),
        (ValueError("ours"), ValueError),
    ],
)
def test_errors_are_translated_at_the_edge(raised: Exception, becomes: type[Exception]) -> None:
    """Away, misconfigured or a bug: three ways on, by one table."""
    with pytest.raises(becomes), translated():
        raise raised


def test_a_single_code_goes_before_its_class() -> None:
    """A lock that is not free is no bug, though its class is one."""
    assert fault(asyncpg.LockNotAvailableError("lock")) == "down"
    assert fault(asyncpg.ObjectInUseError("in use")) == "bug"
