"""The rules of ARCHITECTURE.md: who imports whom, how long things are, what does not exist."""

import ast
import pathlib
import re
import statistics
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "msi2he_jax"
NOUNS = [
    "errors",
    "plain_json",
    "io_safety",
    "locking",
    "json_schema",
    "tables",
    "config",
    "metrics",
    "histology",
    "registration",
    "msi",
    "phantom",
    "data",
    "models",
    "training",
    "inference",
    "coregistration",
    "interop",
    "reporting",
]
VERBS = [
    "simulate",
    "preprocess",
    "train",
    "synthesize",
    "evaluate",
    "register",
    "landmarks",
    "report",
    "export",
    "doctor",
]
BESIDE_VERBS = {"cli", "preprocess_flags", "progress", "register_flags"}
MODULES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN_IMPORTS = {"tensorflow", "torch", "clu", "chex", "pickle", "tensorflow_probability"}
FORBIDDEN_CALLS = {"eval", "exec"}
FORBIDDEN_WORDS = {"allow_pickle=True", "shell=True"}


def _place(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: pathlib.Path) -> set[str]:
    """Names of all modules imported anywhere in a file, functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _own(imports: set[str]) -> set[str]:
    return {name.split(".")[1] for name in imports if name.startswith("msi2he_jax.")}


def _functions(path: pathlib.Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node, clean=False)
            length = node.end_lineno - node.lineno + 1 - (len(doc.splitlines()) if doc else 0)
            yield node.name, length


def test_every_module_has_its_place():
    known = {*NOUNS, *VERBS, *BESIDE_VERBS, "__init__", "__main__"}
    assert {_place(path) for path in MODULES} <= known
    assert {_place(path) for path in MODULES} >= {*NOUNS, *VERBS}


@pytest.mark.parametrize("noun", NOUNS)
def test_nouns_import_only_what_stands_above(noun):
    allowed = {*NOUNS[: NOUNS.index(noun) + 1], "__version__"}
    for path in MODULES:
        if _place(path) == noun:
            assert _own(_imports(path)) <= allowed, path


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_do_not_import_verbs(verb):
    imported = _own(_imports(PACKAGE / f"{verb}.py"))
    assert imported <= {*NOUNS, *BESIDE_VERBS, "__version__"}


def test_nouns_neither_print_nor_read_flags():
    for path in MODULES:
        if _place(path) in NOUNS:
            assert not {name for name in _imports(path) if name.startswith("absl")}, path
            calls = {
                node.func.id
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert "print" not in calls, path


def test_nothing_runs_code_from_data():
    for path in MODULES:
        tree = ast.parse(path.read_text())
        assert not {name.split(".")[0] for name in _imports(path)} & FORBIDDEN_IMPORTS, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", "")
                assert name not in FORBIDDEN_CALLS, path
                assert not {ast.unparse(word) for word in node.keywords} & FORBIDDEN_WORDS, path


def test_json_is_written_by_one_writer():
    """`json` itself writes NaN and Infinity, which no other reader takes."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dump", "json.dumps"):
                words = {ast.unparse(word) for word in node.keywords}
                assert "allow_nan=False" in words, f"{path}:{node.lineno}: plain_json.json_text"


def test_csv_is_written_by_one_writer():
    """Which sees to it that no spreadsheet runs a cell."""
    for path in MODULES:
        if path.name != "tables.py":
            assert "csv.writer(" not in path.read_text(), path
            assert "csv.DictWriter(" not in path.read_text(), path


def test_everyday_changes_touch_files_that_exist():
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text()
    _, table = text.split("## Everyday changes and the files they touch\n")
    rows = [line for line in table.split("\n## ")[0].splitlines() if re.match(r"\| an? ", line)]
    assert len(rows) >= 4
    for row in rows:
        _, change, count, which, _ = row.split("|")
        files = re.findall(r"`([a-z_/]+\.py)`( \(new\))?", which)
        assert len(files) == int(count), change
        for name, new in files:
            assert (PACKAGE / name).is_file() != bool(new), name
        for table, name in re.findall(r"`([A-Z]+)` in `([a-z_/]+\.py)`", which):
            assert re.search(rf"^{table}\b.*= \{{", (PACKAGE / name).read_text(), re.M), table


def test_sizes():
    lengths = {(path.name, name): length for path in MODULES for name, length in _functions(path)}
    too_long = {name: length for name, length in lengths.items() if length > 60}
    assert not too_long
    assert statistics.median(lengths.values()) <= 12
    assert not {path.name for path in MODULES if len(path.read_text().splitlines()) > 400}


def test_no_rummage_rooms():
    names = {path.stem for path in MODULES}
    assert not names & {"utils", "common", "helpers", "misc"}


def test_import_is_light():
    """Importing the package loads neither jax nor umap: who uses them pays for them."""
    code = "import sys, msi2he_jax; print(sorted({'jax', 'umap', 'numpy'} & set(sys.modules)))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_help_needs_no_heavy_import(verb):
    """`--help` is complete and answers before jax is loaded."""
    code = (
        f"import sys; from msi2he_jax import {verb}; code = {verb}.main(['--help']); "
        "heavy = {'jax', 'umap', 'sklearn', 'matplotlib', 'tensorflow_datasets'}; "
        "heavy &= set(sys.modules); "
        "print('HEAVY', sorted(heavy)); sys.exit(code)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    assert "Flags:" in printed.stdout
    assert printed.stdout.strip().endswith("HEAVY []")
