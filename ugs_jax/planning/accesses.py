"""Bytes that a compiled program reads and writes, counted in its text for compilers that do not report them."""

import re

from ugs_jax.planning.collectives import shape_bytes, without_layouts

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^ *(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
_CALLED = re.compile(r"(?:body|condition|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{(.*?)\}")
_CONTROL = ("while", "conditional", "call")
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", *_CONTROL)


def read_accesses(text: str) -> int:
    """Count the bytes of the operands and results of all operations.

    A fusion counts as one operation. Loop bodies and branches are counted once. As in XLA's own count, reads from a
    cache are included, and an array that is read or written in part counts in full.

    Args:
      text: HLO after optimization, from `compiled.as_text()`.
    """
    computations: dict[str, list[re.Match[str]]] = {}
    entry, current = "", ""
    for line in without_layouts(text.splitlines()):
        if begins := _COMPUTATION.match(line):
            current = begins[1]
            computations[current] = []
            entry = current if line.startswith("ENTRY") else entry
        elif instruction := _INSTRUCTION.match(line):
            computations[current].append(instruction)
    return _accesses(entry, computations)


def _accesses(name: str, computations: dict[str, list[re.Match[str]]]) -> int:
    sizes, total = {}, 0
    for instruction in computations.get(name, ()):
        result, shape, operation, rest = instruction.groups()
        sizes[result] = shape_bytes(shape)
        if operation in _CONTROL:
            called = _CALLED.findall(rest) + [c.strip(" %") for b in _BRANCHES.findall(rest) for c in b.split(",")]
            total += sum(_accesses(each, computations) for each in called)
        elif operation not in _FREE and not operation.endswith("-done"):
            operands = re.findall(r"%?([\w.-]+)", rest.partition(")")[0])
            total += sizes[result] + sum(sizes.get(operand, 0) for operand in operands)
    return total
