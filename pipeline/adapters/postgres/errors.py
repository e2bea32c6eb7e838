"""What an error of PostgreSQL means to us: the other side is away, a setting is wrong, or a bug is ours.

The table goes by SQLSTATE class (PostgreSQL documentation, appendix A), with single codes before it.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Literal

import asyncpg

from pipeline.model.errors import ConfigurationError, DependencyDown

Fault = Literal["down", "configuration", "bug"]

FAULTS: Mapping[str, Fault] = {
    # single codes
    "55P03": "down",  # lock_not_available: somebody holds it longer than lock_timeout
    "25P02": "bug",  # in_failed_sql_transaction: an error was swallowed
    "25P03": "down",  # idle_in_transaction_session_timeout: the session is gone
    "25P04": "down",  # transaction_timeout: the session is gone
    "25006": "down",  # read_only_sql_transaction: a fail-over is under way
    "42P01": "configuration",  # undefined_table: not migrated
    "42501": "configuration",  # insufficient_privilege
    # classes
    "08": "down",  # connection exception
    "40": "down",  # transaction rollback: deadlock, serialisation
    "53": "down",  # insufficient resources: disk, memory, connections
    "57": "down",  # operator intervention: shutdown, start-up, statement_timeout
    "58": "down",  # system error outside PostgreSQL
    "28": "configuration",  # invalid authorisation
    "3D": "configuration",  # no such database
    "3F": "configuration",  # no such schema: not migrated
    "F0": "configuration",  # configuration file
}
_ADVICE = "check EVERPOST_POSTGRES_DSN, and that the tables are there: everpost doctor"


def fault(error: asyncpg.PostgresError) -> Fault:
    """Whose fault an error of the server is; what the table does not name is a bug of ours."""
    code: str = error.sqlstate or ""  # pyright: ignore[reportAttributeAccessIssue]  # set by asyncpg's metaclass
    return FAULTS.get(code) or FAULTS.get(code[:2]) or "bug"


@contextmanager
def translated() -> Generator[None]:
    """Raise DependencyDown or ConfigurationError for what asyncpg raises; let bugs through as they are."""
    try:
        yield
    except asyncpg.PostgresError as error:
        match fault(error):
            case "down":
                raise DependencyDown(f"PostgreSQL: {error}") from error
            case "configuration":
                raise ConfigurationError(f"PostgreSQL: {error}; {_ADVICE}") from error
            case "bug":
                raise
    except asyncpg.ClientConfigurationError as error:
        raise ConfigurationError(f"PostgreSQL: {error}; {_ADVICE}") from error
    except asyncpg.InterfaceError as error:
        # asyncpg has one class for wrong use and for a connection that was closed under us.
        if "clos" in str(error) or "terminated" in str(error):
            raise DependencyDown(f"PostgreSQL: {error}") from error
        raise
    except asyncpg.InternalClientError as error:
        # Rolling back on a connection whose server was killed under a statement: "cannot switch to state".
        raise DependencyDown(f"PostgreSQL: the connection broke off: {error}") from error
    except (OSError, TimeoutError) as error:
        raise DependencyDown(f"PostgreSQL does not answer: {error or type(error).__name__}") from error
