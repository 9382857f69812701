"""Shared by all tests: compilation cache, real sample data, and the libraries of other tools."""

import importlib
import math
import os
import pathlib
import signal
import socket

os.environ.setdefault("JAX_PLATFORMS", "cpu")
REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("MSI2HE_CACHE", str(REPOSITORY / ".jax_cache"))

import jax  # noqa: E402  (the environment above must be set before)
import pytest  # noqa: E402

from msi2he_jax import progress  # noqa: E402

jax.config.update("jax_compilation_cache_dir", os.environ["MSI2HE_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
# An axis too few is broadcast in silence otherwise, along the wrong axis where sizes agree.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def sample_data() -> pathlib.Path:
    """The folder of real MSI and H&E; where it is absent, a test that needs it says so."""
    folder = pathlib.Path(
        os.environ.get("MSI2HE_SAMPLE_DATA", REPOSITORY.parent / "shared" / "data")
    )
    if not folder.is_dir():
        pytest.skip("real sample data absent: set MSI2HE_SAMPLE_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def real_library():
    """Imports another tool's library; absent, a test skips, or fails under MSI2HE_INTEROP."""
    if os.environ.get("MSI2HE_INTEROP"):
        return importlib.import_module
    reason = "{} is not installed here: make test-interop runs this test"
    return lambda name: pytest.importorskip(name, reason=reason.format(name))


@pytest.fixture(scope="session", autouse=True)
def no_progress():
    """Lets no verb say how far it is: on a slow computer it would, between lines tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "SILENT_S", math.inf)
        yield


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


@pytest.fixture(scope="session")
def make_provenance():
    """Makes the least that a provenance.json must hold: make_provenance(channels)."""

    def make(channels: int) -> dict:
        mz = [100.0 + n for n in range(channels)]
        return {
            "format": "msi2he_jax pairs 1",
            "axis": {"kind": "ppm", "step": 1e4, "bins": 141, "mz_min": 100.0, "mz_max": 400.0},
            "peaks": {name: list(mz) for name in ("mz", "lower", "upper", "height")},
            "rebin": {"method": None, "gap_tol_da": None, "window": "bounds"},
            "normalization": "none",
            "scaling": {"transform": "sqrt", "scale": [1.0 / (n + 1) for n in range(channels)]},
            "grid": {"fit_px": 0, "target_um_per_px": 50.0},
            "pad_value": 255,
            "counts": {"train": 0, "validation": 0, "test": 0},
            "shards": {},
        }

    return make


@pytest.fixture
def heeding_hangup():
    """SIGHUP acts as usual: under nohup it is ignored, by all that the suite starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
