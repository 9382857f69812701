"""A small, right imzML pair, ways to make it wrong, and a reader of all there is."""

import hashlib
import pathlib
import re
import uuid
import zlib

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.phantom.imzml_writer import write_imzml
from msi2he_jax.phantom.spectra import Spectra

SPECTRA, POINTS = 6, 12
POSITIONS = [(x, y) for y in (1, 2, 3) for x in (1, 2)]
SHA1 = re.compile(r'(name="ibd SHA-1" value=")[^"]*')


class Pair:
    """An imzML pair: all m/z (float64) lie first, then all intensities (float32)."""

    def __init__(self, folder: pathlib.Path):
        rng = np.random.default_rng(0)
        self.path, self.ibd = folder / "a.imzML", folder / "a.ibd"
        self.identity = uuid.UUID(int=0x0123456789ABCDEF0123456789ABCDEF)
        self.mz = np.sort(rng.uniform(100, 200, (SPECTRA, POINTS)), axis=1)
        self.intensity = rng.gamma(1, 100, (SPECTRA, POINTS)).astype(np.float32)
        counts = np.full(SPECTRA, POINTS)
        spectra = Spectra(self.mz.ravel(), self.intensity.ravel(), counts)
        options = {"kind": "centroid", "polarity": "negative", "um_yx": (50.0, 50.0)}
        options |= {"identifier": self.identity, "version": "0"}
        write_imzml(self.path, spectra, np.array(POSITIONS), **options)

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="latin-1")

    def write(self, text: str, encoding: str = "latin-1") -> None:
        self.path.write_bytes(text.encode(encoding))

    def edit(self, old: str, new: str, count: int = 1) -> None:
        """Replaces text of the XML; `count` -1 replaces all."""
        assert old in self.text, old
        self.write(self.text.replace(old, new, count))

    def value(self, name: str, new: str, number: int = 0) -> None:
        """Gives the `number`-th parameter of a name another value."""
        places = list(re.finditer(rf'name="{re.escape(name)}" value="([^"]*)"', self.text))
        place = places[number]
        self.write(self.text[: place.start(1)] + new + self.text[place.end(1) :])

    def patch(self, at: int, data: bytes) -> None:
        """Overwrites bytes of the .ibd."""
        raw = bytearray(self.ibd.read_bytes())
        raw[at : at + len(data)] = data
        self.ibd.write_bytes(raw)

    def point(self, kind: str, spectrum: int, point: int, value: float) -> None:
        """Overwrites one number of the .ibd, and states the new SHA-1."""
        size, start = (8, 16) if kind == "mz" else (4, 16 + self.mz.nbytes)
        data = np.array(value, f"<f{size}").tobytes()
        self.patch(start + (spectrum * POINTS + point) * size, data)
        self.stamp()

    def stamp(self) -> None:
        """States the SHA-1 that the .ibd has."""
        digest = hashlib.sha1(self.ibd.read_bytes()).hexdigest()
        self.write(SHA1.sub(rf"\g<1>{digest}", self.text))

    def pack(self, change=lambda packed: packed) -> None:
        """Packs all arrays with zlib; `change` may spoil the first one's bytes."""
        self.edit('accession="MS:1000576" name="no compression"', ZLIB, -1)
        raw, places = bytearray(self.identity.bytes), []
        for spectrum in range(SPECTRA):
            for values in (self.mz[spectrum], self.intensity[spectrum]):
                packed = zlib.compress(values.tobytes())
                packed = packed if places else change(packed)
                places.append((len(raw), len(packed)))
                raw += packed
        self.ibd.write_bytes(raw)
        for number, (offset, size) in enumerate(places):
            self.value("external offset", str(offset), number)
            self.value("external encoded length", str(size), number)
        self.stamp()


ZLIB = 'accession="MS:1000574" name="zlib compression"'


SIZE = 16 + 6 * 12 * 12  # bytes of the .ibd
X, Y = "position x", "position y"
OFFSET, LENGTH, ENCODED = "external offset", "external array length", "external encoded length"
CUT = "(the .ibd is cut off or belongs to another imzML)"
DAMAGE = "(a finite number, not negative, was expected; the file is damaged or mislabelled)"
DOCTYPE = (
    "{path}: DOCTYPE: has a DOCTYPE declaration, which imzML does not use and which can harm "
    "(delete the declaration if you trust the file)"
)
FIRST = "{path}: spectrum 1 (x 1, y 1): "
RUN = "<run id="


def read(path):
    """Reads all there is, and compares the checksum last."""
    file = open_imzml(path)
    file.tic()
    for index in range(file.n):
        file.spectrum(index)
    assert file.mz_range
    file.verify_checksum()
    return file


def refused(pair, change, message):
    """Spoils a pair, reads it, and compares the message, in which facts of the pair may stand."""
    facts = {"path": pair.path, "ibd": pair.ibd, "before": pair.mz[5, 10]}
    facts |= {"sha1": hashlib.sha1(pair.ibd.read_bytes()).hexdigest()}
    facts |= {"packed": len(zlib.compress(pair.mz[0].tobytes()))}
    change(pair)
    raw = pair.ibd.read_bytes() if pair.ibd.exists() else b""
    facts |= {"found": hashlib.sha1(raw).hexdigest(), "sha256": hashlib.sha256(raw).hexdigest()}
    text = pair.path.read_bytes()
    facts |= {"end": len(text), "last": text.rfind(b"<"), "entity": 0}
    facts["entity"] = text.rfind(b"<", 0, max(0, text.find(b"&size;")))
    with pytest.raises(InputError) as caught:
        read(pair.path)
    assert str(caught.value) == message.format(**facts)
    assert "\n" not in str(caught.value)


def xml(old, new, count=1):
    return lambda pair: pair.edit(old, new, count)


def value(name, new, number=0):
    return lambda pair: pair.value(name, new, number)


def ibd(change):
    return lambda pair: pair.ibd.write_bytes(change(pair.ibd.read_bytes()))


def packed(change):
    return lambda pair: pair.pack(change)


def several(*changes):
    return lambda pair: [change(pair) for change in changes]


def point(*args):
    return lambda pair: pair.point(*args)
