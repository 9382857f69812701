"""Using a trained generator: loading it, and applying it to images of any size."""

from msi2he_jax.inference.model import Model, load_model
from msi2he_jax.inference.tiled import synthesize_tiled, to_uint8

__all__ = ["Model", "load_model", "synthesize_tiled", "to_uint8"]
