"""The house rules: sizes, docstrings, types, import directions, and that nothing of a machine leaks in.

The figures are the budgets of the best packages of this field; each rule names what breaks it.
"""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("pipeline", "connectors", "infra", "schemas")
_BODY, _MEDIAN, _TENTH = 40, 5, 20  # lines of a function's body: the most, the median, the 90th percentile
_MODULE = 400  # lines
_NESTING = 3  # blocks within blocks
_FLAT = 0.85  # share of functions with at most one level
_DOCUMENTED = 0.8  # share of public names
_LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"  # it has no -m
_TOOL = 300.0  # seconds; the slowest, pyright, takes 25 s on two cores

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef
# What makes another way through the code; a `with` only guards one.
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.Match)
_BROAD = {"Exception", "BaseException"}


@cache
def _tracked() -> tuple[str, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return tuple(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


@cache
def _modules(*tops: str) -> dict[str, ast.Module]:
    return {
        name: ast.parse((ROOT / name).read_text(encoding="utf-8"), name)
        for name in _tracked()
        if name.endswith(".py") and name.split("/")[0] in tops
    }


def _shipped() -> dict[str, ast.Module]:
    return _modules(*SHIPPED)


def _all() -> dict[str, ast.Module]:
    return _modules(*SHIPPED, "tests", "benchmarks")


def _functions(modules: dict[str, ast.Module]) -> Iterator[tuple[str, Function]]:
    for name, module in modules.items():
        for node in ast.walk(module):
            if isinstance(node, _FUNCTION):
                yield f"{name}:{node.lineno} {node.name}", node


def _body(function: Function) -> int:
    """Lines of a function without signature and docstring."""
    statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def _nesting(node: ast.AST, *, is_elif: bool = False) -> int:
    """How deep the blocks below `node` go; `elif` is no deeper than its `if`."""
    own = 1 if isinstance(node, _BLOCKS) and not is_elif else 0
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*_FUNCTION, ast.ClassDef, ast.Lambda)):
            continue  # measured on its own
        elif_of = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        deepest = max(deepest, _nesting(child, is_elif=elif_of))
    return own + deepest


def _percentile(values: list[int], share: float) -> int:
    return sorted(values)[int(len(values) * share)]


def test_no_function_is_too_long() -> None:
    """No function body is over 40 lines, tests included."""
    assert [f"{where}: {_body(one)}" for where, one in _functions(_all()) if _body(one) > _BODY] == []


def test_functions_are_short_as_a_rule() -> None:
    """Half of the bodies have at most 5 lines, nine of ten at most 20."""
    bodies = [_body(one) for _, one in _functions(_shipped())]
    assert statistics.median(bodies) <= _MEDIAN
    assert _percentile(bodies, 0.9) <= _TENTH


def test_no_module_is_too_long() -> None:
    """No module is over 400 lines, tests included."""
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in _all()}
    assert {name: length for name, length in lengths.items() if length > _MODULE} == {}


def test_code_is_flat() -> None:
    """Blocks nest three deep at most, and 85 % of the functions at most once."""
    depths = {where: max(map(_nesting, one.body), default=0) for where, one in _functions(_shipped())}
    assert {where: depth for where, depth in depths.items() if depth > _NESTING} == {}
    assert sum(depth <= 1 for depth in depths.values()) / len(depths) >= _FLAT


def test_every_module_says_why_it_exists() -> None:
    """Each module has a docstring, tests included."""
    assert [name for name, module in _all().items() if not ast.get_docstring(module)] == []


def test_public_names_are_documented() -> None:
    """At least four of five public classes and functions have a docstring."""
    documented: dict[str, bool] = {}
    for name, module in _shipped().items():
        for scope in (module, *(node for node in module.body if isinstance(node, ast.ClassDef))):
            if isinstance(scope, ast.ClassDef) and scope.name.startswith("_"):
                continue
            for node in scope.body:
                if isinstance(node, (*_FUNCTION, ast.ClassDef)) and not node.name.startswith("_"):
                    documented[f"{name}:{node.lineno} {node.name}"] = bool(ast.get_docstring(node))
    bare = [where for where, has in documented.items() if not has]
    assert 1 - len(bare) / len(documented) >= _DOCUMENTED, bare


