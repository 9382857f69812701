"""The index kept beside an imzML file: used while wholly good, never trusted over the file."""

import json
import os
import shutil
import time

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import Limits
from msi2he_jax.msi import imzml_cache, imzml_checksum
from msi2he_jax.msi.imzml import open_imzml


@pytest.fixture
def parses(monkeypatch):
    """Keeps an index of small files too, and counts how often XML is parsed."""
    done = []

    def counted(path, parse=imzml_cache.read_xml):
        done.append(path)
        return parse(path)

    monkeypatch.setattr(imzml_cache, "read_xml", counted)
    monkeypatch.setattr(imzml_cache, "_LEAST_BYTES", 1)
    monkeypatch.setattr(imzml_checksum, "_LEAST_BYTES", 1)
    return done


@pytest.fixture
def old_pair(pair):
    """Like `pair`, but the files were written an hour ago."""

    def write(**options):
        written = pair(**options)
        age(written.path, written.ibd)
        return written

    return write


def age(*paths, seconds=3600):
    for path in paths:
        os.utime(path, (time.time() - seconds,) * 2)


def facts(path, **options):
    """All that opening a file tells."""
    file = open_imzml(path, **options)
    known = (file.storage, file.shares_mz, file.spectrum_type, file.polarity, file.pixel_size_um)
    grid = (file.uuid, file.origin_px, file.shape, file.coordinates.tolist(), file.points.tolist())
    return (*known, *grid, file.warnings, file.tic().tolist(), file.verify_checksum())


@pytest.mark.parametrize("options", [{}, {"shared": True, "mode": None}, {"packed": True}])
def test_a_second_opening_does_not_parse(old_pair, parses, options):
    written = old_pair(**options)
    first = facts(written.path)
    assert imzml_cache.index_path(written.path).name == ".a.imzML.index.npz"
    assert imzml_cache.index_path(written.path).is_file() and len(parses) == 1
    assert facts(written.path) == first and len(parses) == 1


def test_warnings_are_the_same(old_pair, parses):
    written = old_pair(mode=None)
    written.edit('<spectrumList count="6">', '<spectrumList count="7">')
    written.edit('name="external offset" value="256"', 'name="external offset" value="2.56e2"')
    age(written.path)
    first = facts(written.path)
    assert len(first[-3]) == 3 and facts(written.path) == first and len(parses) == 1


def test_off_and_small_files_leave_nothing(old_pair, parses, monkeypatch):
    written = old_pair()
    before = sorted(written.path.parent.iterdir())
    facts(written.path, index_cache="off")
    monkeypatch.undo()
    facts(written.path)
    assert sorted(written.path.parent.iterdir()) == before
    with pytest.raises(InputError, match=r"^index_cache: is 'on' \(one of auto, off\)$"):
        open_imzml(written.path, index_cache="on")


def test_a_file_just_written_is_not_kept(pair, parses):
    written = pair()
    facts(written.path)
    assert not imzml_cache.index_path(written.path).exists()
    assert not imzml_checksum.checksum_path(written.path).exists()


@pytest.mark.parametrize("change", ["xml size", "xml time", "xml uuid", "ibd size", "ibd time"])
def test_a_changed_file_is_parsed_again(old_pair, parses, change):
    written = old_pair()
    facts(written.path)
    path = written.path if change.startswith("xml") else written.ibd
    stat, raw = path.stat(), path.read_bytes()
    if change.endswith("size"):
        path.write_bytes(raw + b" ")
    elif change.endswith("uuid"):
        text = str(written.identity).upper().encode()
        path.write_bytes(raw.replace(text, text[:-1] + b"?"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9 * change.endswith("time")))
    if change == "xml uuid":
        with pytest.raises(InputError, match="is not a UUID"):
            open_imzml(written.path)
    else:
        open_imzml(written.path)
    assert len(parses) == 2


