"""A data set from elsewhere: nothing it names is imported, nothing outside its folder is opened."""

import copy
import json
import os
import pathlib
import sys

import pytest

from msi2he_jax import doctor
from msi2he_jax.data.builder import read_split, write_dataset
from msi2he_jax.data.dataset_files import features_record
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import write_hashes

CANARY = "msi2he_canary"
CLASS = f"{CANARY}.X"
ADDRESS = "tensorflow_datasets.core.features."
ALLOWED = ADDRESS + "tensor_feature.Tensor"


def field(**change):
    """Changes the feature `msi`."""
    return lambda features, info: features["featuresDict"]["features"]["msi"].update(change)


def top(**change):
    return lambda features, info: features.update(change)


def added(feature):
    return lambda features, info: features["featuresDict"]["features"].update(more=feature)


def about(**change):
    """Changes dataset_info.json."""
    return lambda features, info: info.update(change)


def split(**change):
    return lambda features, info: info["splits"][0].update(change)


def without(name):
    return lambda features, info: features["featuresDict"]["features"]["msi"].pop(name)


def legacy(kind, **content):
    def change(features, info):
        features.clear()
        features.update(type=kind, content=content)

    return change


def sequence(feature):
    kind = ADDRESS + "sequence_feature.Sequence"
    return {"pythonClassName": kind, "sequence": {"feature": feature, "length": "-1"}}


