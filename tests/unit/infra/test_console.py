"""What a first start says while it fetches."""

import pytest

from infra.embedded.console import Console


def test_lines_where_no_bar_can_move(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a fetch is told in few lines, the last one when it is done."""
    with Console() as console:
        for done in range(0, 45_000_001, 100_000):
            console.progress("kafka-4.3.1", done, 45_000_000)
        console.line("ready [not markup]")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 4
    assert lines[-2:] == ["fetching kafka-4.3.1: 45 of 45 MB", "ready [not markup]"]


def test_bar_at_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """At a terminal a bar moves, and is gone when all is there."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Console() as console:
        console.progress("kafka-4.3.1", 0, 45_000_000)
        console.progress("kafka-4.3.1", 45_000_000, 45_000_000)
        console.line("ready")
    shown = capsys.readouterr().err
    assert "fetching kafka-4.3.1" in shown
    assert "0.0/45.0 MB" in shown
    assert shown.endswith("ready\n")
