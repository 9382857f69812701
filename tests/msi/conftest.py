"""Writes small imzML pairs, right and wrong ones."""

import dataclasses
import hashlib
import pathlib
import uuid
import zlib

import numpy as np
import pytest

TYPES = {
    "f4": ("MS", "MS:1000521", "32-bit float"),
    "f8": ("MS", "MS:1000523", "64-bit float"),
    "i1": ("IMS", "IMS:1100000", "8-bit integer"),
    "i2": ("IMS", "IMS:1100001", "16-bit integer"),
    "i4": ("MS", "MS:1000519", "32-bit integer"),
    "i8": ("MS", "MS:1000522", "64-bit integer"),
}


def cv(code, name, value="", unit=""):
    return (
        f'<cvParam cvRef="{code[:2]}" accession="{code}" name="{name}" value="{value}" '
        f'unitAccession="{unit}"/>\n'
    )


@dataclasses.dataclass
class Pair:
    """A written pair, whose XML and binary a test may change."""

    path: pathlib.Path
    identity: uuid.UUID

    @property
    def ibd(self):
        return self.path.with_suffix(".ibd")

    def edit(self, old, new, count=-1):
        text = self.path.read_text()
        assert old in text, old
        self.path.write_text(text.replace(old, new, count))
        return self.path


def array_group(name, code, dtype, packed):
    _, type_code, type_name = TYPES[dtype]
    compression = ("MS:1000574", "zlib compression") if packed else ("MS:1000576", "no compression")
    body = cv(code, name) + cv(type_code, type_name) + cv(*compression)
    return f'<referenceableParamGroup id="{name}">\n{body}</referenceableParamGroup>\n'


def binary_array(name, length, encoded, offset):
    return (
        f'<binaryDataArray encodedLength="0"><referenceableParamGroupRef ref="{name}"/>\n'
        + cv("IMS:1000103", "external array length", length)
        + cv("IMS:1000104", "external encoded length", encoded)
        + cv("IMS:1000102", "external offset", offset)
        + "<binary/></binaryDataArray>\n"
    )


def spectrum_row(number, position, total, arrays):
    return (
        f'<spectrum id="s{number}" index="{number}" defaultArrayLength="0">\n'
        '<referenceableParamGroupRef ref="spectrum"/>\n'
        + cv("MS:1000285", "total ion current", total)
        + '<scanList count="1"><scan>'
        + cv("IMS:1000050", "position x", position[0])
        + cv("IMS:1000051", "position y", position[1])
        + '</scan></scanList>\n<binaryDataArrayList count="2">\n'
        + arrays
        + "</binaryDataArrayList></spectrum>\n"
    )


def write_pair(
    path,
    spectra,
    positions,
    *,
    shared=False,
    mode="profile",
    mz_type="f8",
    intensity_type="f4",
    packed=False,
    scan_settings=None,
    tags=None,
):
    """Writes spectra [(mz, intensity)] at positions [(x, y)]."""
    identity, binary, rows, shared_place = uuid.uuid4(), bytearray(), [], None
    binary += identity.bytes

    def put(values, dtype):
        raw = np.asarray(values).astype("<" + dtype).tobytes()
        raw = zlib.compress(raw) if packed else raw
        place = (len(values), len(raw), len(binary))
        binary.extend(raw)
        return place

    for number, ((mz, intensity), (x, y)) in enumerate(zip(spectra, positions, strict=True)):
        if not shared or shared_place is None:
            shared_place = put(mz, mz_type)
        mz_place, intensity_place = shared_place, put(intensity, intensity_type)
        arrays = binary_array("m/z array", *mz_place)
        arrays += binary_array("intensity array", *intensity_place)
        rows.append(spectrum_row(number, (x, y), np.sum(intensity), arrays))
    type_tag = {
        "profile": cv("MS:1000128", "profile spectrum"),
        "centroid": cv("MS:1000127", "centroid spectrum"),
        None: "",
    }[mode]
    tags = cv("MS:1000130", "positive scan") + type_tag if tags is None else tags
    settings = (
        cv("IMS:1000046", "pixel size x", "50", "UO:0000017")
        if scan_settings is None
        else scan_settings
    )
    storage = ("IMS:1000030", "continuous") if shared else ("IMS:1000031", "processed")
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<mzML xmlns="http://psi.hupo.org/ms/mzml">\n'
        "<fileDescription><fileContent>\n"
        + cv("IMS:1000080", "universally unique identifier", "{" + str(identity).upper() + "}")
        + cv("IMS:1000091", "ibd SHA-1", hashlib.sha1(bytes(binary)).hexdigest().upper())
        + cv(*storage)
        + "</fileContent></fileDescription>\n<referenceableParamGroupList>\n"
        + array_group("m/z array", "MS:1000514", mz_type, packed)
        + array_group("intensity array", "MS:1000515", intensity_type, packed)
        + f'<referenceableParamGroup id="spectrum">\n{tags}</referenceableParamGroup>\n'
        + "</referenceableParamGroupList>\n"
        + f'<scanSettingsList><scanSettings id="a">\n{settings}</scanSettings></scanSettingsList>\n'
        + f'<run><spectrumList count="{len(rows)}">\n{"".join(rows)}</spectrumList></run></mzML>\n'
    )
    path.write_text(text)
    path.with_suffix(".ibd").write_bytes(bytes(binary))
    return Pair(path, identity)


def make_spectra(rng, count, points, *, shared=False, low=100.0, high=200.0):
    """Random spectra with increasing m/z; some intensities are 0."""

    def mz():
        return np.sort(rng.uniform(low, high, points))

    common = mz()
    spectra = []
    for _ in range(count):
        intensity = rng.gamma(1.0, 100.0, points) * (rng.random(points) > 0.3)
        spectra.append((common if shared else mz(), intensity.astype(np.float32)))
    return spectra


@pytest.fixture
def pair(tmp_path):
    """Writes a 3 x 2 pair; keywords go to `write_pair`."""

    def write(spectra=None, positions=None, *, points=30, shared=False, seed=0, **options):
        if positions is None:
            positions = [(x, y) for y in (1, 2, 3) for x in (1, 2)]
        if spectra is None:
            rng = np.random.default_rng(seed)
            spectra = make_spectra(rng, len(positions), points, shared=shared)
        return write_pair(tmp_path / "a.imzML", spectra, positions, shared=shared, **options)

    return write
