"""Compares what is read of an imzML file with what pyimzML, which shares no code, reads of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from msi2he_jax.errors import InputError, one_line
from msi2he_jax.msi.imzml import Imzml


class NotReadByPyimzml(Exception):
    """pyimzML does not support the file; says why in one line."""


def compare_with_pyimzml(
    imzml: Imzml, on_spectra: Callable[[int, int], object] = lambda *_: None
) -> None:
    """Compares position, m/z and intensities of every spectrum that is used, without tolerance.

    Args:
        imzml: An open file.
        on_spectra: Called with how many spectra were compared, and of how many.

    Raises:
        InputError: names the first spectrum that differs, and where.
        NotReadByPyimzml: pyimzML cannot read the file.
    """
    if any("zlib" in form for form in imzml.number_types):
        raise NotReadByPyimzml("pyimzML reads no compressed arrays")
    with open(imzml.path, "rb") as xml, open(imzml.ibd_path, "rb") as ibd:
        parser = _call_pyimzml(_parser, xml, ibd)
        if len(parser.coordinates) != imzml.stored:
            why = f"{imzml.stored} are found, {len(parser.coordinates)} by pyimzML"
            raise InputError(imzml.path, "number of spectra", why)
        for block in imzml.packed():
            for index, ours in zip(block.indices.tolist(), block.spectra(), strict=True):
                _compare(imzml, index, ours, parser)
            on_spectra(int(block.indices[-1]) + 1, imzml.n)


def _parser(xml, ibd):
    from pyimzml.ImzMLParser import ImzMLParser

    return ImzMLParser(xml, ibd_file=ibd)


def _call_pyimzml(function: Callable, *args):
    """Calls a function of pyimzML; whatever it raises means that the file is not for it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args)
    except Exception as error:
        said = one_line(f"{type(error).__name__}: {error}")
        raise NotReadByPyimzml(f"pyimzML cannot read the file: {said}") from error


def _compare(imzml: Imzml, index: int, ours: tuple[np.ndarray, np.ndarray], parser) -> None:
    number = int(imzml.numbers[index])
    x, y, _ = parser.coordinates[number]
    row, column = imzml.coordinates[index]
    if (x, y) != (column + imzml.origin_px[0], row + imzml.origin_px[1]):
        raise InputError(imzml.path, imzml.where(index), f"pyimzML reads it at x {x}, y {y}")
    theirs = [np.asarray(a, np.float64) for a in _call_pyimzml(parser.getspectrum, number)]
    if imzml.by_mobility:  # The same points in another order.
        order = np.argsort(theirs[0], kind="stable")
        theirs = [each[order] for each in theirs]
    for name, a, b in zip(("m/z", "intensities"), ours, theirs, strict=True):
        if why := _difference(a, b):
            why = f"{name} differ from what pyimzML reads: {why}"
            raise InputError(imzml.path, imzml.where(index), why)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Says where two arrays [P] differ first, "" where they are equal."""
    if len(ours) != len(theirs):
        return f"{len(ours)} points, there {len(theirs)}"
    if np.array_equal(ours, theirs):
        return ""
    point = int(np.flatnonzero(ours != theirs)[0])
    return f"point {point + 1} is {ours[point]:.9g}, there {theirs[point]:.9g}"
