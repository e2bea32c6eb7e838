"""The Java side's files: what a bundle holds is fixed by a lock file, fetched once, then used offline.

A lock file has one line a file: coordinate, packaging, classifier (`-` for none), bytes, SHA-256.
So nothing is resolved when everpost starts, progress is known in bytes from the first moment, and a
file that is not the one that was tested is refused.
"""

import fcntl
import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from infra.embedded import packages
from pipeline.model.errors import DependencyDown

Progress = Callable[[str, int, int], None]
"""Told what is fetched, how many bytes are there, and how many there will be."""

PARALLEL = 8  # the files are small, so the time goes into round trips: 17 s one by one, 3 s with eight
TRIES = 3  # a lost connection among 46 files should not end a first start
TIMEOUT = 20  # seconds without a byte, not for the whole file


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One file of a bundle."""

    coordinate: str  # group:artifact:version
    packaging: str  # jar, tar.gz
    classifier: str  # empty for none
    size: int  # bytes
    sha256: str  # hexadecimal

    @property
    def filename(self) -> str:
        """The file's name in the cache."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}{'-' if self.classifier else ''}{self.classifier}.{self.packaging}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A program's files: what belongs together and is complete or not there."""

    name: str  # of the directory in the cache, with the version: another version is another directory
    jars: tuple[Jar, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(jar.size for jar in self.jars)


def read(name: str, lock_file: str) -> Bundle:
    """Read the bundle `name` from a lock file beside this module."""
    lines = (Path(__file__).parent / lock_file).read_text(encoding="utf-8").splitlines()
    return Bundle(name=name, jars=tuple(_jar(line) for line in lines if not line.startswith("#")))


def _jar(line: str) -> Jar:
    coordinate, packaging, classifier, size, sha256 = line.split()
    return Jar(
        coordinate=coordinate,
        packaging=packaging,
        classifier="" if classifier == "-" else classifier,
        size=int(size),
        sha256=sha256,
    )


def present(bundle: Bundle, cache: Path) -> bool:
    """Whether every file of the bundle is in the cache with its size."""
    directory = cache / bundle.name
    return all(_has_size(directory / jar.filename, jar.size) for jar in bundle.jars)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def fetch(bundle: Bundle, cache: Path, progress: Progress) -> Path:
    """Bring the bundle's missing files into `cache`; return their directory. No network when all are there.

    Raises DependencyDown when a file cannot be had, or is not the one of the lock file.
    """
    directory = cache / bundle.name
    if present(bundle, cache):
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(cache / f"{bundle.name}.lock"):
        missing = [jar for jar in bundle.jars if not _has_size(directory / jar.filename, jar.size)]
        _download(bundle, missing, directory, progress)
    return directory


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Two starts that share a cache do not fetch the same files twice; the lock ends with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(bundle: Bundle, missing: Sequence[Jar], directory: Path, progress: Progress) -> None:
    meter = _Meter(bundle, missing, progress)
    with (
        tempfile.TemporaryDirectory(dir=directory, prefix=".fetch-") as scratch,
        ThreadPoolExecutor(PARALLEL) as pool,
    ):
        jobs = [pool.submit(_bring, jar, Path(scratch), directory, meter) for jar in missing]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Meter:
    """Adds up the bytes of parallel downloads and takes back those of one that failed."""

    def __init__(self, bundle: Bundle, missing: Sequence[Jar], progress: Progress) -> None:
        self._label = bundle.name
        self._total = bundle.size
        self._done = bundle.size - sum(jar.size for jar in missing)
        self._progress = progress
        self._lock = Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress(self._label, self._done, self._total)


def _bring(jar: Jar, scratch: Path, directory: Path, meter: _Meter) -> None:
    problem = ""
    for attempt in range(TRIES):
        repository = scratch / f"{jar.filename}.{attempt}"  # a broken file of the last try is never met
        try:
            path = _resolve(jar, repository, meter)
        except (OSError, RuntimeError) as error:  # RuntimeError is jgo's; those of requests are OSErrors
            problem = f"{type(error).__name__} while fetching {jar.coordinate}"
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256:
            path.replace(directory / jar.filename)
            return
        meter.add(-jar.size)
        problem = f"{jar.coordinate} came with another checksum than the lock file's"
    raise DependencyDown(
        f"{problem}. The first start fetches its Java files from the package repository: check the network "
        "(HTTPS_PROXY is honoured) and start again. Once they are in EVERPOST_HOME, everpost starts offline."
    )


def _resolve(jar: Jar, repository: Path, meter: _Meter) -> Path:
    group, artifact, version = jar.coordinate.split(":")
    seen = 0

    @contextmanager
    def watched(_filename: str, _size: int) -> Generator[Callable[[int], None]]:
        def advance(count: int) -> None:
            nonlocal seen
            seen += count
            meter.add(count)

        yield advance

    packages.directory("jgo")
    maven = importlib.import_module("jgo.maven")  # here: a start with all files in place does without it
    resolver = maven.PythonResolver(progress_callback=watched)
    context = maven.MavenContext(repo_cache=repository, resolver=resolver, timeout=TIMEOUT)
    component = context.project(group, artifact).at_version(version)
    try:
        return component.artifact(jar.classifier, jar.packaging).resolve()
    except BaseException:
        meter.add(-seen)
        raise


def unpack(archive: Path, directory: Path) -> Path:
    """Unpack a bundle's archive once into `directory`, complete or not at all."""
    if not directory.is_dir():
        scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=".unpack-"))
        shutil.unpack_archive(archive, scratch, filter="data")
        os.replace(scratch, directory)  # noqa: PTH105  (a directory: Path.replace is the same call)
    return directory
