"""Lists the operations of a StableHLO program; a process of its own, as `python -I` of this file.

MLIR's reader was not made for programs from elsewhere: some damage ends the process that reads it.
Standard input: a portable artifact. Standard output: a line per kind of operation, of a custom call
with what it calls. Whatever MLIR says of damage is on standard error.
"""

from __future__ import annotations

import sys

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo


def operations(serialized: bytes) -> set[str]:
    """Returns the names of all operations, such as `stablehlo.add`.

    Args:
        serialized: A portable artifact of StableHLO.
    """
    found = set()

    def look(operation: ir.Operation) -> ir.WalkResult:
        target = operation.attributes["call_target_name"] if "custom_call" in operation.name else ""
        found.add(f"{operation.name} {target}".strip())
        return ir.WalkResult.ADVANCE

    with ir.Context() as context:
        stablehlo.register_dialect(context)
        stablehlo.deserialize_portable_artifact(context, serialized).operation.walk(look)
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(sorted(operations(sys.stdin.buffer.read()))))
