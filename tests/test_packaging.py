"""What a wheel holds, and the command that it installs."""

import configparser
import importlib
import pathlib

import pytest

import msi2he_jax
from msi2he_jax import __main__ as command
from msi2he_jax import config as configs
from msi2he_jax.config import shipped
from msi2he_jax.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def options():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_package_is_in_the_wheel(options):
    folders = {path.parent for path in (ROOT / "msi2he_jax").rglob("__init__.py")}
    expected = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    listed = set(options["options"]["packages"].split())
    assert listed == expected | {"msi2he_jax.configs"}
    assert options["options"]["package_dir"].split() == ["msi2he_jax.configs", "=", "configs"]


def test_other_files_of_the_package_are_in_the_wheel(options):
    package = ROOT / "msi2he_jax"
    others = {p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    declared = {
        package.parent / name.replace(".", "/") / word
        for name, words in options["options.package_data"].items()
        for word in words.split()
    }
    assert others == declared


def test_the_command_runs_verbs(options, capsys):
    name, place = options["options.entry_points"]["console_scripts"].split("=")
    module, function = place.strip().split(":")
    assert name.strip() == "msi2he"
    assert getattr(importlib.import_module(module), function) is command.main
    assert command.main(["--help"]) == 0
    printed = capsys.readouterr().out
    for verb in command.VERBS:
        assert f"\n  {verb} " in printed
    assert command.main(["train", "--help"]) == 0
    assert "--workdir" in capsys.readouterr().out
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"msi2he_jax {msi2he_jax.__version__}\n"


def test_the_command_names_every_verb():
    modules = [path for path in (ROOT / "msi2he_jax").glob("*.py") if path.stem != "__main__"]
    runnable = {path.stem for path in modules if '__name__ == "__main__"' in path.read_text()}
    assert set(command.VERBS) == runnable


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["registr"], "error: registr: no such command (did you mean register?)"),
        (["zzz"], "error: zzz: no such command (commands: simulate, "),
    ],
)
def test_a_wrong_command_is_one_line(words, line, capsys):
    assert command.main(words) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(line) and printed.count("\n") == 1


def test_no_command_shows_them_all(capsys):
    assert command.main([]) == 2
    assert "usage: msi2he COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("pix2pix", "pix2pix"),
        ("unet:fair", "unet_fair"),
        ("configs/pix2pix.py", "pix2pix"),
        ("configs/smoke.py:unet", "smoke_unet"),
    ],
)
def test_shipped_configurations_are_found_from_any_folder(source, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configs.load_config(source).name == name


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "configs" / "pix2pix.py"
    mine.parent.mkdir()
    mine.write_text(f"{shipped.shipped_configs()['pix2pix'].read_text()}\nNAME = 'mine'\n")
    mine.write_text(mine.read_text().replace('config.name = "pix2pix"', "config.name = NAME"))
    assert configs.load_config("configs/pix2pix.py").name == "mine"
    assert configs.load_config("pix2pix").name == "pix2pix"


def test_an_unknown_name_lists_what_there_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"pix2pixx: --config: .* \(did you mean pix2pix\?\)"):
        configs.load_config("pix2pixx")
    with pytest.raises(InputError, match=r"shipped: linear, pix2pix, pix2pix_fast, pix2pix_robust"):
        configs.load_config("zzz")
    with pytest.raises(InputError, match=r"configs/absent\.py"):
        configs.load_config("configs/absent.py")


def test_an_installed_package_holds_its_configurations(tmp_path, monkeypatch):
    """As in a wheel, where `configs` lies inside the package, which is looked at first."""
    inside = tmp_path / "msi2he_jax" / "configs"
    inside.mkdir(parents=True)
    (inside / "only.py").write_text("")
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "msi2he_jax")
    assert shipped.shipped_configs() == {"only": inside / "only.py"}