def test_an_ibd_of_another_uuid_is_refused_in_spite_of_the_index(old_pair, parses):
    written = old_pair()
    facts(written.path)
    stat = written.ibd.stat()
    written.ibd.write_bytes(bytes(16) + written.ibd.read_bytes()[16:])
    os.utime(written.ibd, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(InputError, match="UUID: the imzML states"):
        open_imzml(written.path)


def test_the_index_is_held_against_the_ibd_again(old_pair, parses, monkeypatch):
    """An index that is believed still passes every check of what it says."""
    written = old_pair()
    monkeypatch.setattr(imzml_cache, "_key", lambda path, ibd: {"stats": [[10**6, 0]]})
    facts(written.path)
    written.ibd.write_bytes(written.ibd.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"ends at byte 1336, the \.ibd has 1000"):
        open_imzml(written.path)
    assert len(parses) == 1


def test_no_damage_of_the_index_matters(old_pair, parses):
    """Flipped bits, cuts and noise anywhere: what is read is what the file says."""
    written = old_pair()
    first, place = facts(written.path), imzml_cache.index_path(written.path)
    whole, rng = place.read_bytes(), np.random.default_rng(0)
    reparsed = len(parses)
    places = [*range(0, len(whole), 61), *rng.integers(0, len(whole), 60)]
    for at in places:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        place.write_bytes(damaged)
        assert facts(written.path) == first
    assert len(parses) - reparsed > len(places) // 2
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        place.write_bytes(whole[:size])
        assert facts(written.path) == first
    place.write_bytes(rng.bytes(len(whole)))
    assert facts(written.path) == first


def rewritten(place, **changes):
    """Changes what an index says and makes its own hash agree."""
    with np.load(place) as archive:
        table, others, said = (
            archive["table"],
            archive["others"],
            json.loads(archive["text"].tobytes()),
        )
    table = changes.pop("table", lambda table: table)(table)
    for name, value in changes.items():
        said[name] = value(said[name])
    text = np.frombuffer(json.dumps(said).encode(), np.uint8)
    digest = imzml_cache._digest(table, others, text)
    np.savez(place, table=table, others=others, text=text, sha256=digest)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": lambda key: key | {"format": 0}},
        {"table": lambda table: table.astype(np.float64)},
        {"table": lambda table: table[:, :-1]},
        {"table": lambda table: table + 1},
        {"formats": lambda formats: [[{**formats[0][0], "by_code": "O"}, formats[0][1]]]},
        {"formats": lambda formats: []},
        {"other_names": lambda names: [3]},
        {"file_content": lambda params: [{**params[0], "value": 3}]},
        {"scan_settings": lambda groups: [[{"name": "x"}]]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_index_that_agrees_with_itself_but_makes_no_sense(old_pair, parses, changes):
    written = old_pair()
    first = facts(written.path)
    rewritten(imzml_cache.index_path(written.path), **changes)
    assert facts(written.path) == first and len(parses) == 2


def test_an_index_that_would_fill_the_memory(old_pair, parses):
    written = old_pair()
    first, place = facts(written.path), imzml_cache.index_path(written.path)
    np.savez_compressed(place, table=np.zeros(10**6), text=np.zeros(1), sha256=np.zeros(1))
    assert place.stat().st_size < 10_000
    assert facts(written.path) == first and len(parses) == 2


def test_an_index_that_disagrees_with_its_own_hash(old_pair, parses):
    written = old_pair()
    first, place = facts(written.path), imzml_cache.index_path(written.path)
    with np.load(place) as archive:
        content = {name: archive[name] for name in archive.files}
    np.savez(place, **content | {"sha256": content["sha256"][::-1]})
    assert facts(written.path) == first and len(parses) == 2


def test_an_index_with_an_object_inside(old_pair, parses):
    written = old_pair()
    first, place = facts(written.path), imzml_cache.index_path(written.path)
    np.savez(place, table=np.array([{}], object), text=np.zeros(1), sha256=np.zeros(1))
    assert facts(written.path) == first and len(parses) == 2


def test_other_things_of_that_name_and_folders_that_cannot_be_written(
    old_pair, parses, monkeypatch
):
    written = old_pair()
    first = facts(written.path, index_cache="off")
    for path in (imzml_cache.index_path, imzml_checksum.checksum_path):
        path(written.path).mkdir()
    assert facts(written.path) == first == facts(written.path)
    for path in (imzml_cache.index_path, imzml_checksum.checksum_path):
        path(written.path).rmdir()
        os.mkfifo(path(written.path))
    assert facts(written.path) == first

    def refused(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    for path in (imzml_cache.index_path, imzml_checksum.checksum_path):
        path(written.path).unlink()
    monkeypatch.setattr("tempfile.mkstemp", refused)
    assert facts(written.path) == first
    assert not any(entry.name.startswith(".") for entry in written.path.parent.iterdir())


def test_an_agreed_checksum_is_not_computed_again(old_pair, parses, monkeypatch):
    written = old_pair()
    file = open_imzml(written.path)
    assert file.verify_checksum() == "sha1" and file.checksum_recorded is None
    read = []
    digest = imzml_checksum._digest
    monkeypatch.setattr(imzml_checksum, "_digest", lambda *args: read.append(1) or digest(*args))
    file = open_imzml(written.path)
    assert file.verify_checksum() == "sha1" and not read
    assert file.checksum_recorded.startswith("20")
    assert file.verify_checksum(recheck=True) == "sha1" and len(read) == 1
    assert file.checksum_recorded is None


def test_a_damaged_copy_is_found_although_its_record_came_along(old_pair, parses, tmp_path):
    written = old_pair()
    open_imzml(written.path).verify_checksum()
    copy = shutil.copytree(tmp_path, tmp_path.with_name("copy"), copy_function=shutil.copy2)
    raw = bytearray((copy / "a.ibd").read_bytes())
    raw[-1] ^= 1
    stat = (copy / "a.ibd").stat()
    (copy / "a.ibd").write_bytes(raw)
    os.utime(copy / "a.ibd", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert imzml_checksum.checksum_path(copy / "a.imzML").is_file()
    with pytest.raises(InputError, match="the file is damaged"):
        open_imzml(copy / "a.imzML").verify_checksum()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"agreed": 3}', '{"agreed": "yes"}', "\0"])
def test_a_damaged_record_of_the_checksum(old_pair, parses, content):
    written = old_pair()
    imzml_checksum.checksum_path(written.path).write_text(content)
    file = open_imzml(written.path)
    assert file.verify_checksum() == "sha1" and file.checksum_recorded is None


def test_another_stated_checksum_is_compared(old_pair, parses):
    written = old_pair()
    open_imzml(written.path).verify_checksum()
    text = written.path.read_text()
    start = text.index('name="ibd SHA-1" value="') + len('name="ibd SHA-1" value="')
    written.path.write_text(text[:start] + "0" * 40 + text[start + 40 :])
    with pytest.raises(InputError, match=r"SHA1: is .*, the imzML states 0000"):
        open_imzml(written.path).verify_checksum()


def test_limits_hold_for_a_kept_index_too(old_pair, parses, monkeypatch):
    written = old_pair()
    facts(written.path)
    monkeypatch.setattr("msi2he_jax.msi.imzml_arrays.LIMITS", Limits(spectrum_points=10))
    with pytest.raises(InputError, match="impossible length of 30 values"):
        open_imzml(written.path)


def test_where_nothing_is_stated_nothing_is_compared(tmp_path):
    absent = tmp_path / "a.imzML", tmp_path / "a.ibd"
    assert imzml_checksum.verify(*absent, {}, recheck=False, cached=True) == (None, None)
