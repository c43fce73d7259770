"""Plain data from a pickle file, without running anything that the file names.

A pickle may name any function to be called. Here, whatever it names is refused, but for the few
names by which NumPy's arrays and numbers are pickled; and even these are not NumPy's functions but
stand-ins, which keep what they are given. So lists, dictionaries, text, numbers and arrays of
numbers come out, and nothing else can.
"""

import pickle
from io import BytesIO
from pathlib import Path
from pickletools import genops
from typing import Any, Never

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError

LARGEST = 2**26  # bytes; the official files have some hundred thousand
NUMBERS = "biuf"  # kinds of NumPy's types: bool, integers, floats


def read_plain_pickle(file: Path) -> Any:
    """What a pickle file holds: dictionaries, lists, tuples, text, numbers and arrays of numbers.

    Raises:
        InputError: it is missing, too large, damaged, or holds anything else.
    """
    try:
        size = file.stat().st_size
        if size > LARGEST:
            raise InputError(f"{file} has {size} bytes; no such file has more than {LARGEST}")
        data = file.read_bytes()
        _check_places(data)
        return _finished(_PlainUnpickler(BytesIO(data), encoding="latin1").load())
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f"can't read {file} as plain data: {error}") from error


class _Type:
    """Stands for numpy.dtype: the code of a type of numbers, such as "i8"."""

    def __init__(self, code: str, *_: object) -> None:
        if np.dtype(str(code)).kind not in NUMBERS:
            raise ValueError(f"an array of {code!r} is not one of numbers")
        self.code = str(code)
        self.swapped = False

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.swapped = state[1] == ">"

    def numbers(self, data: bytes | str) -> NDArray:
        raw = data.encode("latin1") if isinstance(data, str) else data  # Python 2 wrote text
        return np.frombuffer(raw, np.dtype(self.code).newbyteorder(">" if self.swapped else "<"))


class _Array:
    """Stands for an array that NumPy makes empty and then fills."""

    values: NDArray

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_column, data = state
        if not isinstance(kind, _Type) or not isinstance(data, bytes | str):
            raise ValueError("an array of objects")
        self.values = kind.numbers(data).reshape(shape, order="F" if by_column else "C")


def _scalar(kind: _Type, data: bytes | str) -> object:
    return kind.numbers(data)[0].item()


def _from_buffer(data: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> NDArray:
    return kind.numbers(bytes(data)).reshape(shape, order="F" if order == "F" else "C")


class _Ndarray:
    """Stands for the name numpy.ndarray, which is only handed to `_Array`."""


def _no_bytes() -> bytes:
    return b""  # how old protocols write an empty array


STAND_INS = {
    "__builtin__.bytes": _no_bytes,
    "numpy.ndarray": _Ndarray,
    "numpy.dtype": _Type,
    "multiarray._reconstruct": _Array,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
    "_codecs.encode": lambda text, _: str(text).encode("latin1"),  # bytes of old protocols
}


class _PlainUnpickler(pickle.Unpickler):
    """Gives stand-ins for NumPy's names, and refuses all others."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        for package in ("numpy.core.", "numpy._core."):
            name = name.removeprefix(package)
        if name not in STAND_INS:
            raise ValueError(f"it names {module_name}.{global_name}, which plain data does not")
        return STAND_INS[name]

    def persistent_load(self, pid: object) -> Never:
        raise ValueError("it refers to something outside of the file")


def _check_places(data: bytes) -> None:
    """Refuse places to remember a value that are beyond the file's length: memory is set aside for
    all places below."""
    for code, argument, _ in genops(data):
        if "PUT" in code.name and int(argument or 0) > len(data):
            raise ValueError("it remembers more values than it has")


def _finished(value: Any, known: dict[int, Any] | None = None) -> Any:
    """Arrays in place of their stand-ins, and nothing that is not plain.

    Args:
        value: as unpickled.
        known: what is finished already, by identity: a value may stand in many places.
    """
    known = {} if known is None else known
    if id(value) not in known:
        known[id(value)] = _plain(value, known)
    return known[id(value)]


def _plain(value: Any, known: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {_finished(key, known): _finished(each, known) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finished(each, known) for each in value]
    if isinstance(value, _Array):
        return value.values
    if value is None or isinstance(value, str | int | float | np.ndarray):
        return value
    raise ValueError(f"it holds a {type(value).__name__}")
