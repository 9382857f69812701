"""What moves: pictures of the MSI, and who makes them."""

import pytest

from msi2he_jax.coregistration import synthetic_moving
from msi2he_jax.errors import InputError


def test_only_a_generator_is_sampled():
    with pytest.raises(InputError, match="--dropout_samples: goes with --moving=synthetic, not pc"):
        synthetic_moving.moving_image("pca", None, samples=4)