def test_every_function_is_annotated() -> None:
    """Each argument and each result has its type, tests included."""

    def missing(function: Function) -> bool:
        given = function.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        if given.vararg:
            named.append(given.vararg)
        if given.kwarg:
            named.append(given.kwarg)
        return function.returns is None or any(
            one.annotation is None for one in named if one.arg not in ("self", "cls")
        )

    assert [where for where, one in _functions(_all()) if missing(one)] == []


def test_imports_stand_at_the_top() -> None:
    """No import is in a function, and none hides from the running program."""
    imports = (ast.Import, ast.ImportFrom)
    hidden = [
        f"{where} (line {node.lineno})"
        for where, function in _functions(_all())
        for node in ast.walk(function)
        if isinstance(node, imports)
    ]
    hidden += [
        f"{name}:{node.lineno}"
        for name, module in _all().items()
        for node in ast.walk(module)
        if isinstance(node, ast.Name | ast.Attribute | ast.alias)
        and "TYPE_CHECKING" in (getattr(node, key, "") for key in ("id", "attr", "name"))
    ]
    assert hidden == []


def test_broad_handlers_are_excused() -> None:
    """Who catches everything raises it again, or gives the reason on the same line."""
    found: list[str] = []
    for name, module in _all().items():
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        for node in ast.walk(module):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = (
                {one.id for one in ast.walk(node.type) if isinstance(one, ast.Name)} if node.type else _BROAD
            )
            again = isinstance(node.body[-1], ast.Raise)
            if caught & _BROAD and not again and not re.search(r"#.*\w+ .*\w+", lines[node.lineno - 1]):
                found.append(f"{name}:{node.lineno}")
    assert found == []


def test_every_package_has_an_init() -> None:
    """Each directory with a shipped module is a package, so that none is missing from the wheel."""
    directories = {Path(name).parent for name in _shipped()}
    assert [str(path) for path in sorted(directories) if not (ROOT / path / "__init__.py").is_file()] == []


def _foreign() -> re.Pattern[str]:
    """Registry hosts and machine paths; from parts, so that this file does not match itself."""
    hosts = [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com")]
    hosts += [("maven", "org"), ("maven", "apache[.]org"), ("proxy[.]golang", "org"), ("crates", "io")]
    paths = [
        r"/(?:{})\b".format("|".join(("wo" + "rk", "ro" + "ot", "ho" + "me/[a-z]+", "Us" + "ers/[a-z]+")))
    ]
    names = [rf"\b{first}[.]{last}\b" for first, last in hosts]
    return re.compile("|".join([*names, *(rf"(?<![\w.}}-]){path}" for path in paths)]))


def test_no_tracked_file_names_a_registry_host_or_a_machine_path() -> None:
    """Packages are known by name, and directories by settings: the project runs on any machine."""
    foreign, found = _foreign(), list[str]()
    for name in _tracked():
        text = (ROOT / name).read_bytes().decode("utf-8", errors="replace")
        found += [f"{name}: {hit.group()}" for hit in foreign.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("-m", "ruff", "check"), id="ruff check"),
        pytest.param(("-m", "ruff", "format", "--check", "--diff"), id="ruff format"),
        pytest.param(("-c", _LINT_IMPORTS), id="import-linter"),
        pytest.param(("-m", "pyright", "--pythonpath", sys.executable), id="pyright"),
    ],
)
def test_tools_find_nothing(command: tuple[str, ...]) -> None:
    """Linter, formatter, import contracts and the strict type checker are content with every file."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=_TOOL
    )
    assert done.returncode == 0, done.stdout + done.stderr
