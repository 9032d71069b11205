"""``bin:PATH/lfw.bin``: the packed verification sets of face recognition (lfw, cplfw, calfw, cfp_fp, agedb_30).

Place in the flow: a builtin dataset. May call ``images`` for decoding, the contract, ``errors``.

The files are pickles of ``(images, same)``: 2N encoded images (bytes, or uint8 arrays of encoded bytes) and N
booleans. A pickle can run any code when it is loaded, so these are read by an unpickler that knows bytes, lists,
booleans and numpy arrays and refuses the rest.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faithface.contract import Dataset, Face, Pair
from faithface.errors import UsageError

SIZE = (112, 112)


class _Refused(Exception):
    """A pickle asked for something that these files have no need of."""


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for ``_codecs.encode``, by which protocol 2 writes bytes: nothing but Latin-1."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"an encoding '{encoding}'")
    return text.encode("latin1")


def _plain_dtype(*args: Any, **kwargs: Any) -> np.dtype[Any]:
    """Stand in for ``numpy.dtype``: numbers and booleans only, never objects."""
    made = np.dtype(*args, **kwargs)
    if made.hasobject or made.names:
        raise _Refused(f"arrays of {made}")
    return made


def _safe_names() -> dict[tuple[str, str], Any]:
    reconstruct = np.zeros(0).__reduce__()[0]  # numpy has moved this function between modules
    names: dict[tuple[str, str], Any] = {
        ("_codecs", "encode"): _latin1,
        ("builtins", "bytes"): bytes,
        ("__builtin__", "bytes"): bytes,
    }
    for package in ("numpy.core", "numpy._core"):
        names[f"{package}.multiarray", "_reconstruct"] = reconstruct
        names[f"{package}.multiarray", "scalar"] = _scalar
        names[f"{package}.numeric", "_frombuffer"] = _from_buffer
    names["numpy", "ndarray"] = np.ndarray
    names["numpy", "dtype"] = _plain_dtype
    return names


def _scalar(dtype: np.dtype[Any], data: bytes) -> Any:
    return np.frombuffer(data, dtype=_plain_dtype(dtype))[0]


def _from_buffer(buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(buffer, dtype=_plain_dtype(dtype)).reshape(shape, order=order)  # type: ignore[call-overload]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _safe_names().get((module, name))
        if found is None:
            raise _Refused(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent reference")


def read_bin(path: Path) -> tuple[list[bytes], list[bool]]:
    """Return the encoded images and the labels of a packed verification set, running nothing of it.

    Raises:
        UsageError: the file is not there, truncated, asks for anything but plain data, or its lengths do not fit.
    """
    try:
        with path.open("rb") as file:
            # Files written by Python 2 hold images as its byte strings.
            content = _Unpickler(file, encoding="bytes").load()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except _Refused as error:
        raise UsageError(
            f"{path} is refused and was not run: it asks for {error}; expected images as bytes and a list of booleans"
        ) from None
    except Exception as error:  # a damaged pickle raises nearly any class
        raise UsageError(
            f"{path} is truncated or not a packed verification set ({type(error).__name__}: {error})"
        ) from None
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise UsageError(f"{path}: expected (images, same), got {type(content).__name__}")
    images, same = content
    try:
        encoded = [_as_bytes(image) for image in images]
        labels = [bool(value) for value in same]
    except TypeError as error:
        raise UsageError(f"{path}: expected images as bytes and a list of booleans ({error})") from None
    if len(encoded) != 2 * len(labels) or not labels:
        raise UsageError(f"{path}: {len(encoded)} images and {len(labels)} labels; expected two images per label")
    return encoded, labels


def _as_bytes(image: Any) -> bytes:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 1:
        return image.tobytes()
    if isinstance(image, bytes):
        return image
    raise TypeError(f"an image is {type(image).__name__}")


def _decode(encoded: bytes, what: str) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UsageError(f"{what} cannot be decoded ({error})") from None
    if pixels.shape[:2] != SIZE:
        raise UsageError(
            f"{what} is {pixels.shape[0]}×{pixels.shape[1]}; expected aligned crops of {SIZE[0]}×{SIZE[1]}"
        )
    return pixels


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
        path = Path(argument).expanduser()
        if not path.is_file():
            raise UsageError(f"dataset bin:{argument}: no such file; write bin:PATH/lfw.bin")
        return dataclasses.replace(self, path=str(path))

    @property
    def revision(self) -> str:  # type: ignore[override]
        return hashlib.sha256(Path(self.path).read_bytes()).hexdigest()[:12] if self.path else "1"

    def items(self) -> list[Pair]:
        if not self.path:
            raise UsageError("dataset bin needs a file: write bin:PATH/lfw.bin")
        encoded, same = read_bin(Path(self.path))
        # A face that occurs in several pairs is stored once for each; equal bytes are one face.
        names = [hashlib.blake2b(data, digest_size=8).hexdigest() for data in encoded]
        faces = [
            Face(names[i], functools.partial(_decode, data, f"{self.path}, image {i}"))
            for i, data in enumerate(encoded)
        ]
        width = max(4, len(str(len(same) - 1)))
        return [Pair(f"{i:0{width}d}", faces[2 * i], faces[2 * i + 1], label) for i, label in enumerate(same)]
