"""Pickles are read as plain data: every protocol, and no file makes anything happen."""

import collections
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.data.sources.plain_pickle import read_plain_pickle
from lookalike.errors import InputError

PLAIN: dict[str, Any] = {
    "imlist": ["a", "é"],
    "gnd": [
        {"bbx": [1.5, 2, -3], "easy": np.array([1, 2]), "hard": np.array([], int), "junk": []},
        {"bbx": np.array([1.5, 2.5]), "n": np.int64(4), "f": np.float32(1.5), "none": None},
        {"columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "big": np.array([7], ">i4")},
    ],
    "yes": True,
}


def assert_equal(found: object, expected: object) -> None:
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif isinstance(expected, list):
        assert isinstance(found, list)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    else:
        np.testing.assert_array_equal(found, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    file = tmp_path / "gnd.pkl"
    file.write_bytes(pickle.dumps(PLAIN, protocol))
    assert_equal(read_plain_pickle(file), PLAIN)


def test_text_of_python_2(tmp_path: Path) -> None:
    """Strings without Unicode, and an array as NumPy wrote it there: names of numpy.core, data as
    such a string."""
    file = tmp_path / "gnd.pkl"
    file.write_bytes(
        b"\x80\x02}q\x01(U\x04nameU\x03all"
        b"U\x01xcnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        b"(K\x01K\x02\x85cnumpy\ndtype\n(U\x02i8K\x00K\x01tR"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
        + struct.pack("<2q", 5, 300)
        + b"tbu."
    )
    found = read_plain_pickle(file)
    assert found["name"] == "all"
    assert found["x"].tolist() == [5, 300]


class Calls:
    """Pickled as the call of a function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        function, *arguments = self.call
        return function, tuple(arguments)


def hostile(folder: Path) -> dict[str, Any]:
    marker = str(folder / "marker")
    return {
        "a function of Python's": Calls(open, marker, "w"),
        "without any name of a shell": Calls(exec, f"open({marker!r}, 'w')"),
        "inside an array": np.array([Calls(open, marker, "w")], dtype=object),
        "numpy's own functions": Calls(np.savetxt, marker, [1.0]),
        "an array of objects": np.array([{}, []], dtype=object),
        "a structured type": np.zeros(2, dtype=[("a", "i4")]),
        "a set": {1, 2},
        "bytes": b"bytes",
        "a class of the standard library": collections.OrderedDict(a=1),
    }


@pytest.mark.parametrize("what", hostile(Path()))
def test_nothing_else_is_read_and_nothing_happens(what: str, tmp_path: Path) -> None:
    file = tmp_path / "gnd.pkl"
    for protocol in (0, 2, 5):
        file.write_bytes(pickle.dumps({"gnd": [hostile(tmp_path)[what]]}, protocol))
        with pytest.raises(InputError, match="as plain data"):
            read_plain_pickle(file)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps(PLAIN)[:-20],
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # remembers one value in place 2**31
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02U\x01aQ.",  # something outside of the file
        b"\x80\x02\x82\x01.",  # a registered extension
        b"\x80\x02]q\x01h\x01a.",  # a list in itself
    ],
)
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "gnd.pkl").write_bytes(content)
    with pytest.raises(InputError, match="as plain data"):
        read_plain_pickle(tmp_path / "gnd.pkl")


def test_what_stands_in_many_places_is_read_once(tmp_path: Path) -> None:
    """Lists of lists with 2**60 leaves."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(value))
    assert len(read_plain_pickle(tmp_path / "gnd.pkl")) == 2


def test_a_missing_and_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_plain_pickle(tmp_path / "gnd.pkl")
    monkeypatch.setattr("lookalike.data.sources.plain_pickle.LARGEST", 10)
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(PLAIN))
    with pytest.raises(InputError, match="no such file has more"):
        read_plain_pickle(tmp_path / "gnd.pkl")
