"""Universal Binary JSON as XGBoost writes its models, read without XGBoost.

https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html and
https://ubjson.org/type-reference.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_NUMBERS: Final = {
    kind: np.dtype(f">{width}")
    for kind, width in zip("iUIlLdD", ("i1", "u1", "i2", "i4", "i8", "f4", "f8"), strict=True)
}
_WORDS: Final = {"T": True, "F": False, "Z": None}


def read(data: bytes) -> Any:
    """A document; its arrays of one kind of numbers become those of NumPy.

    :raises ValueError: for what is no UBJSON, or of a kind that XGBoost does not write.
    """
    return _Reader(data).value()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def value(self) -> Any:
        kind = self._kind()
        if kind in _NUMBERS:
            return self._numbers(kind, 1)[0].item()
        if kind in _WORDS:
            return _WORDS[kind]
        if kind == "S":
            return self._text()
        if kind == "[":
            return self._array()
        if kind == "{":
            return self._object()
        raise self._unknown(kind)

    def _unknown(self, kind: str) -> ValueError:
        return ValueError(f"no UBJSON of XGBoost: {kind!r} before byte {self._at}")

    def _kind(self) -> str:
        return self._bytes(1).decode("latin-1")

    def _next(self) -> str:
        """What comes, without taking it."""
        return self._data[self._at : self._at + 1].decode("latin-1")

    def _bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if count < 0 or len(found) < count:
            raise ValueError(f"no UBJSON of XGBoost: it ends at byte {len(self._data)}")
        self._at += count
        return found

    def _numbers(self, kind: str, count: int) -> NDArray[Any]:
        if kind not in _NUMBERS:
            raise self._unknown(kind)
        dtype = _NUMBERS[kind]
        found = np.frombuffer(self._bytes(count * dtype.itemsize), dtype)
        return found.astype(dtype.newbyteorder("="))

    def _count(self) -> int:
        kind = self._kind()
        if kind not in "iUIlL":
            raise self._unknown(kind)
        return int(self._numbers(kind, 1)[0])

    def _text(self) -> str:
        return self._bytes(self._count()).decode()

    def _array(self) -> Any:
        kind = ""
        if self._next() == "$":
            self._kind()
            kind = self._kind()
        if self._next() == "#":
            self._kind()
            count = self._count()
            if kind:
                return self._numbers(kind, count)
            return [self.value() for _ in range(count)]
        found = []
        while self._next() != "]":
            found.append(self.value())
        self._kind()
        return found

    def _object(self) -> dict[str, Any]:
        found = {}
        while self._next() != "}":
            name = self._text()
            found[name] = self.value()
        self._kind()
        return found
