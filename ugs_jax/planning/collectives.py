"""What a compiled program sends between devices, read from its text."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# Of a pair of start and done, the done has the shape of what arrives: the start also has that of what is sent.
_OPERATION = re.compile(rf"=\s+(?P<shape>\(.*?\)|\S+)\s+(?P<kind>{'|'.join(_KINDS)})(-done)?\(", re.M)
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z\d]*)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One kind of communication in a program.

    Attributes:
      operations: how many.
      bytes: of what they result in on one device, together.
    """

    operations: int
    bytes: int


def read_collectives(text: str) -> dict[str, Collective]:
    """The communication in a program, by kind; each operation once, also in a branch that is seldom taken.

    Args:
      text: HLO after partitioning, from `compiled.as_text()`.
    """
    found: dict[str, Collective] = {}
    lines = (line for line in text.splitlines() if any(kind in line for kind in _KINDS))
    for match in _OPERATION.finditer("\n".join(without_layouts(lines))):
        old = found.get(match["kind"], Collective(0, 0))
        found[match["kind"]] = Collective(old.operations + 1, old.bytes + shape_bytes(match["shape"]))
    return found


def shape_bytes(shape: str) -> int:
    """Bytes of an HLO shape such as `f32[8,16]` or `(bf16[4], u32[])`, without padding."""
    return sum(
        -(-math.prod(int(side) for side in sides.split(",") if side) * _bits(kind) // 8)
        for kind, sides in _ARRAY.findall(shape)
    )


def traffic(collectives: dict[str, Collective], parts: int) -> int:
    """Bytes that a device sends if every operation runs along a ring of all devices.

    Args:
      collectives: from `read_collectives`.
      parts: devices.
    """
    # An all-reduce is a reduce-scatter and an all-gather; what a reduce-scatter results in is 1/parts of what it sends.
    factor = {"all-reduce": 2 * (parts - 1) / parts, "reduce-scatter": parts - 1, "collective-permute": 1}
    return round(sum(found.bytes * factor.get(kind, (parts - 1) / parts) for kind, found in collectives.items()))


def without_layouts(lines: Iterable[str]) -> Iterator[str]:
    """Lines of HLO without layouts, `{2,1,0:T(8,128)S(1)}`, and without the comments that number members of tuples."""
    for line in lines:
        yield re.sub(r"/\*.*?\*/", "", re.sub(r"\]\{[^}]*\}", "]", line))


def _bits(kind: str) -> int:
    if kind in ("pred", "token", "opaque"):
        return 8 if kind == "pred" else 0
    match = re.match(r"[a-z]+(\d+)", kind)
    return int(match[1]) if match else 0
