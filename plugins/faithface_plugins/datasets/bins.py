"""``bin:PATH/lfw.bin``: the packed verification sets of face recognition (lfw, cplfw, calfw, cfp_fp, agedb_30).

Place in the flow: a builtin dataset. May call ``images`` for decoding, the contract, ``errors``.

The files are pickles of ``(images, same)``: 2N encoded images (bytes, or uint8 arrays of encoded bytes) and N
booleans. A pickle can run any code when it is loaded, so these are read by an unpickler that accepts bytes, lists and
booleans, has stand-ins for numpy's arrays, and refuses the rest.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import os
import pickle
import pickletools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faithface.contract import Dataset, Face, Pair
from faithface.errors import UsageError
from faithface.files import check_file, content_digest, read_file, user_path
from faithface.images import decode_image
from faithface.limits import MAX_BIN_BYTES, MAX_TABLE_ROWS

SIZE = (112, 112)


class _Refused(Exception):
    """A pickle contains something that these files do not need."""


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for ``_codecs.encode``, by which protocol 2 writes bytes: nothing but Latin-1."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"an encoding {encoding!a:.40}")
    return text.encode("latin1")


def _bytes(*args: Any) -> bytes:
    """Stand in for ``bytes``, which protocol 2 calls for empty ones; with a number it would take that much memory."""
    if args:
        raise _Refused("bytes made of something else")
    return b""


class _DType:
    """Stands in for ``numpy.dtype``: plain numbers and booleans, whatever state the pickle gives it afterwards."""

    def __init__(self, text: str | bytes, *_: Any) -> None:
        text = text.decode("latin1") if isinstance(text, bytes) else text
        if not re.fullmatch(r"[<>=|]?[biuf][1248]", text):
            raise _Refused(f"arrays of {text!a:.40}")
        self.text = text.lstrip("<>=|")
        self.order = text[0] if text[0] in "<>" else "="

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise _Refused("an array of an odd byte order")
        self.order = order if order in "<>" else "="

    @property
    def real(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.text)


class _Array:
    """Stands in for ``numpy.ndarray``: its bytes become an array only if they fill its shape."""

    value: np.ndarray = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _DType):
            raise _Refused("an array that does not hold bytes")
        self.value = np.frombuffer(bytes(data), dtype=dtype.real).reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: _DType, data: bytes) -> Any:
    return np.frombuffer(data, dtype=dtype.real)[0]


def _from_buffer(buffer: bytes, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
    made = _Array()
    made.__setstate__((1, shape, dtype, order == "F", bytes(buffer)))
    return made


_NAMES: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _latin1,
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    **{
        (f"{package}.{module}", name): stand_in
        for package in ("numpy.core", "numpy._core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _NAMES.get((module, name))
        if found is None:
            raise _Refused(f"{module}.{name}"[:200])
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent reference")


def _check_opcodes(data: bytes) -> None:
    """Refuse a pickle that reserves more memory than it fills.

    The unpickler allocates memory up to a memo's number as soon as it reads it. Reading the opcodes also proves
    that all the bytes that they announce are present.
    """
    for count, (opcode, argument, _position) in enumerate(pickletools.genops(data)):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > 16 * (count + 1024):
            raise _Refused(f"a note numbered {argument}")
        if opcode.name in ("NEXT_BUFFER", "READONLY_BUFFER", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            raise _Refused(f"a {opcode.name.lower()}")


def read_bin(path: Path) -> tuple[list[bytes], list[bool]]:
    """Return the encoded images and the labels of a packed verification set, without running any of it.

    Raises:
        UsageError: the file is missing, too large, truncated, contains anything but plain data, or its lengths do not
            fit.
    """
    data = read_file(path, MAX_BIN_BYTES, "packed verification set")
    try:
        _check_opcodes(data)
        # Files written by Python 2 hold images as its byte strings.
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except _Refused as error:
        raise UsageError(
            f"{path} is refused and was not run: it contains {error}; expected images as bytes and a list of booleans"
        ) from None
    except Exception as error:  # a damaged pickle raises nearly any class
        lines = str(error).strip().splitlines() or [""]
        raise UsageError(
            f"{path} is truncated or not a packed verification set ({type(error).__name__}: {lines[0][:200]})"
        ) from None
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise UsageError(f"{path}: expected (images, same), got {type(content).__name__}")
    images, same = (part.value if isinstance(part, _Array) else part for part in content)
    try:
        if max(len(images), len(same)) > MAX_TABLE_ROWS:
            raise UsageError(f"{path}: {len(same)} labels; at most {MAX_TABLE_ROWS} are read")
        encoded = [_as_bytes(image) for image in images]
        labels = [_as_bool(value) for value in same]
    except TypeError as error:
        raise UsageError(f"{path}: expected images as bytes and a list of booleans ({error})") from None
    if len(encoded) != 2 * len(labels) or not labels:
        raise UsageError(f"{path}: {len(encoded)} images and {len(labels)} labels; expected two images per label")
    return encoded, labels


def _as_bytes(image: Any) -> bytes:
    if isinstance(image, _Array) and image.value.dtype == np.uint8 and image.value.ndim == 1:
        return image.value.tobytes()
    if isinstance(image, bytes):
        return image
    raise TypeError(f"an image is {type(image).__name__.lstrip('_').lower()}")


def _as_bool(value: Any) -> bool:
    number = value.value.tolist() if isinstance(value, _Array) else value
    if isinstance(number, bool | int | float | np.generic) and number in (0, 1):
        return bool(number)
    raise TypeError(f"a label is {str(number)[:40]}")


def _decode(encoded: bytes, what: str) -> np.ndarray:
    pixels = decode_image(encoded, what)
    if pixels.shape[:2] != SIZE:
        raise UsageError(
            f"{what} is {pixels.shape[0]}×{pixels.shape[1]}; expected aligned crops of {SIZE[0]}×{SIZE[1]}"
        )
    return pixels


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Bin(Dataset):
    """A packed verification set of aligned 112×112 crops. Sample ids are ``0000`` … in the order of the file.

    The files carry no identities; a stranger of a pair is any image that no chain of genuine pairs connects with it.
    """

    path: str = field(default="", metadata={"parameter": False})

    name = "bin"
    task = "verification"
    aligned = True
    source = "packed verification sets as distributed with insightface (the user's own copy)"

    def with_argument(self, argument: str) -> Bin:
        path = user_path(argument)
        if not os.path.exists(path):
            raise UsageError(f"dataset bin:{argument}: no such file; write bin:PATH/lfw.bin")
        check_file(path, MAX_BIN_BYTES, "packed verification set")
        return dataclasses.replace(self, path=str(path))

    @property
    def revision(self) -> str:  # type: ignore[override]
        return content_digest(self.path)[:12] if self.path else "1"

    def items(self) -> list[Pair]:
        if not self.path:
            raise UsageError("dataset bin needs a file: write bin:PATH/lfw.bin")
        encoded, same = read_bin(Path(self.path))
        # A face that occurs in several pairs is stored once for each; equal bytes are one face.
        known: dict[int, str] = {}
        for data in encoded:
            if id(data) not in known:  # a pickle may name one object many times
                known[id(data)] = hashlib.blake2b(data, digest_size=8).hexdigest()
        names = [known[id(data)] for data in encoded]
        faces = [
            Face(
                names[i],
                functools.partial(_decode, data, f"{self.path}, image {i}"),
                digest=functools.partial(_sha256, data),
            )
            for i, data in enumerate(encoded)
        ]
        width = max(4, len(str(len(same) - 1)))
        return [Pair(f"{i:0{width}d}", faces[2 * i], faces[2 * i + 1], label) for i, label in enumerate(same)]
