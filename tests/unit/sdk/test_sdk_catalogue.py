"""A service's own way to the catalogue."""

from pathlib import Path

import pytest

from pipeline.model.errors import ConfigurationError
from pipeline.sdk import load_catalogue

DEMO = Path(__file__).parents[3] / "infra" / "demo" / "catalogue"


def test_a_service_loads_the_types_that_it_publishes() -> None:
    """A path as text is enough, and what comes back is what both doors take."""
    assert "flight.cancelled" in load_catalogue(str(DEMO))


def test_a_directory_that_is_none_is_told(tmp_path: Path) -> None:
    """The error names the file that is missing."""
    with pytest.raises(ConfigurationError, match=r"categories\.toml"):
        load_catalogue(tmp_path / "nothing")
