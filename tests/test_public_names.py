"""The public names exist, say what they do, and cost nothing before they are used."""

import inspect

import pytest

import msi2he_jax


@pytest.mark.parametrize("name", msi2he_jax.__all__)
def test_public_name(name):
    value = getattr(msi2he_jax, name)
    assert inspect.getdoc(value)
    assert value.__name__ == name
    assert value.__module__.startswith("msi2he_jax.")


def test_all_are_listed():
    assert set(msi2he_jax.__all__) <= set(dir(msi2he_jax))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'open_imzlm'"):
        _ = msi2he_jax.open_imzlm
