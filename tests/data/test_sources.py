"""Finished work is stale once a file that it was made by has changed, and only then."""

import ast
import pathlib
import shutil

import msi2he_jax
from msi2he_jax.coregistration import finished
from msi2he_jax.data import work
from msi2he_jax.data.manifest import read_manifest
from msi2he_jax.data.sources import digest_of_sources, source_files

PACKAGE = pathlib.Path(msi2he_jax.__file__).parent


def test_what_units_run_is_known_and_nothing_else():
    found = source_files(PACKAGE, work._UNITS)
    names = {path.relative_to(PACKAGE).as_posix() for path in found}
    assert names >= {
        "data/cohort.py",
        "errors.py",
        "histology/__init__.py",
        "histology/reading.py",
        "metrics/information.py",  # which `--view=auto` asks
        "msi/imzml_index.py",
        "msi/view_models.py",
        "registration/automatic.py",  # of `--align=auto` alone
        "registration/landmarks.py",
    }
    assert not names & {"__init__.py", "data/loader.py", "metrics/nulls.py"}
    assert not {name.split("/")[0] for name in names} & {"training", "models", "phantom"}


def test_an_edited_metric_makes_work_stale_and_an_unrelated_file_does_not(tmp_path):
    copy = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = work.software()["msi2he_jax sources"]
    for edited, same in (("training/loop.py", True), ("metrics/information.py", False)):
        with open(copy / edited, "a") as file:
            file.write("# edited\n")
        assert (digest_of_sources(copy, work._UNITS) == before) == same, edited


def test_imports_of_every_form_are_followed(tmp_path):
    package = tmp_path / "here"
    (package / "deep").mkdir(parents=True)
    for name in ("__init__", "b", "c", "d", "deep/__init__", "deep/e", "deep/f", "g", "unused"):
        (package / f"{name}.py").write_text("")
    (package / "a.py").write_text(
        "import os, elsewhere\nimport here.b\nfrom here import c\nfrom here.d import (\n  x,\n)\n"
        "from here.deep.e import *\ndef f():\n  from here.deep import f\nif False: import here.g\n"
    )
    (package / "g.py").write_text("import here.a")  # in a ring
    names = [path.relative_to(package).as_posix() for path in source_files(package, ["a"])]
    deep = ["deep/__init__.py", "deep/e.py", "deep/f.py"]
    assert names == ["a.py", "b.py", "c.py", "d.py", *deep, "g.py"]


def test_all_who_make_units_are_known():
    """Their functions stand in the same module, so what they import is what a unit runs."""
    makers = set()
    for path in PACKAGE.rglob("*.py"):
        if "make_unit(" in (text := path.read_text()) and path.name != "work.py":
            calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
            assert "make_unit" in {getattr(call, "id", "") for call in calls}
            makers.add(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    # Sections of register are no units of data: their keys hold the digest of what registers.
    assert makers - {"coregistration.finished"} == set(work._UNITS)


def test_an_edited_registration_makes_sections_stale():
    registering = {p.relative_to(PACKAGE).as_posix() for p in source_files(PACKAGE, ["register"])}
    assert {"register.py", "registration/automatic.py", "registration/deformable.py"} <= registering
    assert finished._code() == digest_of_sources(PACKAGE, ("register",))


def test_the_key_of_a_section_holds_the_code(cohort, monkeypatch):
    sample = read_manifest(cohort)[0]
    before = finished.section_key(sample, {}, None, [])
    assert finished.section_key(sample, {}, None, []) == before
    monkeypatch.setattr(finished, "_code", lambda: "edited")
    assert finished.section_key(sample, {}, None, []) != before
