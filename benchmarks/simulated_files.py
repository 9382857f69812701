"""Large simulated imzML pairs, written stream by stream, so that they may exceed the memory."""

from __future__ import annotations

import hashlib
import pathlib
import uuid

import numpy as np

_BATCH = 2_000
_CANDIDATES = 2  # Peaks that exist, per peak that a spectrum shows.
_JITTER = 2e-6
_HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<mzML xmlns="http://psi.hupo.org/ms/mzml" version="1.1">
  <fileDescription>
    <fileContent>
      <cvParam cvRef="MS" accession="MS:1000127" name="centroid spectrum" value=""/>
      <cvParam cvRef="IMS" accession="IMS:1000031" name="processed" value=""/>
      <cvParam cvRef="IMS" accession="IMS:1000080" name="universally unique identifier" \
value="{{{identity}}}"/>
      <cvParam cvRef="IMS" accession="IMS:1000091" name="ibd SHA-1" value="{sha1}"/>
    </fileContent>
  </fileDescription>
  <referenceableParamGroupList count="3">
    <referenceableParamGroup id="mzArray">
      <cvParam cvRef="MS" accession="MS:1000514" name="m/z array" value=""/>
      <cvParam cvRef="MS" accession="MS:1000521" name="32-bit float" value=""/>
      <cvParam cvRef="MS" accession="MS:1000576" name="no compression" value=""/>
    </referenceableParamGroup>
    <referenceableParamGroup id="intensityArray">
      <cvParam cvRef="MS" accession="MS:1000515" name="intensity array" value=""/>
      <cvParam cvRef="MS" accession="MS:1000521" name="32-bit float" value=""/>
      <cvParam cvRef="MS" accession="MS:1000576" name="no compression" value=""/>
    </referenceableParamGroup>
    <referenceableParamGroup id="spectrum1">
      <cvParam cvRef="MS" accession="MS:1000127" name="centroid spectrum" value=""/>
      <cvParam cvRef="MS" accession="MS:1000129" name="negative scan" value=""/>
    </referenceableParamGroup>
  </referenceableParamGroupList>
  <scanSettingsList count="1">
    <scanSettings id="scanSettings1">
      <cvParam cvRef="IMS" accession="IMS:1000046" name="pixel size (x)" value="50" \
unitCvRef="UO" unitAccession="UO:0000017" unitName="micrometer"/>
    </scanSettings>
  </scanSettingsList>
  <run id="simulated">
    <spectrumList count="{count}">
"""
_SPECTRUM = """\
      <spectrum defaultArrayLength="0" id="spectrum=%(number)d" index="%(number)d">
        <referenceableParamGroupRef ref="spectrum1"/>
        <cvParam cvRef="MS" accession="MS:1000528" name="lowest observed m/z" \
value="%(low)r" unitCvRef="MS" unitAccession="MS:1000040" unitName="m/z"/>
        <cvParam cvRef="MS" accession="MS:1000527" name="highest observed m/z" \
value="%(high)r" unitCvRef="MS" unitAccession="MS:1000040" unitName="m/z"/>
        <cvParam cvRef="MS" accession="MS:1000285" name="total ion current" value="%(total)r"/>
        <scanList count="1">
          <cvParam accession="MS:1000795" cvRef="MS" name="no combination"/>
          <scan instrumentConfigurationRef="instrumentConfiguration0">
            <cvParam accession="IMS:1000050" cvRef="IMS" name="position x" value="%(x)d"/>
            <cvParam accession="IMS:1000051" cvRef="IMS" name="position y" value="%(y)d"/>
          </scan>
        </scanList>
        <binaryDataArrayList count="2">
          <binaryDataArray encodedLength="0">
            <referenceableParamGroupRef ref="mzArray"/>
            <cvParam accession="IMS:1000103" cvRef="IMS" name="external array length" \
value="%(points)d"/>
            <cvParam accession="IMS:1000104" cvRef="IMS" name="external encoded length" \
value="%(bytes)d"/>
            <cvParam accession="IMS:1000102" cvRef="IMS" name="external offset" value="%(mz)d"/>
            <binary/>
          </binaryDataArray>
          <binaryDataArray encodedLength="0">
            <referenceableParamGroupRef ref="intensityArray"/>
            <cvParam accession="IMS:1000103" cvRef="IMS" name="external array length" \
value="%(points)d"/>
            <cvParam accession="IMS:1000104" cvRef="IMS" name="external encoded length" \
value="%(bytes)d"/>
            <cvParam accession="IMS:1000102" cvRef="IMS" name="external offset" \
value="%(intensity)d"/>
            <binary/>
          </binaryDataArray>
        </binaryDataArrayList>
      </spectrum>
"""
_TAIL = "    </spectrumList>\n  </run>\n</mzML>\n"


def write_processed(path: pathlib.Path, count: int, points: int, seed: int = 0) -> None:
    """Writes centroid spectra of float32 m/z and intensities, and their SHA-1.

    Args:
        path: The .imzML file; its .ibd goes beside it.
        count: How many spectra, laid on a grid of 1,000 columns at most.
        points: Peaks of each spectrum, drawn from twice as many true m/z, 2 ppm off them.
        seed: Of everything random.
    """
    random, identity = np.random.default_rng(seed), uuid.UUID(int=seed + 1)
    width = min(1000, max(1, int(count**0.5)))
    true = np.sort(random.choice(np.arange(150, 1150), _CANDIDATES * points, replace=False))
    true = true + random.uniform(0, 0.8, len(true))
    body, digest = path.with_suffix(".body"), hashlib.sha1(identity.bytes)
    with open(body, "w") as text, open(path.with_suffix(".ibd"), "wb") as binary:
        binary.write(identity.bytes)
        for first in range(0, count, _BATCH):
            block = _block(random, true, points, min(_BATCH, count - first))
            raw = block.tobytes()
            binary.write(raw)
            digest.update(raw)
            text.write(_elements(block, first, width))
    _join(path, body, _HEAD.format(identity=identity, sha1=digest.hexdigest(), count=count))


def _block(random: np.random.Generator, true: np.ndarray, points: int, count: int) -> np.ndarray:
    """Returns `count` spectra, float32 [count, 2, points]: m/z, then intensities."""
    shown = np.sort(random.permutation(len(true))[:points])
    block = np.empty((count, 2, points), np.float32)
    block[:, 0] = true[shown] * (1 + _JITTER * random.standard_normal((count, points)))
    block[:, 1] = 100 * random.standard_exponential((count, points), np.float32)
    block[:, 1] *= 1 + (shown % 7) ** 2
    return block


def _elements(block: np.ndarray, first: int, width: int) -> str:
    count, _, points = block.shape
    size = 4 * points
    ends = zip(*(block[:, 0, i].tolist() for i in (0, -1)), block[:, 1].sum(1).tolist())
    common = {"points": points, "bytes": size}
    rows = []
    for number, (low, high, total) in zip(range(first, first + count), ends, strict=True):
        place = {"x": number % width + 1, "y": number // width + 1, "mz": 16 + 2 * size * number}
        place |= {"intensity": place["mz"] + size, "number": number}
        rows.append(_SPECTRUM % (common | place | {"low": low, "high": high, "total": total}))
    return "".join(rows)


def _join(path: pathlib.Path, body: pathlib.Path, head: str) -> None:
    """Puts head, body and tail together; the SHA-1 in the head is known last."""
    with open(path, "w") as text, open(body) as source:
        text.write(head)
        while part := source.read(1 << 24):
            text.write(part)
        text.write(_TAIL)
    body.unlink()
