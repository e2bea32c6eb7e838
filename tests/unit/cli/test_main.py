"""What a terminal shows when a command cannot run."""

import pytest

from pipeline.cli import main as cli
from pipeline.model.errors import ConfigurationError


def fail(error: Exception) -> None:
    """Raise it."""
    raise error


def test_an_extra_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing package of an extra is one line with what to type, not a traceback."""
    error = ImportError("Cannot import module 'pipeline.cli.demo'")
    error.__cause__ = ModuleNotFoundError("No module named 'trustme'", name="trustme")
    monkeypatch.setattr(cli, "app", lambda **_: fail(error))
    monkeypatch.setattr("sys.argv", ["everpost", "demo"])
    with pytest.raises(SystemExit, match="78"):
        cli.main()
    assert "trustme is not installed; this needs: pip install 'everpost[embedded]'" in capsys.readouterr().err


def test_an_error_is_printed_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets in a message are words, not colours."""
    error = ConfigurationError("pip install 'everpost[otel]'")
    monkeypatch.setattr(cli, "app", lambda **_: fail(error))
    monkeypatch.setattr("sys.argv", ["everpost", "run"])
    with pytest.raises(SystemExit, match="78"):
        cli.main()
    assert capsys.readouterr().err == "everpost: pip install 'everpost[otel]'\n"
