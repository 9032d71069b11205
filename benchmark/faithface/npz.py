"""Read ``.npz`` files of maps: plain numbers only, within limits that are checked before anything is unpacked.

Place in the flow: called by ``maps:DIR``. Imports numpy, ``files``, ``limits`` and ``errors``.

``numpy.load`` unpacks whatever the file declares: 4 MB of compressed zeros are 4 GB of memory. Here the zip directory
is read first, each array is unpacked up to its limit, and its header is compared with the actual content.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from faithface.errors import UsageError
from faithface.files import read_file
from faithface.limits import MAX_NPZ_ARRAYS, MAX_NPZ_BYTES, readable_size


class _Refused(Exception):
    """An array that cannot be a map; the text gives the reason."""


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file by name: real numbers or booleans.

    Raises:
        UsageError: it is missing, too large, damaged, or an array holds anything but numbers (pickled
            objects are never loaded).
    """
    data = read_file(path, MAX_NPZ_BYTES, "npz file")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            members = packed.infolist()
            if len(members) > MAX_NPZ_ARRAYS:
                raise _Refused(f"{len(members)} arrays; at most {MAX_NPZ_ARRAYS} are read")
            total = sum(member.file_size for member in members)
            if total > MAX_NPZ_BYTES:
                raise _Refused(f"{readable_size(total)} unpacked; at most {readable_size(MAX_NPZ_BYTES)} are read")
            return {m.filename.removesuffix(".npy"): _array(packed, m) for m in members}
    except _Refused as error:
        raise UsageError(f"{path} is refused: {error}") from None
    except Exception as error:  # damaged zips and headers raise a dozen unrelated classes
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"{path}: not an npz file of numbers ({lines[0][:200]}); write it with numpy.savez_compressed"
        ) from None


def _array(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with packed.open(member) as file:
        raw = file.read(member.file_size + 1)  # reading to the end checks the CRC
    if len(raw) != member.file_size:
        raise _Refused(f"{member.filename} unpacks to more than its directory declares")
    stream = io.BytesIO(raw)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise _Refused(f"{member.filename} has format version {version}")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.kind not in "biuf" or dtype.names:
        raise _Refused(f"{member.filename} holds {dtype}; expected real numbers")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(raw) - stream.tell():
        raise _Refused(f"{member.filename} declares {shape} of {dtype}, but holds {len(raw) - stream.tell()} bytes")
    flat = np.frombuffer(raw, dtype=dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")
