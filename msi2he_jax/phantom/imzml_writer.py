"""Writes imzML in processed storage, byte for byte the same from the same spectra.

Also writes what a reader needs and pyimzML's writer leaves out: pixel size and polarity.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

import numpy as np

from msi2he_jax.phantom.spectra import Spectra

_DTYPES = {"float32": ("MS:1000521", "32-bit float"), "float64": ("MS:1000523", "64-bit float")}
_KINDS = {
    "centroid": ("MS:1000127", "centroid spectrum"),
    "profile": ("MS:1000128", "profile spectrum"),
}
_POLARITIES = {
    "negative": ("MS:1000129", "negative scan"),
    "positive": ("MS:1000130", "positive scan"),
}

_HEAD = """\
<?xml version="1.0" encoding="ISO-8859-1"?>
<mzML xmlns="http://psi.hupo.org/ms/mzml" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://psi.hupo.org/ms/mzml \
http://psidev.info/files/ms/mzML/xsd/mzML1.1.0_idx.xsd" version="1.1">
  <cvList count="3">
    <cv id="MS" fullName="Proteomics Standards Initiative Mass Spectrometry Ontology" \
version="4.1.0" URI="https://raw.githubusercontent.com/HUPO-PSI/psi-ms-CV/master/psi-ms.obo"/>
    <cv id="UO" fullName="Unit Ontology" version="09:04:2014" \
URI="http://purl.obolibrary.org/obo/uo.obo"/>
    <cv id="IMS" fullName="Mass Spectrometry Imaging Ontology" version="1.1.0" \
URI="https://raw.githubusercontent.com/imzML/imzML/master/imagingMS.obo"/>
  </cvList>
  <fileDescription>
    <fileContent>
      <cvParam cvRef="MS" accession="MS:1000579" name="MS1 spectrum" value=""/>
      {kind}
      <cvParam cvRef="IMS" accession="IMS:1000031" name="processed" value=""/>
      <cvParam cvRef="IMS" accession="IMS:1000080" name="universally unique identifier" \
value="{{{uuid}}}"/>
      <cvParam cvRef="IMS" accession="IMS:1000091" name="ibd SHA-1" value="{sha1}"/>
    </fileContent>
  </fileDescription>
  <referenceableParamGroupList count="3">
    <referenceableParamGroup id="mzArray">
      <cvParam cvRef="MS" accession="MS:1000576" name="no compression" value=""/>
      <cvParam cvRef="MS" accession="MS:1000514" name="m/z array" value="" unitCvRef="MS" \
unitAccession="MS:1000040" unitName="m/z"/>
      {mz_type}
      <cvParam cvRef="IMS" accession="IMS:1000101" name="external data" value="true"/>
    </referenceableParamGroup>
    <referenceableParamGroup id="intensityArray">
      <cvParam cvRef="MS" accession="MS:1000576" name="no compression" value=""/>
      <cvParam cvRef="MS" accession="MS:1000515" name="intensity array" value="" unitCvRef="MS" \
unitAccession="MS:1000131" unitName="number of detector counts"/>
      {intensity_type}
      <cvParam cvRef="IMS" accession="IMS:1000101" name="external data" value="true"/>
    </referenceableParamGroup>
    <referenceableParamGroup id="spectrum">
      <cvParam cvRef="MS" accession="MS:1000579" name="MS1 spectrum" value=""/>
      <cvParam cvRef="MS" accession="MS:1000511" name="ms level" value="1"/>
      {kind}
      {polarity}
    </referenceableParamGroup>
  </referenceableParamGroupList>
  <softwareList count="1">
    <software id="msi2he_jax" version="{version}">
      <cvParam cvRef="MS" accession="MS:1000799" name="custom unreleased software tool" \
value="msi2he_jax.simulate"/>
    </software>
  </softwareList>
  <scanSettingsList count="1">
    <scanSettings id="scanSettings1">
      <cvParam cvRef="IMS" accession="IMS:1000401" name="top down" value=""/>
      <cvParam cvRef="IMS" accession="IMS:1000411" name="one way" value=""/>
      <cvParam cvRef="IMS" accession="IMS:1000480" name="horizontal line scan" value=""/>
      <cvParam cvRef="IMS" accession="IMS:1000491" name="linescan left right" value=""/>
      <cvParam cvRef="IMS" accession="IMS:1000042" name="max count of pixels x" value="{max_x}"/>
      <cvParam cvRef="IMS" accession="IMS:1000043" name="max count of pixels y" value="{max_y}"/>
      <cvParam cvRef="IMS" accession="IMS:1000046" name="pixel size (x)" value="{um_x:g}" \
unitCvRef="UO" unitAccession="UO:0000017" unitName="micrometer"/>
      <cvParam cvRef="IMS" accession="IMS:1000047" name="pixel size y" value="{um_y:g}" \
