"""Limits on what is read from users' files, each with its reason.

Place in the flow: below everything that reads a file; imports nothing. ``docs/reference/limits.md`` lists these
numbers, and a test compares the page with this module.

A file beyond a limit is refused with a one-line message before it is decoded, so that a small file cannot exhaust
memory. Every limit is far above what face data need: reaching one means a damaged or hostile file.
"""

from __future__ import annotations

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# --- images

MAX_IMAGE_PIXELS = 50_000_000
"""Width × height of an image. Today's largest phone cameras take 50 megapixels; as float32 that is 600 MB."""

MAX_IMAGE_BYTES = 256 * MIB
"""Size of an image file. An uncompressed 24-bit BMP of the largest allowed image has 150 MB."""

# --- maps and tables

MAX_MAP_SIDE = 8192
"""Height or width of a stored map. Maps are resized to the model's input, which is rarely above 512."""

MAX_NPZ_BYTES = 256 * MIB
"""Uncompressed size of an ``.npz`` file, by its directory and as read. A pair's maps at 2048² have 128 MiB as
float64."""

MAX_NPZ_ARRAYS = 64
"""Arrays in an ``.npz`` file of maps. A pair needs two."""

MAX_TABLE_BYTES = 128 * MIB
"""Size of a CSV, a list of videos or a JSON label file. CelebA-Spoof's labels, the largest known, have 100 MB."""

MAX_TABLE_ROWS = 1_000_000
"""Rows of a CSV. A pair takes about 1 kB of memory, and every pair of a verification set is scored."""

MAX_FIELD_CHARACTERS = 4096
"""Characters of one field of a CSV: the longest path that Linux opens."""

MAX_BIN_BYTES = 4 * GIB
"""Size of a packed verification set. The published ones have 60 to 300 MB."""

# --- cards and suites

MAX_TOML_BYTES = MIB
"""Size of a card or suite. The longest suite in use has 4 kB."""

MAX_INPUT_SIDE = 4096
"""Height or width of a model's input. Face models use 80 to 512."""

# --- networks

MAX_MODEL_BYTES = 2 * GIB
"""Size of an ``.onnx`` file: protobuf's own limit. Larger networks keep their weights in external data files."""

MAX_WEIGHT_BYTES = 16 * GIB
"""Weights of a network, by the sizes that the file declares. The largest face models have 1.5 GB."""

MAX_NODES = 20_000
"""Nodes of a graph with all its subgraphs and functions. ViT-L, exported operator by operator, has 6,000."""

MAX_GRAPH_DEPTH = 8
"""Subgraphs within subgraphs (``If``, ``Loop``, ``Scan``). Networks in use have at most 2."""

MAX_LOOP_STEPS = 10_000

"""Steps of a ``Loop``, nested ones multiplied. The number must be a constant in the file; a network that is run
thousands of times cannot have an unbounded loop."""

MAX_TENSOR_BYTES = 4 * GIB
"""Size of one tensor that the graph makes from constants (``ConstantOfShape``, ``Expand``, ``Tile``, ``Range``), or
that it declares as a value."""

INSPECT_SECONDS = 15
"""Time of ``faithface inspect`` in its child process, with :data:`INSPECT_SECONDS_PER_MIB` added."""

INSPECT_SECONDS_PER_MIB = 2.0
"""Time of ``faithface inspect`` for each MiB of the network: a ResNet-100 of 250 MiB takes one minute on two cores."""

INSPECT_BYTES = 2 * GIB
"""Memory of ``faithface inspect`` beyond what its libraries take, with ten times the network's size added."""


def readable_size(count: float) -> str:
    """Return a number of bytes for a message.

    Examples:
        >>> readable_size(4 << 30)
        '4 GiB'
        >>> readable_size(1500)
        '1.5 KiB'
    """
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.1f}".removesuffix(".0") + f" {unit}"
