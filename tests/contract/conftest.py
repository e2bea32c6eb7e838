"""The conformance suite of connectors: its fixtures, and how many cases each connector ran."""

from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.contract import soak
from tests.contract.rigs import RIGS as FIRST
from tests.contract.rigs import Rig
from tests.contract.rigs_b import RIGS as SECOND

RIGS: tuple[Rig, ...] = (*FIRST, *SECOND)
_CONNECTOR = "connector"  # the property by which a report knows its connector


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and certificates, made once."""
    return tmp_path_factory.mktemp("certs")


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Generator[soak.Local]:
    """The local providers in a process of their own, with every tenth address dead."""
    with soak.providers(tmp_path_factory.mktemp("providers")) as running:
        yield running


@pytest.fixture(params=RIGS, ids=lambda rig: rig.name)
def rig(request: pytest.FixtureRequest) -> Rig:
    """Each connector in turn with its provider."""
    found: Rig = request.param
    request.node.user_properties.append((_CONNECTOR, found.name))
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many cases of the conformance suite each connector ran, and how many it failed."""
    ran, failed = Counter[str](), Counter[str]()
    for outcome, counted in (("passed", ran), ("failed", failed), ("error", failed)):
        for report in terminalreporter.stats.get(outcome, ()):
            if isinstance(report, pytest.TestReport) and (report.when == "call" or report.failed):
                counted.update(str(value) for name, value in report.user_properties if name == _CONNECTOR)
    if not ran and not failed:
        return
    terminalreporter.section("conformance of connectors")
    for name in sorted(ran | failed):
        terminalreporter.write_line(f"{name:<8} {ran[name]:>3} cases passed, {failed[name]} failed")