unitCvRef="UO" unitAccession="UO:0000017" unitName="micrometer"/>
    </scanSettings>
  </scanSettingsList>
  <instrumentConfigurationList count="1">
    <instrumentConfiguration id="simulated"/>
  </instrumentConfigurationList>
  <dataProcessingList count="1">
    <dataProcessing id="simulation">
      <processingMethod order="0" softwareRef="msi2he_jax">
        <cvParam cvRef="MS" accession="MS:1000530" name="file format conversion" value=""/>
        <userParam name="simulated" value="true"/>
      </processingMethod>
    </dataProcessing>
  </dataProcessingList>
  <run id="{run}" defaultInstrumentConfigurationRef="simulated">
    <spectrumList count="{count}" defaultDataProcessingRef="simulation">
"""
_SPECTRUM = """\
      <spectrum id="scan={number}" index="{index}" defaultArrayLength="0">
        <referenceableParamGroupRef ref="spectrum"/>
        <cvParam cvRef="MS" accession="MS:1000285" name="total ion current" value="{tic:.6g}"/>
        <scanList count="1">
          <cvParam cvRef="MS" accession="MS:1000795" name="no combination" value=""/>
          <scan>
            <cvParam cvRef="IMS" accession="IMS:1000050" name="position x" value="{x}"/>
            <cvParam cvRef="IMS" accession="IMS:1000051" name="position y" value="{y}"/>
          </scan>
        </scanList>
        <binaryDataArrayList count="2">
          {mz}
          {intensity}
        </binaryDataArrayList>
      </spectrum>
"""
_ARRAY = """\
<binaryDataArray encodedLength="0">
            <referenceableParamGroupRef ref="{group}"/>
            <cvParam cvRef="IMS" accession="IMS:1000103" name="external array length" \
value="{length}"/>
            <cvParam cvRef="IMS" accession="IMS:1000102" name="external offset" value="{offset}"/>
            <cvParam cvRef="IMS" accession="IMS:1000104" name="external encoded length" \
value="{encoded}"/>
            <binary/>
          </binaryDataArray>"""
_TAIL = "    </spectrumList>\n  </run>\n</mzML>\n"


def write_imzml(
    path: str | os.PathLike,
    spectra: Spectra,
    positions_xy: np.ndarray,
    *,
    kind: str,
    polarity: str,
    um_yx: tuple[float, float],
    identifier: uuid.UUID,
    version: str,
) -> None:
    """Writes PATH and the .ibd beside it.

    Args:
        path: The .imzML file.
        spectra: P spectra.
        positions_xy: `[P, 2]` int, 1-based (x, y) of each spectrum.
        kind: `profile` or `centroid`.
        polarity: `negative` or `positive`.
        um_yx: Pixel size (y, x), um.
        identifier: Names the pair of files in both of them.
        version: Of this software.
    """
    path = Path(path)
    mz = spectra.mz.astype(spectra.mz.dtype.newbyteorder("<"))
    intensity = spectra.intensity.astype("<f4")
    binary = identifier.bytes + mz.tobytes() + intensity.tobytes()
    path.with_suffix(".ibd").write_bytes(binary)
    head = _HEAD.format(
        kind=_cv(*_KINDS[kind]),
        polarity=_cv(*_POLARITIES[polarity]),
        uuid=str(identifier).upper(),
        sha1=hashlib.sha1(binary, usedforsecurity=False).hexdigest().upper(),
        mz_type=_cv(*_DTYPES[spectra.mz.dtype.name]),
        intensity_type=_cv(*_DTYPES["float32"]),
        version=version,
        max_x=positions_xy[:, 0].max(),
        max_y=positions_xy[:, 1].max(),
        um_x=um_yx[1],
        um_y=um_yx[0],
        run=path.stem,
        count=len(spectra.counts),
    )
    body = _spectrum_elements(spectra, positions_xy, mz.itemsize)
    path.write_text(head + "".join(body) + _TAIL, encoding="latin-1")


def _cv(accession: str, name: str) -> str:
    return f'<cvParam cvRef="MS" accession="{accession}" name="{name}" value=""/>'


def _spectrum_elements(spectra: Spectra, positions_xy: np.ndarray, mz_bytes: int) -> list[str]:
    """One element per spectrum; all m/z lie before all intensities in the .ibd."""
    first = np.concatenate([[0], np.cumsum(spectra.counts)[:-1]])
    tic = np.add.reduceat(spectra.intensity.astype(np.float64), first)
    mz_start = 16
    intensity_start = mz_start + mz_bytes * len(spectra.mz)
    elements = []
    for index, (x, y) in enumerate(positions_xy.tolist()):
        start, length = int(first[index]), int(spectra.counts[index])
        mz = _array("mzArray", length, mz_start, start, mz_bytes)
        intensity = _array("intensityArray", length, intensity_start, start, 4)
        values = {"number": index + 1, "index": index, "tic": tic[index], "x": x, "y": y}
        elements.append(_SPECTRUM.format(mz=mz, intensity=intensity, **values))
    return elements


def _array(group: str, length: int, base: int, start: int, size: int) -> str:
    offset, encoded = base + start * size, length * size
    return _ARRAY.format(group=group, length=length, offset=offset, encoded=encoded)
