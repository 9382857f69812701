"""Shared by all tests: a compilation cache, and the folder of real sample data, if any."""

import os
import pathlib
import socket

os.environ.setdefault("JAX_PLATFORMS", "cpu")
REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("MSI2HE_CACHE", str(REPOSITORY / ".jax_cache"))

import jax  # noqa: E402  (the environment above must be set before)
import pytest  # noqa: E402

jax.config.update("jax_compilation_cache_dir", os.environ["MSI2HE_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(scope="session")
def sample_data() -> pathlib.Path:
    """The folder of real MSI and H&E; where it is absent, a test that needs it says so."""
    folder = pathlib.Path(
        os.environ.get("MSI2HE_SAMPLE_DATA", REPOSITORY.parent / "shared" / "data")
    )
    if not folder.is_dir():
        pytest.skip("real sample data absent: set MSI2HE_SAMPLE_DATA to its folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Refuses connections to other computers while tests run: nothing here needs them."""

    def refusing(real):
        def connect(self, address):
            here = self.family not in (socket.AF_INET, socket.AF_INET6)
            if here or address[0] in ("localhost", "::1") or address[0].startswith("127."):
                return real(self, address)
            raise AssertionError(f"a test would connect to {address}")

        return connect

    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, refusing(getattr(socket.socket, name)))
    yield
    patch.undo()
