"""Communication between devices in a compiled program, read from its text."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# Asynchronous operations are pairs of start and done. The shape of a done is that of the received array; the shape of
# a start also contains the array that is sent, so starts are not counted.
_OPERATION = re.compile(rf"=\s+(?P<shape>\(.*?\)|\S+)\s+(?P<kind>{'|'.join(_KINDS)})(-done)?\(", re.M)
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z\d]*)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One kind of communication in a program.

    Attributes:
      operations: Number of operations.
      bytes: Total size of their results on one device, bytes.
    """

    operations: int
    bytes: int


def read_collectives(text: str) -> dict[str, Collective]:
    """Return the communication in a program by kind. Each operation counts once, even in a branch that is rarely taken.

    Args:
      text: HLO after partitioning, from `compiled.as_text()`.
    """
    collectives: dict[str, Collective] = {}
    lines = (line for line in text.splitlines() if any(kind in line for kind in _KINDS))
    for match in _OPERATION.finditer("\n".join(without_layouts(lines))):
        old = collectives.get(match["kind"], Collective(0, 0))
        collectives[match["kind"]] = Collective(old.operations + 1, old.bytes + shape_bytes(match["shape"]))
    return collectives


def shape_bytes(shape: str) -> int:
    """Return the size in bytes of an HLO shape such as `f32[8,16]` or `(bf16[4], u32[])`, without padding."""
    return sum(
        -(-math.prod(int(side) for side in sides.split(",") if side) * _bits(kind) // 8)
        for kind, sides in _ARRAY.findall(shape)
    )


def traffic(collectives: dict[str, Collective], parts: int) -> int:
    """Return the bytes that a device sends if every operation runs along a ring of all devices.

    Args:
      collectives: Communication by kind, from `read_collectives`.
      parts: Number of devices.
    """
    # An all-reduce is a reduce-scatter and an all-gather. The result of a reduce-scatter is 1/parts of its input.
    factor = {"all-reduce": 2 * (parts - 1) / parts, "reduce-scatter": parts - 1, "collective-permute": 1}
    return round(sum(each.bytes * factor.get(kind, (parts - 1) / parts) for kind, each in collectives.items()))


def without_layouts(lines: Iterable[str]) -> Iterator[str]:
    """Remove layouts such as `{2,1,0:T(8,128)S(1)}` and comments that number tuple elements from lines of HLO."""
    for line in lines:
        yield re.sub(r"/\*.*?\*/", "", re.sub(r"\]\{[^}]*\}", "]", line))


def _bits(kind: str) -> int:
    if kind in ("pred", "token", "opaque"):
        return 8 if kind == "pred" else 0
    match = re.match(r"[a-z]+(\d+)", kind)
    return int(match[1]) if match else 0
