"""A small, right imzML pair, to be spoiled."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
pytest.register_assert_rewrite("imzml_pair")
from imzml_pair import Pair  # noqa: E402


@pytest.fixture
def good(tmp_path):
    """The right pair."""
    return Pair(tmp_path)
