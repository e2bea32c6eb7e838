"""What the tests' own servers stand on."""

from pathlib import Path

import pytest

from tests.support import services


def test_a_fresh_machine_has_a_cache_to_link_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's home that links to the cache can be written to, though nothing was ever fetched."""
    monkeypatch.setenv("EVERPOST_HOME", str(tmp_path / "nothing" / "here"))
    link = tmp_path / "cache"
    link.symlink_to(services.cache())
    (link / "kafka").mkdir(parents=True)
    assert (tmp_path / "nothing" / "here" / "cache" / "kafka").is_dir()
