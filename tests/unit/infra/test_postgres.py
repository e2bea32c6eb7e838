"""The embedded PostgreSQL's files and rights, without starting it."""

import os
import shutil
from pathlib import Path

import pytest

from infra.embedded import packages, postgres
from infra.embedded.packages import User
from pipeline.model.errors import ConfigurationError
from tests.support import services

STRANGER = User(uid=65_533, gid=65_533)


def test_who_may_enter() -> None:
    """A directory closed to others, anywhere above, is out of reach for the server's user."""
    with services.scratch() as home:
        (home / "closed" / "data").mkdir(parents=True)
        assert postgres.reachable(home / "closed" / "data", STRANGER)
        (home / "closed").chmod(0o700)
        assert not postgres.reachable(home / "closed" / "data", STRANGER)
        assert postgres.reachable(home / "closed" / "data", User(uid=os.geteuid(), gid=os.getegid()))
        assert postgres.reachable(home / "closed" / "data", None)


def test_binaries_out_of_reach_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Binaries that the server's user cannot reach are copied to where it can, and the copies work."""
    with services.scratch() as home:
        closed = home / "closed"
        closed.mkdir()
        installed = packages.directory(postgres.PACKAGE)
        shutil.copytree(
            installed / postgres.VERSION, closed / postgres.PACKAGE / postgres.VERSION, symlinks=True
        )
        libraries = installed.parent / f"{postgres.PACKAGE}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, closed / libraries.name)
        closed.chmod(0o700)
        monkeypatch.setattr(packages, "directory", lambda _name: closed / postgres.PACKAGE)
        cache = home / "cache"
        cache.mkdir()
        files = postgres.binaries(cache, STRANGER)
        assert files.is_relative_to(cache)
        assert postgres.binaries(cache, STRANGER) == files
        assert postgres.reachable(files / "postgres", STRANGER)
        packages.run([str(files / "initdb"), "--version"], STRANGER if os.geteuid() == 0 else None)


def test_home_out_of_reach_is_an_error() -> None:
    """A home that the server's user cannot enter is named, with where to put it instead."""
    with services.scratch() as home:
        home.chmod(0o700)
        server = postgres.Postgres(
            files=home, directory=home / "postgres", secret=home / "secret", port=1, user=STRANGER
        )
        with pytest.raises(ConfigurationError, match=r"cannot enter .*: set EVERPOST_HOME"):
            server.prepare()


def test_lost_password_is_an_error(tmp_path: Path) -> None:
    """Data whose password is lost is neither deleted nor opened; the error says both ways out."""
    (tmp_path / "postgres").mkdir()
    server = postgres.Postgres(
        files=tmp_path, directory=tmp_path / "postgres", secret=tmp_path / "secret", port=1, user=None
    )
    with pytest.raises(ConfigurationError, match="restore it, or move that directory away"):
        server.prepare()
    assert (tmp_path / "postgres").is_dir()


def test_missing_package_says_how_to_install() -> None:
    """Without the extra the error is the command that installs it."""
    with pytest.raises(ConfigurationError, match=r"pip install 'everpost\[embedded\]'"):
        packages.directory("no_such_package")


def test_failing_tool_is_quoted() -> None:
    """A tool that fails is an error with its own words."""
    with pytest.raises(ConfigurationError, match="/bin/sh failed: no space"):
        packages.run(["/bin/sh", "-c", "echo no space >&2; exit 1"])
