"""The event types that a caller publishes, from a catalogue directory."""

from pathlib import Path

from pipeline.adapters.files.catalogue import load
from pipeline.model.catalogue import Catalogue


def load_catalogue(directory: Path | str) -> Catalogue:
    """Read and check a catalogue directory, once when your service starts.

    Raises ConfigurationError that names file, key and fix.
    """
    return load(Path(directory)).types
