"""The planted bugs still fit the code that they break."""

import ast
import shutil
from pathlib import Path

import pytest

from tests.faults.bugs import BUGS, Bug
from tests.faults.mutants import ROOT


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_bug_can_be_planted(bug: Bug, tmp_path: Path) -> None:
    """Its texts stand in the sources exactly once, what comes of it is a program, and its check exists."""
    for path in {edit.path for edit in bug.edits}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    for edit in bug.edits:
        edit.apply(tmp_path)
        if edit.path.endswith(".py"):
            ast.parse((tmp_path / edit.path).read_text())
    file, _, name = bug.check.partition("::")
    assert f"def {name}" in (ROOT / file).read_text()


def test_a_stale_bug_is_an_error(tmp_path: Path) -> None:
    """A text that is not there, or there twice, is told by its file."""
    edit = BUGS[0].edits[0]
    (tmp_path / edit.path).parent.mkdir(parents=True)
    for text in ("", edit.old * 2):
        (tmp_path / edit.path).write_text(text)
        with pytest.raises(ValueError, match="not once"):
            edit.apply(tmp_path)