OUTSIDE = "{OUTSIDE}"  # stands for a folder beside the data set that holds shards of the same names
NAMES = {
    # features.json: which class a feature is
    "python class": field(pythonClassName=CLASS),
    "snake case": field(python_class_name=CLASS),
    "snake beside camel": field(python_class_name=CLASS, pythonClassName=ALLOWED),
    "upper case": field(PYTHONCLASSNAME=CLASS),
    "capital": field(PythonClassName=CLASS),
    "class in brackets": field(**{"[pythonClassName]": CLASS}),
    "bare": field(pythonClassName=CANARY),
    "attribute of an attribute": field(pythonClassName=f"{CANARY}.X.Y"),
    "relative": field(pythonClassName=f".{CLASS}"),
    "beneath ours": field(pythonClassName=f"tensorflow_datasets.core.features.{CLASS}"),
    "spaces": field(pythonClassName=f" {CLASS} "),
    "wide letters": field(pythonClassName="\uff4dsi2he_canary.X"),
    "a list": field(pythonClassName=[CLASS]),
    "null": field(pythonClassName=None),
    "another allowed class": field(pythonClassName=ADDRESS + "text_feature.Text"),
    "another class of the library": field(pythonClassName=ADDRESS + "dataset_feature.Dataset"),
    "legacy": field(type=CLASS, content={}),
    "legacy, proto": field(type=CLASS, content="{}", proto_cls="tensorflow_datasets.TensorFeature"),
    "legacy in place": lambda f, i: f["featuresDict"]["features"].update(
        msi={"type": CLASS, "content": {}}
    ),
    "top": top(pythonClassName=CLASS),
    "top, snake case": top(python_class_name=CLASS),
    "top, legacy": top(type=CLASS, content={}),
    "top, legacy only": legacy(CLASS),
    "legacy dictionary": legacy(
        ADDRESS + "features_dict.FeaturesDict", msi={"type": CLASS, "content": {}}
    ),
    "snake dictionary": lambda f, i: f.update(features_dict=f.pop("featuresDict")),
    "one more": added({"pythonClassName": CLASS, "text": {}}),
    "one more, legacy": added({"type": CLASS, "content": {}}),
    "in a sequence": added(sequence({"pythonClassName": CLASS, "text": {}})),
    "in a sequence, snake": added(sequence({"python_class_name": CLASS, "text": {}})),
    "in two dictionaries": added(
        {
            "pythonClassName": ADDRESS + "features_dict.FeaturesDict",
            "featuresDict": {"features": {"a": {"pythonClassName": CLASS, "text": {}}}},
        }
    ),
    "as json": added({"pythonClassName": CLASS, "jsonFeature": {"json": "{}"}}),
    "as json, snake": added({"pythonClassName": CLASS, "json_feature": {"json": "{}"}}),
    "labels": added({"pythonClassName": ADDRESS + "class_label_feature.ClassLabel"}),
    "no class": without("pythonClassName"),
    "other channels": field(
        tensor={
            "dtype": "float32",
            "encoding": "bytes",
            "shape": {"dimensions": ["-1", "-1", "99999999"]},
        }
    ),
    "dtype of code": field(tensor={"dtype": CLASS, "encoding": "bytes", "shape": {}}),
    # dataset_info.json: which files hold it
    "template up": split(
        filepathTemplate="../outside/{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    ),
    "template, snake": split(filepath_template="../outside/{DATASET}-{SPLIT}.{FILEFORMAT}-0"),
    "template absolute": split(
        filepathTemplate=OUTSIDE + "/{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    ),
    "template of a name": split(filepathTemplate="../outside/secret"),
    "template with an attribute": split(filepathTemplate="{DATASET.__class__}-{SPLIT}"),
    "template of shards": split(filepathTemplate="{SHARD_INDEX}/../../outside/{SHARD_X_OF_Y}"),
    "template empty": split(filepathTemplate=""),
    "template null": split(filepathTemplate=None),
    "dataset up": about(name="../outside/msi2he_pairs"),
    "dataset absolute": about(name=OUTSIDE + "/msi2he_pairs"),
    "dataset another": about(name="secret"),
    "split up": split(name="../outside/x"),
    "split another": split(name="secret"),
    "splits twice": lambda f, i: i["splits"].append(
        {**i["splits"][0], "filepathTemplate": "../outside/{SHARD_X_OF_Y}"}
    ),
    "format up": about(fileFormat="../outside/secret"),
    "format another": about(fileFormat="tfrecord"),
    "format, snake": about(file_format="tfrecord"),
    "format absent": lambda f, i: i.pop("fileFormat"),
    "other formats": about(alternativeFileFormats=["riegeli"]),
    "version up": about(version="../../outside"),
    "version another": about(version="2.0.0"),
    "module": about(moduleName=CANARY),
    "module, snake": about(module_name=CANARY),
    "configuration": about(configName="../outside"),
    "location": about(location={"urls": ["file:///etc/passwd"]}),
    "redistribution": about(redistributionInfo={"license": "../outside/secret"}),
    "more shards": split(shardLengths=["1", "1"]),
    "negative lengths": split(shardLengths=["3", "-2"]),
    "lengths as numbers": split(shardLengths=[1]),
    "endless lengths": split(shardLengths=["9" * 400]),
}


def _text(name, change):
    """A change of a file's text, for what a parsed value cannot hold."""
    return lambda folder: (folder / name).write_text(change((folder / name).read_text()))


TEXTS = {
    "key twice": _text(
        "features.json", lambda t: t.replace('"msi": {', f'"msi": {{"pythonClassName": "{CLASS}",')
    ),
    "key twice, last": _text(
        "features.json",
        lambda t: t.replace(f'"{ALLOWED}"', f'"{ALLOWED}", "pythonClassName": "{CLASS}"'),
    ),
    "escaped value": _text(
        "features.json", lambda t: t.replace(f'"{ALLOWED}"', '"\\u006dsi2he_canary.X"')
    ),
    "escaped key": _text(
        "features.json",
        lambda t: t.replace('"tensor":', f'"\\u0074ype": "{CLASS}", "content": {{}}, "tensor":', 1),
    ),
    "mark of byte order": lambda folder: (folder / "features.json").write_bytes(
        b"\xef\xbb\xbf" + json.dumps({"type": CLASS, "content": {}}).encode()
    ),
    "two values": _text("features.json", lambda t: t + json.dumps({"type": CLASS})),
    "template twice": _text(
        "dataset_info.json",
        lambda t: t.replace(
            '"name": "train"', '"filepathTemplate": "../outside/x", "name": "train"'
        ),
    ),
    "comment": _text("dataset_info.json", lambda t: "// ../outside\n" + t),
    "deep": lambda folder: (folder / "features.json").write_text("[" * 100_000),
    "a link": lambda folder: _linked(folder, "features.json"),
    "a link for the list": lambda folder: _linked(folder, "SHA256SUMS"),
    "a link for a shard": lambda folder: _linked(
        folder, next(path.name for path in folder.glob("*train*"))
    ),
}


def _linked(folder, name):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(f"../outside/{name}")


@pytest.fixture
def hostile(tmp_path, make_example, provenance, monkeypatch):
    """A data set, a module that must not be imported, and a folder that must not be read."""
    folder = tmp_path / "place" / "d"
    write_dataset(folder, {"train": lambda: [make_example(1)]}, provenance)
    outside = tmp_path / "place" / "outside"
    outside.mkdir()
    for path in folder.iterdir():
        (outside / path.name).write_bytes(path.read_bytes())
    (outside / "secret").write_text("secret")
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / f"{CANARY}.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(modules)
    monkeypatch.chdir(modules)
    return folder


@pytest.fixture(scope="session")
def watched():
    """A list that takes the name of every file and module that Python opens or imports."""
    seen, on = [], [False]

    def hook(event, arguments):
        if on[0] and event in ("open", "import", "os.listdir", "os.scandir"):
            seen.append(str(arguments[0]))

    sys.addaudithook(hook)  # It cannot be taken away again: `on` silences it.
    return seen, on


def refused(folder, watched) -> str:
    """Reads a data set that must be refused; tells what was opened and imported meanwhile."""
    seen, on = watched
    seen.clear()
    on[0] = True
    try:
        with pytest.raises(InputError) as caught:
            read_split(folder, "train")
    finally:
        on[0] = False
    assert CANARY not in sys.modules and not [name for name in seen if CANARY in name]
    opened = [
        name for name in seen if os.path.realpath(name).startswith(f"{folder.parent}/outside")
    ]
    assert not opened, opened
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _at(value, outside):
    """Puts the folder's path where the cases have its mark."""
    return json.loads(json.dumps(value).replace(OUTSIDE, str(outside)))


@pytest.mark.parametrize("name", NAMES)
def test_what_names_a_class_or_a_path_is_refused(name, hostile, watched):
    paths = [hostile / "features.json", hostile / "dataset_info.json"]
    parsed = [json.loads(path.read_text()) for path in paths]
    NAMES[name](*parsed)
    for path, value in zip(paths, parsed, strict=True):
        path.write_text(json.dumps(_at(copy.deepcopy(value), hostile.parent / "outside")))
    (hostile / "SHA256SUMS").unlink()
    write_hashes(hostile)
    said = refused(hostile, watched)
    assert said.startswith((str(paths[0]), str(paths[1]), f"{hostile}: train: holds"))


@pytest.mark.parametrize("name", TEXTS)
def test_what_parsers_read_differently_is_refused(name, hostile, watched):
    (hostile / "SHA256SUMS").unlink()
    TEXTS[name](hostile)
    if "link" not in name:
        write_hashes(hostile)
    refused(hostile, watched)


def test_there_are_as_many_cases_as_docs_reliability_says():
    page = pathlib.Path(__file__).parents[2] / "docs" / "reliability.md"
    (row,) = [line for line in page.read_text().splitlines() if line.startswith("| P15")]
    assert f"{len(NAMES) + len(TEXTS)} spellings" in row


def test_the_watch_sees_what_it_must(hostile, watched):
    seen, on = watched
    seen.clear()
    on[0] = True
    (hostile.parent / "outside" / "secret").read_text()
    with pytest.raises(SystemExit):
        __import__(CANARY)
    on[0] = False
    assert str(hostile.parent / "outside" / "secret") in seen and CANARY in seen


def test_a_records_content_may_be_anything(hostile, tmp_path):
    """A shard of other records, hashes renewed: a line, whatever its parser raises."""
    from array_record.python.array_record_module import ArrayRecordWriter

    (shard,) = hostile.glob("*train*")
    for content in (b"", b"\xff" * 50, b"\n\x10\n\x0e\n\x03msi\x12\x07\n\x05\n\x03abc"):
        shard.unlink()
        writer = ArrayRecordWriter(str(shard), "group_size:1")
        writer.write(content)
        writer.close()
        _renew_hashes(hostile)
        with pytest.raises(InputError, match="example 0: cannot be read"):
            read_split(hostile, "train")


def _renew_hashes(folder):
    from msi2he_jax.io_safety import sha256

    record = json.loads((folder / "provenance.json").read_text())
    record["shards"] = {name: sha256(folder / name) for name in record["shards"]}
    (folder / "provenance.json").write_text(json.dumps(record))
    (folder / "SHA256SUMS").unlink()
    write_hashes(folder)


def test_tfds_alone_opens_what_is_written(hostile):
    import tensorflow_datasets as tfds

    source = tfds.builder_from_directory(hostile).as_data_source("train")
    assert source[0]["msi"].shape == (10, 12, 4)
    assert json.loads((hostile / "features.json").read_text()) == features_record(4)


def test_doctor_says_it_in_a_line(hostile, capsys):
    change = json.loads((hostile / "features.json").read_text())
    top(type=CLASS)(change, None)
    (hostile / "features.json").write_text(json.dumps(change))
    (hostile / "SHA256SUMS").unlink()
    assert doctor.main([str(hostile)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == [f"error: {hostile}/features.json: type: is not allowed (run preprocess again)"]
