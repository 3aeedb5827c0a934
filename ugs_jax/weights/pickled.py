"""Read a pickle of protocol 2 as inert values. Nothing is imported or called.

Python's own unpickler, with `find_class` restricted, still hashes any value in the file, grows its memo to any index in
the file, and calls inherited methods of classes. This unpickler knows only the opcodes that `torch.save` writes. A
global is a pair of strings, calling it makes a `Record`, and keys are strings and numbers.
"""

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

PICKLE_LIMIT = 16 << 20
"""Largest pickle that is read, bytes. That of a published size x is below a million; tensors are stored separately."""


@dataclass(frozen=True)
class Global:
    """A class or function that the pickle names. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        name = f"{self.module}.{self.name}"[:100]
        return name if name.isprintable() else ascii(name)


@dataclass(eq=False)
class Record:
    """Inert record of an object that a call of a global would have made.

    Attributes:
      kind: Global that the pickle calls.
      arguments: Arguments of the call.
      state: Attributes that the pickle sets on the object.
    """

    kind: Global
    arguments: tuple[Any, ...]
    state: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Persistent:
    """Reference to an object outside the pickle: for PyTorch, a storage."""

    identifier: tuple[Any, ...]


Build = Callable[[Global, tuple[Any, ...]], Any]
"""Function from a global and arguments to an inert value. It raises ValueError for an unknown global."""

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"})
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEYS = (str, int, float, bool, type(None))


def read_pickle(data: bytes, build: Build) -> Any:
    """Return the value of a pickle: numbers, strings, None, tuples, lists, dicts, `Persistent` and results of `build`.

    Lists and dicts may contain themselves, and parts may be shared. A caller that walks through the value has to limit
    the depth.

    Args:
      data: Bytes of the pickle.
      build: Function that is called in the place of every global that the pickle calls.

    Raises:
      ValueError: The pickle is damaged, has an opcode that PyTorch does not write, or calls a global that `build`
        refuses.
    """
    if len(data) > PICKLE_LIMIT:
        raise ValueError(f"expected a pickle of at most {PICKLE_LIMIT} bytes, got {len(data)}")
    machine = _Machine(build)
    for opcode, argument, position in _opcodes(data):
        try:
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"expected a complete pickle, got {opcode.name} at byte {position} without its operands; download the "
                "file again"
            ) from error
    raise AssertionError("the last opcode is STOP")


def _opcodes(data: bytes) -> Iterator[tuple[Any, Any, int | None]]:
    try:
        yield from pickletools.genops(data)
    except ValueError as error:
        raise ValueError(f"expected a complete pickle, got a damaged one: {error}; download the file again") from error


class _Machine:
    def __init__(self, build: Build) -> None:
        self.build = build
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks that MARK opcodes have set aside
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

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.push(self.memo[index])

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.push(Global(module, name))

    def _call(self, _: Any) -> None:
        arguments, kind = self.pop(), self.pop()
        if not isinstance(kind, Global) or not isinstance(arguments, tuple):
            raise ValueError(f"expected a call of a global with a tuple, got a call of {_kind_of(kind)}")
        self.push(self.build(kind, arguments))

    def _set_state(self, _: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        if not isinstance(target, (Record, dict)):
            raise ValueError(f"expected attributes of a module, got those of {_kind_of(target)}")
        if isinstance(state, dict) and all(type(name) is str for name in state):
            if isinstance(target, Record):  # attributes of a state dict are layer versions, which are not needed
                target.state.update(state)
        elif not (isinstance(target, Record) and isinstance(state, tuple)):  # the state of NumPy objects is not needed
            raise ValueError(f"expected attributes by name, got {_kind_of(state)}")

    def _persistent(self, _: Any) -> None:
        identifier = self.pop()
        if not isinstance(identifier, tuple):
            raise ValueError(f"expected a storage identified by a tuple, got {_kind_of(identifier)}")
        self.push(Persistent(identifier))

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError(f"expected a list to append to, got {_kind_of(self.stack[-1])}")
        self.stack[-1].extend(items)

    def _set_items(self, items: list[Any]) -> None:
        keys, target = items[::2], self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError(f"expected pairs and a dict to put them in, got {_kind_of(target)}")
        for key in keys:  # hashing a tuple that holds itself many times would take forever
            if not isinstance(key, _KEYS):
                raise ValueError(f"expected strings and numbers as keys, got {_kind_of(key)}")
        target.update(zip(keys, items[1::2], strict=True))


def _kind_of(value: Any) -> str:
    return f"the global {value}" if isinstance(value, Global) else f"a {type(value).__name__}"
