"""A pickle as inert values. Nothing is imported or called: only what opcodes of protocol 2 put together is built.

Python's own unpickler, with `find_class` restricted, still hashes what the file says, grows its memo to any index the
file names, and calls what classes inherit. This one knows the opcodes that `torch.save` writes and no others; a global
is a pair of texts, calling one makes a `Record`, and keys are texts and numbers.
"""

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

PICKLE_LIMIT = 16 << 20
"""Bytes; the pickle of a published size x has under a million, as tensors are stored beside it."""


@dataclass(frozen=True)
class Global:
    """A class or function that the pickle names; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        name = f"{self.module}.{self.name}"[:100]
        return name if name.isprintable() else ascii(name)


@dataclass(eq=False)
class Record:
    """What calling a global would have made.

    Attributes:
      kind: the global.
      arguments: of the call.
      state: what the pickle would have made its attributes.
    """

    kind: Global
    arguments: tuple[Any, ...]
    state: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Persistent:
    """What the pickle keeps elsewhere: for PyTorch, a storage."""

    identifier: tuple[Any, ...]


Build = Callable[[Global, tuple[Any, ...]], Any]
"""From a global and arguments to an inert value; raises ValueError for a global that is not known."""

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"})
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEYS = (str, int, float, bool, type(None))


def read_pickle(data: bytes, build: Build) -> Any:
    """The value of a pickle: numbers, texts, None, tuples, lists, dicts, `Record`, and what `build` returns.

    Lists and dicts may hold themselves, and parts may be shared: whoever walks through the value limits the depth.

    Args:
      data: the pickle.
      build: is called where the pickle calls a global.

    Raises:
      ValueError: a damaged pickle, an opcode that PyTorch does not write, or a global that `build` refuses.
    """
    if len(data) > PICKLE_LIMIT:
        raise ValueError(f"expected a pickle of at most {PICKLE_LIMIT} bytes, got {len(data)}")
    machine = _Machine(build)
    for opcode, argument, place in _opcodes(data):
        try:
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"expected a whole pickle, got {opcode.name} at byte {place} without what it needs; download the file "
                "again"
            ) from error
    raise AssertionError("the last opcode is STOP")


def _opcodes(data: bytes) -> Iterator[tuple[Any, Any, int | None]]:
    try:
        yield from pickletools.genops(data)
    except ValueError as error:
        raise ValueError(f"expected a whole pickle, got a damaged one: {error}; download the file again") from error


class _Machine:
    def __init__(self, build: Build) -> None:
        self.build = build
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks that a MARK put aside
        self.memo: dict[int, Any] = {}
        self.known: dict[str, Callable[[Any], None]] = {
            "PROTO": self._protocol,
            "MARK": self._mark,
            "BINPUT": self._put,
            "LONG_BINPUT": self._put,
            "BINGET": self._get,
            "LONG_BINGET": self._get,
            "GLOBAL": self._global,
            "REDUCE": self._call,
            "NEWOBJ": self._call,
            "BUILD": self._set_state,
            "BINPERSID": self._persistent,
            "TUPLE": lambda _: self.push(tuple(self._marked())),
            "APPEND": lambda _: self._extend([self.pop()]),
            "APPENDS": lambda _: self._extend(self._marked()),
            "SETITEM": lambda _: self._set_items([self.pop(), self.pop()][::-1]),
            "SETITEMS": lambda _: self._set_items(self._marked()),
        }

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.push(argument)
        elif name in _CONSTANTS:
            self.push(_CONSTANTS[name])
        elif name in _EMPTY:
            self.push(_EMPTY[name]())
        elif name in _TUPLES:
            self.push(tuple([self.pop() for _ in range(_TUPLES[name])][::-1]))
        elif name in self.known:
            self.known[name](argument)
        else:
            raise ValueError(f"expected the pickle opcodes that PyTorch writes, got {name}")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def _protocol(self, version: int) -> None:
        if version != 2:
            raise ValueError(f"expected pickle protocol 2, which torch.save writes, got {version}")

    def _mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _marked(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def _get(self, place: int) -> None:
        self.push(self.memo[place])

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.push(Global(module, name))

    def _call(self, _: Any) -> None:
        arguments, kind = self.pop(), self.pop()
        if not isinstance(kind, Global) or not isinstance(arguments, tuple):
            raise ValueError(f"expected a call of a global with a tuple, got one of {_kind_of(kind)}")
        self.push(self.build(kind, arguments))

    def _set_state(self, _: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        if not isinstance(target, (Record, dict)):
            raise ValueError(f"expected attributes of a module, got those of {_kind_of(target)}")
        if isinstance(state, dict) and all(type(name) is str for name in state):
            if isinstance(target, Record):  # those of a state dict are versions of its layers, which are not needed
                target.state.update(state)
        elif not (isinstance(target, Record) and isinstance(state, tuple)):  # as NumPy's, which are not needed
            raise ValueError(f"expected attributes by name, got {_kind_of(state)}")

    def _persistent(self, _: Any) -> None:
        identifier = self.pop()
        if not isinstance(identifier, tuple):
            raise ValueError(f"expected a storage by a tuple, got {_kind_of(identifier)}")
        self.push(Persistent(identifier))

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError(f"expected a list to append to, got {_kind_of(self.stack[-1])}")
        self.stack[-1].extend(items)

    def _set_items(self, items: list[Any]) -> None:
        keys, target = items[::2], self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError(f"expected pairs and a dict to put them in, got {_kind_of(target)}")
        for key in keys:  # a tuple could hold itself many times over, and take for ever to hash
            if not isinstance(key, _KEYS):
                raise ValueError(f"expected texts and numbers as keys, got {_kind_of(key)}")
        target.update(zip(keys, items[1::2], strict=True))


def _kind_of(value: Any) -> str:
    return f"the global {value}" if isinstance(value, Global) else f"a {type(value).__name__}"
