"""The shape of the project: what an import costs, who may import whom, what is shipped, and what every file must have."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (ROOT / "aidb", ROOT / "connectors" / "aidb_connectors", ROOT / "models" / "aidb_models")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

HEAVY = {"numpy", "pyarrow", "duckdb", "sqlglot", "scipy", "pandas", "torch", "ray", "IPython", "rich", "PIL"}
RUNTIMES = {"torch", "torchvision", "ultralytics", "onnxruntime", "cv2", "av", "transformers", "sentence_transformers"}
MAX_LINES = 600


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in package.rglob("*.py"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code` (and that it did not hold before)."""
    program = f"import sys\nbefore = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


# --- what an import costs -------------------------------------------------------------------------------------------


def test_importing_aidb_loads_nothing_heavy() -> None:
    loaded = loaded_after("import aidb; dir(aidb); aidb.__version__")
    assert "aidb" in loaded
    assert not loaded & (HEAVY | RUNTIMES | {"aidb_connectors", "aidb_models"})


def test_naming_an_error_loads_nothing_heavy() -> None:
    assert not loaded_after("from aidb import BudgetExceeded, Error, ModelError") & (HEAVY | RUNTIMES)


def test_loading_every_plugin_loads_no_model_runtime() -> None:
    loaded = loaded_after(
        "from importlib.metadata import entry_points\n"
        "for group in ('aidb.connectors', 'aidb.models'):\n"
        "    for point in entry_points(group=group):\n"
        "        point.load()"
    )
    assert {"aidb_connectors", "aidb_models"} <= loaded
    assert not loaded & RUNTIMES


# --- the public surface ---------------------------------------------------------------------------------------------


def test_all_lists_exactly_the_public_names() -> None:
    aidb = importlib.import_module("aidb")
    public = {
        name for name in dir(aidb) if not name.startswith("_") and not isinstance(getattr(aidb, name), ModuleType)
    }
    listed = [name for name in aidb.__all__ if not isinstance(getattr(aidb, name), ModuleType)]
    assert len(aidb.__all__) == len(set(aidb.__all__))
    assert sorted(name for name in listed if not name.startswith("_")) == sorted(public)


@pytest.mark.parametrize(
    "name",
    [
        "connect", "model", "apilevel", "threadsafety", "paramstyle", "Warning", "Error", "InterfaceError",
        "DatabaseError", "DataError", "OperationalError", "IntegrityError", "InternalError", "ProgrammingError",
        "NotSupportedError", "BudgetExceeded", "ModelError",
    ],
)  # fmt: skip
def test_promised_name(name: str) -> None:
    aidb = importlib.import_module("aidb")
    assert name in aidb.__all__
    assert getattr(aidb, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    aidb = importlib.import_module("aidb")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = aidb.no_such_name


# --- who may import whom --------------------------------------------------------------------------------------------


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(PYPROJECT["tool"]["importlinter"]["contracts"]) >= 4
    assert "0 broken" in done.stdout


def test_imports_are_absolute() -> None:
    """One spelling for each module, so that a search for its name finds all who use it."""
    relative = [
        f"{shown(path)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    assert relative == []


# --- what is shipped ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from hatchling.builders.wheel import WheelBuilder

    built = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"]))
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_wheel_has_our_three_packages_and_nothing_else(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    info = {top for top in tops if top.endswith(".dist-info")}
    assert tops - info == {"aidb", "aidb_connectors", "aidb_models"}
    assert len(info) == 1


@pytest.mark.parametrize("name", ["aidb", "aidb_connectors", "aidb_models"])
def test_wheel_is_typed(wheel: list[str], name: str) -> None:
    assert f"{name}/py.typed" in wheel


def test_wheel_holds_every_module_and_the_licence(wheel: list[str]) -> None:
    expected = {path.relative_to(package.parent).as_posix() for package in PACKAGES for path in package.rglob("*.py")}
    assert expected <= set(wheel)
    assert any(name.endswith("/LICENSE") for name in wheel)


@pytest.mark.parametrize("group", ["aidb.connectors", "aidb.models"])
def test_entry_points_resolve(group: str) -> None:
    declared = PYPROJECT["project"]["entry-points"][group]
    installed = {point.name: point.value for point in entry_points(group=group) if point.value in declared.values()}
    assert installed == declared, "the installation is older than pyproject.toml: pip install -e ."
    for target in declared.values():
        module, _, attribute = target.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute)), target


def test_console_script_resolves() -> None:
    for target in PYPROJECT["project"]["scripts"].values():
        module, _, attribute = target.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute)), target


def test_every_extra_is_in_all_or_named_as_left_out() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    inside = set(re.fullmatch(r"aidb\[(.*)\]", everything).group(1).split(","))  # type: ignore[union-attr]
    assert inside <= set(extras)
    assert set(extras) - inside - {"all", "dev"} <= {"docs", "embedding", "harlequin"}


# --- what every file must have --------------------------------------------------------------------------------------


def test_no_catch_all_names() -> None:
    assert not [shown(path) for path in modules() if re.fullmatch(r"(utils?|helpers?|common|misc)", path.stem)]


def test_no_module_is_too_long_to_know() -> None:
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def needs_docstring(node: ast.stmt) -> bool:
    """A setter, an overload and an override say nothing that the thing they belong to has not said."""
    names = {ast.unparse(d).rpartition(".")[2] for d in getattr(node, "decorator_list", [])}
    return not names & {"overload", "override", "setter", "deleter"}


def test_everything_public_has_a_docstring() -> None:
    missing = []
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if tree.body and not ast.get_docstring(tree):
            missing.append(shown(path))
        missing += [
            f"{shown(path)}:{node.lineno} {name}"
            for name, node in public_definitions(tree.body)
            if needs_docstring(node) and not ast.get_docstring(node)  # type: ignore[arg-type]
        ]
    assert missing == []


def test_every_test_file_is_collected() -> None:
    """A file that defines a test bears a name that pytest's default pattern finds."""
    lost = [
        shown(path)
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if not path.name.startswith("test_")
        and any(
            (isinstance(node, ast.FunctionDef) and node.name.startswith("test"))
            or (isinstance(node, ast.ClassDef) and node.name.startswith("Test"))
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    ]
    assert lost == []


def tracked_text() -> Iterator[tuple[Path, str]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: there is no list of tracked files")
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file():
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # a picture or an archive


def test_no_path_of_a_machine_in_a_tracked_file() -> None:
    homes = re.compile(r"(?<![\w.~$}])/(?:home|Users|root)/[\w.-]+|[A-Z]:\\Users\\")
    here = f"{ROOT}/"
    found = [
        f"{shown(path)}: {line.strip()}"
        for path, text in tracked_text()
        for line in text.splitlines()
        if here in line or homes.search(line)
    ]
    assert found == []


def test_no_tracked_file_is_large() -> None:
    assert {shown(path) for path, _ in tracked_text() if path.stat().st_size > 2**20} == set()
