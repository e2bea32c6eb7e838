"""`python -m tests.faults mutants` tells whether the suite would see it if somebody broke a promise.

Each bug of `bugs.py` is planted alone, in a copy of the sources, and the check that must see it is run
there. All checks run once without a bug first: a check that fails anyway proves nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import orjson
from rich.console import Console
from rich.table import Table

from tests.faults.bugs import BUGS, Bug

ROOT = Path(__file__).parents[2]
_COPIED = ("pipeline", "connectors", "infra", "schemas", "tests")
_LONGEST = 600.0  # seconds for the checks of one copy
_NO_END = 124  # as the exit code of timeout(1)
_TAIL = 2_000  # characters of the output of a check that ended otherwise than it should

Result = Literal["caught", "missed", "broken"]  # broken: the check did not come to a verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """What came of one bug."""

    name: str
    check: str
    result: Result
    seconds: float
    output: str


def main(*, only: str = "", json: bool = False) -> int:
    """Plant deliberate bugs one at a time; each must be caught by the suite.

    `only`: bugs with this in their name. Exit code 0 when all are caught, and every check passes without.
    """
    console = Console()
    bugs = [bug for bug in BUGS if only in bug.name]
    if not bugs:
        console.print(f"no bug has {only!r} in its name: {', '.join(bug.name for bug in BUGS)}")
        return 2
    healthy, output = _checked([], [bug.check for bug in bugs])
    if healthy != 0:
        console.print(f"the checks fail without any bug:\n{output}", markup=False)
        return 1
    planted = [_plant(bug) for bug in bugs]
    _show(console, planted)
    caught = sum(one.result == "caught" for one in planted)
    if json:
        figures = [{k: v for k, v in asdict(one).items() if k != "output"} for one in planted]
        line = {"planted": len(planted), "caught": caught, "pass_without": True, "bugs": figures}
        sys.stdout.write(orjson.dumps(line).decode() + "\n")
    return 0 if caught == len(planted) else 1


def _plant(bug: Bug) -> Planted:
    began = time.monotonic()
    code, output = _checked([bug], [bug.check])
    result: Result = "caught" if code == 1 else "missed" if code == 0 else "broken"
    seconds = round(time.monotonic() - began, 1)
    return Planted(name=bug.name, check=bug.check, result=result, seconds=seconds, output=output)


def _checked(bugs: Sequence[Bug], checks: Sequence[str]) -> tuple[int, str]:
    """Pytest's exit code in a copy with these bugs: 0 all passed, 1 some failed, others no verdict."""
    with tempfile.TemporaryDirectory(prefix="everpost-mutant-") as name:
        copy = Path(name)
        for folder in _COPIED:
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for edit in (edit for bug in bugs for edit in bug.edits):
            edit.apply(copy)
        command = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
        try:
            done = subprocess.run(
                [*command, "-p", "tests.faults.quick", *dict.fromkeys(checks)],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": name},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_LONGEST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _NO_END, f"it had not ended after {_LONGEST:.0f} s"
    return done.returncode, done.stdout[-_TAIL:]


def _show(console: Console, planted: Sequence[Planted]) -> None:
    shown = Table("bug", "check", "result", "seconds")
    for one in planted:
        shown.add_row(one.name, one.check.removeprefix("tests/"), one.result, f"{one.seconds:.1f}")
    console.print(shown)
    for one in planted:
        if one.result != "caught":
            console.print(f"{one.name} is {one.result}:\n{one.output}", markup=False)
