"""The configurations that come with the package, found by name from any folder."""

from __future__ import annotations

import difflib
from pathlib import Path

from msi2he_jax.errors import InputError

_PACKAGE = Path(__file__).parents[1]


def shipped_configs() -> dict[str, Path]:
    """Return the file of each configuration that comes with the package, by name.

    An installed package holds them in its folder `configs`; in a checkout that folder stands beside
    the package.
    """
    inside = _PACKAGE / "configs"
    folder = inside if inside.is_dir() else _PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def find_config(path: Path) -> Path:
    """Return the file that `--config` names.

    Args:
        path: A file, which is returned as it is; or a shipped configuration's name, such as
            `pix2pix`, or its published path `configs/pix2pix.py`, where no such file exists here.

    Raises:
        InputError: a bare name that no shipped configuration has.
    """
    shipped = shipped_configs()
    published = path.parent == Path("configs") and path.suffix == ".py"
    if published and not path.exists():
        return shipped.get(path.stem, path)
    if path.suffix or len(path.parts) != 1 or path.exists():
        return path
    if path.name not in shipped:
        close = difflib.get_close_matches(path.name, shipped, n=1)
        hint = f"did you mean {close[0]}?" if close else f"shipped: {', '.join(shipped)}"
        raise InputError(path, "--config", "is no file and no shipped configuration", hint)
    return shipped[path.name]
