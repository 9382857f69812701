"""Which files of this package decide what a module computes: its own, and all that it imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path


def digest_of_sources(package: Path, modules: Sequence[str]) -> str:
    """Returns the SHA-256 of the names and contents of `source_files`.

    Args:
        package: As for `source_files`.
        modules: As for `source_files`.
    """
    digest = hashlib.sha256()
    for path in source_files(package, modules):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def source_files(package: Path, modules: Sequence[str]) -> list[Path]:
    """Returns the files of modules and of all they import from the package, in turn.

    Imports inside functions count. The package's own `__init__.py` does not: it computes nothing.

    Args:
        package: Folder of the package.
        modules: Names within the package, such as `data.cohort`.

    Returns:
        Sorted paths.
    """
    found: set[Path] = set()
    todo = [path for name in modules for path in _files(package, name)]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += [
                each for name in _imports(path, package.name) for each in _files(package, name)
            ]
    return sorted(found)


def _imports(path: Path, package: str) -> Iterator[str]:
    """Names within the package that a file imports: modules, or what stands in them."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.partition(".")[2] for name in names if name.startswith(f"{package}."))


def _files(package: Path, name: str) -> Iterator[Path]:
    """The files that importing a name runs: of its parent packages, and of its module."""
    place = package
    for part in name.split("."):
        place = place / part
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                yield path
