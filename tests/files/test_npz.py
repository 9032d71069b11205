"""Maps from ``.npz`` files: numbers only, limits from the zip directory, nothing unpickled."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from faithface import npz
from faithface.errors import UsageError
from faithface.npz import read_npz


def packed(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return path


def header(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ">f4", "uint8", "int64", "bool"])
def test_arrays_come_back_as_numpy_reads_them(tmp_path: Path, save: object, dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 2, (2, 5, 3)).astype(dtype)
    save(tmp_path / "m.npz", similarity=array, dissimilarity=np.asfortranarray(array))  # type: ignore[operator]
    found = read_npz(tmp_path / "m.npz")
    assert set(found) == {"similarity", "dissimilarity"}
    for value in found.values():
        assert np.array_equal(value, array)


def test_gigabytes_of_zeros_are_refused_by_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file, file.open("a.npy", "w") as member:
        member.write(header("(300, 1048576)", "|u1"))
        for _ in range(300):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(npz, "_array", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(UsageError, match="300 MiB unpacked; at most 256 MiB"):
        read_npz(path)


def test_a_directory_that_lies_is_found_out(tmp_path: Path) -> None:
    path = packed(tmp_path / "m.npz", "a.npy", header("(1000, 1000)") + bytes(4_000_000))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (1000).to_bytes(4, "little")  # the uncompressed size
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"m\.npz"):
        read_npz(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header("(100000, 1000000)") + bytes(16), "declares"),
        (header("(-1, 4)") + bytes(16), "declares"),
        (header("(2, 2)", "<c8") + bytes(32), "complex64; expected real numbers"),
        (header("(2,)", "|S4") + bytes(8), "expected real numbers"),
        (b"not an array", "not an npz file"),
        (header("(" * 5000), "not an npz file"),
    ],
)
def test_a_wrong_array_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = packed(tmp_path / "m.npz", "relevance.npy", content)
    with pytest.raises(UsageError, match=words) as caught:
        read_npz(path)
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "m.npz", relevance=np.array([Evil()], dtype=object))
    with pytest.raises(UsageError, match="object"):
        read_npz(tmp_path / "m.npz")
    assert not (tmp_path / "ran").exists()


def test_too_many_arrays_and_damage(tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", **{f"a{i}": np.zeros(1) for i in range(100)})
    with pytest.raises(UsageError, match="100 arrays"):
        read_npz(tmp_path / "many.npz")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, relevance=np.random.default_rng(0).random((20, 20)))
    wrong = bytearray(buffer.getvalue())
    wrong[len(wrong) // 2] ^= 1
    (tmp_path / "wrong.npz").write_bytes(wrong)
    with pytest.raises(UsageError, match="not an npz file of numbers"):
        read_npz(tmp_path / "wrong.npz")
