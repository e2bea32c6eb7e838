"""Brings the tables up to date: `migrations/NNNN_name.sql` in order, each once.

Forward only, and each file in a transaction of its own together with its row in
`everpost.schema_version`, so a half-done file leaves nothing. See decisions/0003.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.adapters.postgres.errors import translated
from pipeline.adapters.postgres.pool import Connection
from pipeline.model.errors import ConfigurationError

_HERE = Path(__file__).parent / "migrations"
_LOCK = 0x65766572706F7374  # "everpost" in ASCII: two migrations at once wait for each other
_VERSIONS = """
create schema if not exists everpost;
create table if not exists everpost.schema_version (
    version integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now()
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """By which a file that was changed after it was applied is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> Sequence[Migration]:
    """All files, in order."""
    return [
        Migration(version=int(path.stem[:4]), name=path.stem[5:], sql=path.read_text(encoding="utf-8"))
        for path in sorted(_HERE.glob("*.sql"))
    ]


async def migrate(connection: Connection) -> Sequence[int]:
    """Apply what is missing; gives the versions that were applied, none when all was there.

    Raises ConfigurationError when the database is newer than this program, or when an applied file
    has been changed since.
    """
    with translated():
        await connection.execute("select pg_advisory_lock($1)", _LOCK)
        try:
            await connection.execute(_VERSIONS)
            applied = await connection.fetch("select version, sha256 from everpost.schema_version")
            known = {row["version"]: row["sha256"] for row in applied}
            _check(known)
            missing = [m for m in migrations() if m.version not in known]
            for migration in missing:
                await _apply(connection, migration)
            return [m.version for m in missing]
        finally:
            await connection.execute("select pg_advisory_unlock($1)", _LOCK)


def _check(known: dict[int, str]) -> None:
    ours = {migration.version: migration for migration in migrations()}
    if newer := known.keys() - ours.keys():
        raise ConfigurationError(
            f"the database has migration {max(newer)}, this everpost ends at {max(ours)}: update everpost"
        )
    for version, sha256 in known.items():
        if ours[version].sha256 != sha256:
            raise ConfigurationError(
                f"migration {version:04} was changed after it was applied: restore it and add a new one"
            )


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "insert into everpost.schema_version (version, name, sha256) values ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.sha256,
        )
