"""Using a trained generator: loading it, and applying it to images of any size."""
