"""Synthetic H&E from mass spectrometry imaging, and the registration it makes possible."""

__version__ = "0.1.0"
