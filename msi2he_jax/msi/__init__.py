"""Mass-spectrometry imaging: a validated imzML reader, spectra, ion images and their views."""
