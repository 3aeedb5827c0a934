"""An in-memory file store that records every change, and fails when a test asks for it."""

from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem


class Store(MemoryFileSystem):
    """`store://…`: as an object store, which has the whole of a file or nothing."""

    protocol = "store"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    changes: ClassVar[list[tuple[str, bytes | None]]] = []  # path, and what was put; None if it was deleted
    calls: ClassVar[list[str]] = []
    fails: ClassVar[Callable[[int], bool] | None] = None  # given how many calls there were

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return super()._strip_protocol(str(path).removeprefix("store://"))

    @classmethod
    def begin(cls, changes: list[tuple[str, bytes | None]] = ()) -> None:
        """Make all as it is after some changes."""
        cls.store.clear()
        cls.changes.clear()
        cls.calls.clear()
        cls.fails = None
        for change in changes:
            cls.change(*change)

    @classmethod
    def change(cls, path: str, content: bytes | None) -> None:
        """Put a file, or delete it if there is no content."""
        if content is None:
            del cls.store[path]
        else:
            cls.store[path] = MemoryFile(cls(), path, content)

    def _called(self, what: str) -> None:
        Store.calls.append(what)
        if Store.fails is not None and Store.fails(len(Store.calls)):
            raise TimeoutError("the network is down")

    def find(self, path: str, *_: Any, **__: Any) -> list[str]:
        """All files below a folder."""
        return sorted(name for name in self.store if name.startswith(f"{path}/"))

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        """Contents of a file."""
        if path not in self.store:
            raise FileNotFoundError(path)
        return self.store[path].getvalue()

    def put_file(self, lpath: Any, rpath: Any, *_: Any, **__: Any) -> None:
        """Copy a file there."""
        self._called(f"put {rpath}")
        with open(lpath, "rb") as stream:  # noqa: PTH123
            content = stream.read()
        self.change(rpath, content)
        Store.changes.append((rpath, content))

    def rm_file(self, path: Any) -> None:
        """Delete a file."""
        self._called(f"delete {path}")
        if path not in self.store:
            raise FileNotFoundError(path)
        self.change(path, None)
        Store.changes.append((path, None))

    def get_file(self, rpath: Any, lpath: Any, *_: Any, **__: Any) -> None:
        """Copy a file here."""
        self._called(f"get {rpath}")
        content = self.cat_file(rpath)
        with open(lpath, "wb") as stream:  # noqa: PTH123
            stream.write(content)


fsspec.register_implementation("store", Store)


def files() -> dict[str, bytes]:
    """All there is."""
    return {path: file.getvalue() for path, file in Store.store.items()}
