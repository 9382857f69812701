"""Writing for other software: OME-TIFF that QuPath, napari and Fiji open at the right size."""
