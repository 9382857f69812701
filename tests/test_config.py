import json
import pathlib

import pytest

from msi2he_jax import config as configs
from msi2he_jax import train
from msi2he_jax.errors import InputError
from msi2he_jax.metrics import evaluation
from msi2he_jax.models import build, convolution

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "configs"
SHIPPED = ["pix2pix.py", "pix2pix_fast.py", "pix2pix_robust.py", "unet.py", "unet.py:fair"]
SHIPPED += ["linear.py", "linear.py:pls", "recommended.py", "smoke.py", "smoke.py:unet"]


def _file(tmp_path, body):
    path = tmp_path / "mine.py"
    path.write_text(
        "from msi2he_jax.config import default_config\ndef get_config():\n"
        f"    config = default_config()\n    {body}\n    return config\n"
    )
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_are_sound(name):
    config = configs.load_config(FOLDER / name)
    configs.check_config(config, name)
    config.model.in_channels = 50
    build.generator_config(config.model)
    build.discriminator_config(config.discriminator)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_shipped_configurations_open_with_a_header(path):
    text = path.read_text()
    for word in ("Source:", "Command:", "Hardware:", "Time:", "Expected:"):
        assert f"\n{word}" in text


def test_the_paper_s_recipe():
    config = configs.load_config(FOLDER / "pix2pix.py")
    assert config.optimizer.learning_rate == 2e-5
    assert (config.optimizer.b1, config.optimizer.b2) == (0.5, 0.999)
    assert config.loss.lambda_l1 == 200 and config.train.batch_size == 1
    assert config.train.epochs == 200 and config.optimizer.schedule == "linear"
    assert config.data.augment == "mirror" and round(256 * (1 + config.augmentation.jitter)) == 286
    assert config.test.dropout_at_test and config.train.patience > 0
    unet = configs.load_config(FOLDER / "unet.py")
    assert unet.train.patience > 0
    assert unet.train.batch_size == 64 and unet.optimizer.learning_rate == 0.01
    assert unet.discriminator.name == "none" and unet.loss.reconstruction == "mse"
    fair = configs.load_config(f"{FOLDER / 'unet.py'}:fair")
    assert (fair.data.crop_px, fair.loss.reconstruction, fair.name) == (0, "l1", "unet_fair")
    with pytest.raises(InputError, match="expected paper or fair"):
        configs.load_config(f"{FOLDER / 'unet.py'}:best")


def test_choices_are_those_of_the_networks():
    assert configs.CHOICES["model.name"] == build.GENERATORS
    assert configs.CHOICES["model.start"] == build.STARTS
    assert configs.CHOICES["model.dtype"] == build.DTYPES
    assert configs.CHOICES["model.lowering"] == convolution.LOWERINGS


def test_every_key_is_bounded_or_chosen():
    """A number or a text without a check would reach the device."""
    free = {"name", "data.dir", "init_from"}
    for line in configs.describe_keys():
        name = line.split("=")[0].removeprefix("  --config.")
        value = configs.value(configs.default_config(), name)
        checked = name in configs.RANGES or name in configs.CHOICES or name in free
        assert checked or isinstance(value, bool), name


