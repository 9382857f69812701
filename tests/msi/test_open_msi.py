"""Which reader opens a file, and that all readers have what the rest of the code asks for."""

import inspect

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.msi.imzml import Imzml
from msi2he_jax.msi.open_msi import MsiFile, msi_files, open_msi
from msi2he_jax.msi.treatment import TreatedMsi, Treatment, treat

MEMBERS = [
    *MsiFile.__annotations__,
    *(name for name in vars(MsiFile) if not name.startswith("_") and name != "bytes"),
]


def test_the_protocol_is_what_readers_have(pair):
    file = open_msi(pair().path)
    treated = treat(file, Treatment(shift_ppm=3.0))
    assert type(file) is Imzml and type(treated) is TreatedMsi
    assert {"files", "block", "mz_range", "tic", "warnings"} <= set(MEMBERS)
    for name in MEMBERS:
        for each in (file, treated):
            assert hasattr(each, name), name
            if inspect.isfunction(getattr(MsiFile, name, None)):
                asked = inspect.signature(getattr(MsiFile, name)).parameters
                assert list(inspect.signature(getattr(type(each), name)).parameters) == list(asked)


def test_what_a_treatment_leaves_is_the_files(pair):
    file = open_msi(pair().path)
    treated = treat(file, Treatment(shift_ppm=3.0))
    changed = {"block", "packed", "spectrum", "shared_mz", "tic", "mz_range", "verify_checksum"}
    for name in set(MEMBERS) - changed - {"describe"}:
        assert getattr(treated, name) is getattr(file, name), name
    assert treated.describe() == file.describe()
    assert treated.verify_checksum() == file.verify_checksum() == "sha1"
    np.testing.assert_array_equal(treated.tic(), file.tic())


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\n "])
def test_a_file_of_another_name_is_known_by_its_content(pair, tmp_path, mark):
    written = pair()
    path = tmp_path / "a.txt"
    path.write_bytes(mark + written.path.read_bytes().split(b"?>\n", 1)[1])
    assert open_msi(path).n == 6
    assert msi_files(path) == (path, written.ibd)


def test_what_is_refused(pair, tmp_path):
    written = pair()
    with pytest.raises(InputError, match=r"binary half of an imzML pair \(name the \.imzML"):
        open_msi(written.ibd)
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(99))
    with pytest.raises(InputError, match=r"a\.raw: is no mass .* in a known format \(known: imzML"):
        open_msi(path)
    with pytest.raises(InputError, match="no such file"):
        open_msi(tmp_path / "b.raw")
    with pytest.raises(InputError, match="duplicates: is 'mean'"):
        open_msi(written.path, duplicates="mean")
