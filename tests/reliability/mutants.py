"""Mutants of input files: each is refused by InputError, or read, in a second of processor time.

What is read although something was changed is counted, and one thing is never allowed: to accept
an .ibd whose bytes are not those that its imzML states (SHA-1).
"""

from __future__ import annotations

import collections
import dataclasses
import io
import pathlib
import random
import re
import sys
import time
import uuid
import warnings
from collections.abc import Callable

NUMBERS = (b"-1", b"0", b"1e9", b"NaN", b"inf", b"", b"2147483648", b"4294967296", b"1e400", b"0x1")
NUMBERS += (b"9223372036854775808", b"-0.0", b"1,5", b"\xc2\xb2", b"1_0", b"00012")
TOKENS = (b"<", b">", b"&", b'"', b",", b";", b"\n", b"\x00", b"\xff\xfe", b"{", b"]]>", b"\t")
LIMIT_S = 1.0


@dataclasses.dataclass(frozen=True)
class Subject:
    """A kind of file that is mutated.

    Attributes:
        files: Content by name of what lies in the folder.
        read: Reads the folder and returns something comparable.
        share: How often it is chosen, compared with the others.
    """

    files: dict[str, bytes]
    read: Callable[[pathlib.Path], object]
    share: int = 1


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Returns `data` changed in one or two places."""
    for _ in range(rng.choice((1, 1, 1, 2))):
        data = rng.choice((_number, _number, _cut, _repeat, _delete, _noise, _token))(data, rng)
    return data


def _number(data, rng):
    found = list(re.finditer(rb"\d+(\.\d+)?", data[:20_000]))
    if not found:
        return _noise(data, rng)
    place = rng.choice(found)
    return data[: place.start()] + rng.choice(NUMBERS) + data[place.end() :]


def _cut(data, rng):
    return data[: rng.randrange(len(data) + 1)]


def _span(data, rng):
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 4, 16, 100, 1000)))


def _repeat(data, rng):
    start, end = _span(data, rng)
    return data[:end] + data[start:end] + data[end:]


def _delete(data, rng):
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _noise(data, rng):
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3))):
        if changed:
            place = rng.randrange(min(len(changed), rng.choice((64, 10**6))))
            changed[place] = rng.randrange(256)
    return bytes(changed)


def _token(data, rng):
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(TOKENS) + data[place:]


def subjects(folder: pathlib.Path) -> dict[str, Subject]:
    """Writes one small file of each kind and returns what was written."""
    return {**_imzml(folder), **_tables(folder), **_images()}


def _imzml(folder: pathlib.Path) -> dict[str, Subject]:
    import numpy as np

    from msi2he_jax.msi.imzml import open_imzml
    from msi2he_jax.phantom.imzml_writer import write_imzml
    from msi2he_jax.phantom.spectra import Spectra

    rng, count, points = np.random.default_rng(0), 6, 12
    spectra = Spectra(
        mz=np.sort(rng.uniform(100, 200, (count, points)), axis=1).ravel(),
        intensity=rng.gamma(1, 100, count * points),
        counts=np.full(count, points),
    )
    path = folder / "a.imzML"
    options = {"kind": "centroid", "polarity": "negative", "um_yx": (50.0, 50.0)}
    options |= {"identifier": uuid.UUID(int=7), "version": "0"}
    positions = np.array([(x, y) for y in (1, 2, 3) for x in (1, 2)])
    write_imzml(path, spectra, positions, **options)

    def read(place: pathlib.Path) -> object:
        imzml = open_imzml(place / "a.imzML")
        checked = imzml.verify_checksum()
        mz, intensity = zip(*(imzml.spectrum(i) for i in range(imzml.n)), strict=True)
        content = (np.concatenate(mz).tobytes(), np.concatenate(intensity).tobytes())
        imzml.tic()
        return checked, imzml.shape, imzml.pixel_size_um, imzml.coordinates.tobytes(), content

    files = {name: (folder / name).read_bytes() for name in ("a.imzML", "a.ibd")}
    return {"imzML": Subject(files, read, share=5)}


def _tables(folder: pathlib.Path) -> dict[str, Subject]:
    from msi2he_jax.data.manifest import read_manifest
    from msi2he_jax.data.split import assign_splits
    from msi2he_jax.registration.landmarks import read_landmarks

    marks = "name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um\n" + "".join(
        f"p{i},{'fit' if i < 4 else 'eval'},{i * 37.5},{i * i * 20},{i * 36.25},{i * i * 21}\n"
        for i in range(6)
    )
    region = b'{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[1,2],[9,2],[9,8]]]}}'
    rows = "sample_id,group_id,imzml,histology,histology_um_per_px,histology_roi,landmarks,split\n"
    rows += 'a,p1,x.imzML,x.png,0.5,"0,0,96,96",l.csv,train\nb,p2,y.imzML,x.png,0.5,r.json,l.csv,\n'
    others = {name: b"x" for name in ("x.imzML", "y.imzML", "x.png")}

    def landmarks(place: pathlib.Path) -> object:
        found = read_landmarks(place / "l.csv")
        places = found.msi_yx_um.tobytes(), found.histology_yx_um.tobytes()
        return found.name.tolist(), found.use.tolist(), places

    def manifest(place: pathlib.Path) -> object:
        samples = read_manifest(place / "m.csv")
        return samples, assign_splits(samples)

    files = {"l.csv": marks.encode(), "m.csv": rows.encode(), "r.json": region, **others}
    return {
        "landmarks": Subject({"l.csv": files["l.csv"]}, landmarks, share=2),
        "manifest": Subject(files, manifest, share=2),
    }


def _images() -> dict[str, Subject]:
    import numpy as np
    import tifffile
    from PIL import Image

    from msi2he_jax.histology import read_histology

    pixels = np.random.default_rng(0).integers(0, 255, (24, 18, 3), np.uint8)

    def stored(**options) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, **options)
        return buffer.getvalue()

    def tiff(**options) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, photometric="rgb", **options)
        return buffer.getvalue()

    size = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    content = {
        "x.png": stored(format="PNG"),
        "x.jpg": stored(format="JPEG"),
        "x.tif": tiff(tile=(16, 16), compression="zlib"),
        "x.ome.tif": tiff(ome=True, metadata=size),
    }

    def reader(name: str) -> Callable:
        um = None if "ome" in name else 0.5
        return lambda place: read_histology(place / name, um).pixels.tobytes()

    return {name: Subject({name: data}, reader(name)) for name, data in content.items()}


def campaign(count: int, seed: int, folder: pathlib.Path) -> dict:
    """Reads `count` mutants; returns what became of them, and every fault found."""
    from msi2he_jax.errors import InputError

    warnings.simplefilter("ignore")
    rng, result = random.Random(seed), collections.Counter()
    known, faults, slowest = subjects(folder), [], 0.0
    for name, subject in known.items():
        _write(folder, subject.files)
        known[name] = (subject, subject.read(folder))
    names = [name for name, (subject, _) in known.items() for _ in range(subject.share)]
    for number in range(count):
        name = rng.choice(names)
        subject, truth = known[name]
        which = rng.choice(list(subject.files))
        files = subject.files | {which: mutate(subject.files[which], rng)}
        _write(folder, files)
        begin = time.process_time()
        try:
            found = subject.read(folder)
            what = "unchanged" if found == truth else "read otherwise"
            damaged = which == "a.ibd" and files[which] != subject.files[which]
            if damaged:
                what = "a damaged .ibd accepted"
        except InputError as error:
            what = "refused" if "\n" not in str(error) else "a message of several lines"
        except Exception as error:
            what = type(error).__name__
        took = time.process_time() - begin
        slowest, slow = max(slowest, took), took > LIMIT_S
        if what not in ("refused", "unchanged", "read otherwise") or slow:
            faults.append((number, name, which, "slow" if slow else what))
            _keep(folder, number, files)
        result[what] += 1
    return {"mutants": count, **result, "slowest_cpu_s": round(slowest, 3), "faults": faults}


def _write(folder: pathlib.Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _keep(folder: pathlib.Path, number: int, files: dict[str, bytes]) -> None:
    kept = folder.with_name(f"{folder.name}-faults") / str(number)
    kept.mkdir(parents=True, exist_ok=True)
    _write(kept, files)
    print(f"a fault: {kept}", file=sys.stderr)