def test_json_is_read_as_data(tmp_path):
    config = configs.load_config(FOLDER / "unet.py")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict()))
    assert configs.differences(configs.load_config(path), config) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("config.train = {'stepz': 3}", ["train.stepz", "no such key", "train.steps"]),
        ("config.train.steps = 0", ["train.steps", "is 0", "from 1"]),
        ("config.model.depth = 12", ["model.depth", "is 12"]),
        ("config.model.depth = 3", ["model.depth", "unet_pix2pix takes from 5 to 9"]),
        ("config.loss.gan = 'vanila'", ["loss.gan", "did you mean vanilla?"]),
        ("config.data.crop_px = 100", ["data.crop_px", "multiple of 256"]),
        ("config.discriminator.name = 'none'; config.loss.lambda_l1 = 0.0", ["loss.lambda_l1"]),
        ("config.loss.gan = 'wgangp'", ["discriminator.norm", "instance"]),
        ("config.model.name = 'linear'", ["model.start", "--config.model.start=ridge"]),
        (
            "config.model.name = 'linear'; config.model.start = 'pls'",
            ["discriminator.name", "solved for, not trained"],
        ),
        (
            "config.model.update(name='linear', start='pls'); config.discriminator.name = 'none'",
            ["train.steps", "--config.train.steps=1"],
        ),
        ("config.model.start = 'ridge'; config.init_from = 'x'", ["init_from", "model.start=none"]),
        ("config.model.neighbours_px = 4", ["model.neighbours_px", "odd", "neighbours_px=5"]),
        ("config.name = '../x'", ["name", "letters"]),
        ("config.optimizer.learning_rate = float('nan')", ["learning_rate", "nan"]),
        ("raise RuntimeError('oh')", ["mine.py", "RuntimeError: oh"]),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, body, words):
    path = _file(tmp_path, body)
    with pytest.raises(InputError) as caught:
        configs.check_config(configs.load_config(path), path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train": {"steps": "3"}}, ["train.steps", "a whole number"]),
        ({"train": {"steps": True}}, ["train.steps", "a whole number"]),
        ({"train": 3}, ["train", "a section"]),
        ({"optimiser": {}}, ["optimiser", "no such key"]),
        ([1], ["no mapping"]),
    ],
)
def test_wrong_types_in_json(tmp_path, values, words):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError) as caught:
        configs.load_config(path)
    for word in words:
        assert word in str(caught.value)


def test_whole_numbers_do_for_floats(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"optimizer": {"learning_rate": 1}}))
    assert configs.load_config(path).optimizer.learning_rate == 1.0


@pytest.mark.parametrize("source", ["nowhere.py", "nowhere.json", "config.yaml", "."])
def test_wrong_paths(source):
    with pytest.raises(InputError, match=r"no such file|neither"):
        configs.load_config(source)


def test_split_overrides_leaves_the_rest_alone():
    words = ["--config=a.py", "--config.a.b=1", "--workdir", "x", "--config.c", "--debug"]
    rest, overrides = configs.split_overrides(words)
    assert rest == ["--config=a.py", "--workdir", "x", "--debug"]
    assert overrides == [("a.b", "1"), ("c", "true")]


@pytest.mark.parametrize(("name", "model"), [("pix2pix.py", "pix2pix"), ("unet.py", "U-Net")])
def test_the_published_recipes_are_those_of_the_shipped_files(name, model):
    config = configs.load_config(FOLDER / name)
    assert configs.published_differences(config, model) == ([], [])
    config.update({"name": "mine", "seed": 7})
    config.train.eval_every = 3
    assert configs.published_differences(config, model) == ([], [])
    config.ema, config.model.features = 0.5, 8
    recipe, sizes = configs.published_differences(config, model)
    assert recipe == ["ema 0.5 (published: 0)"]
    assert sizes == ["model.features 8 (published: 64)"]


def test_scores_that_may_choose_are_those_that_evaluate_reports():
    names = {*evaluation.PAPER_NAMES, *evaluation.TISSUE_NAMES} - {"tissue_fraction", "mi_bits"}
    assert set(configs.CHOICES["train.best_metric"]) == names


def test_steps_on_a_command_line_are_taken():
    """pix2pix.py counts in epochs, which would decide over any steps."""
    config = train.read_config(FOLDER / "pix2pix.py", [("train.steps", "2")])
    assert (config.train.steps, config.train.epochs) == (2, 0)
    both = [("train.epochs", "3"), ("train.steps", "2")]
    assert train.read_config(FOLDER / "pix2pix.py", both).train.epochs == 3


def test_a_removed_key_is_refused_where_it_is_on(tmp_path):
    """Configurations of earlier runs hold it as it was when off: those still open."""
    path = tmp_path / "config.json"
    old = configs.default_config().to_dict()
    old["loss"] |= {"r1": 0.0, "r1_every": 1}
    old["diffaugment"] = {"color": 0.0, "translation": 0.0, "cutout": 0.0}
    path.write_text(json.dumps(old))
    assert configs.load_config(path) == configs.default_config()
    for section, key, value in (("loss", "r1", 1.0), ("diffaugment", "cutout", 0.5)):
        on = old | {section: old[section] | {key: value}}
        path.write_text(json.dumps(on))
        with pytest.raises(InputError, match=rf"{section}\.{key}: was removed"):
            configs.load_config(path)
    with pytest.raises(InputError, match=r"--config\.loss\.r1: was removed"):
        train.override(configs.default_config(), "loss.r1", "0")
