"""The sound files that are mutated, and how each kind is read.

Place in the flow: used by ``mutations``. Files are rendered noise and a tiny network with random weights.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import io
import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from faithface.errors import FaithfaceError, RunError
from faithface.images import read_image
from faithface.limits import INSPECT_BYTES
from faithface.npz import read_npz

CARD = """[model]
name = "net"
task = "pad"
file = "net.onnx"
family = "net"
run = 0

[input]
size = [24, 24]
color = "RGB"
mean = [0.5, 0.4, 0.3]
std = [0.5]

[output]
kind = "logits"
classes = ["bona-fide", "attack"]
positive = "attack"

[explain]
layer = ""
"""
SUITE = """[suite]
name = "short"
version = 0
description = "A suite"
seed = 3
limit = 8
models = ["net"]
datasets = ["planted-pad"]
explainers = ["grad-cam", "fggb(reading=signed)"]
metrics = ["gap@1", "deletion@1(grid=14)"]

[[suite.published]]
explainer = "x"
protocol = "gap@1"
value = 0.5
source = "a paper"
"""


class Caught(Exception):
    """A library's own error, which ``faithface inspect`` prints as one line."""


def warm_up(kinds: Sequence[str]) -> None:
    """Import what the kinds need before children are forked; no thread may run yet."""
    for name in ("faithface_plugins.datasets.pairs", "faithface_plugins.datasets.bins", "faithface.run.suite"):
        importlib.import_module(name)
    finished_run()
    if any(kind.startswith("onnx") for kind in kinds):
        importlib.import_module("faithface.model.inspect")
        importlib.import_module("onnxscript.optimizer")
        importlib.import_module("faithface.model._torchvision").import_onnx2pytorch()


def prepare(folder: Path) -> None:
    """Put what files refer to into a folder: images, a card and a network."""
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    for name, content in finished_run().items():
        (folder / name).write_bytes(content)
    (folder / "card.toml").write_text(CARD)
    (folder / "net.onnx").write_bytes(_network())


def images() -> dict[str, bytes]:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    whole = Image.fromarray(coarse).resize((40, 32))
    made = {}
    for name, kind, mode, options in (
        ("a.png", "PNG", "RGB", {}),
        ("b.png", "PNG", "RGBA", {}),
        ("c.png", "PNG", "P", {}),
        ("d.jpg", "JPEG", "RGB", {}),
        (
            "e.jpg",
            "JPEG",
            "RGB",
            {"progressive": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0"},
        ),
        ("f.jpg", "JPEG", "CMYK", {}),
        ("g.bmp", "BMP", "RGB", {}),
        ("h.bmp", "BMP", "P", {}),
        ("i.webp", "WEBP", "RGB", {}),
        ("j.webp", "WEBP", "RGBA", {"lossless": True}),
    ):
        buffer = io.BytesIO()
        whole.convert(mode).save(buffer, kind, **options)
        made[name] = buffer.getvalue()
    deep = io.BytesIO()
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50).save(deep, "PNG")
    return {**made, "k.png": deep.getvalue()}


def cards() -> dict[str, bytes]:
    return {"made.toml": CARD.encode()}


def suites() -> dict[str, bytes]:
    return {"suite.toml": SUITE.encode()}


def tables() -> dict[str, bytes]:
    text = "image_a,image_b,same,identity_a,identity_b\na.png,b.png,1,x,x\na.png,c.png,0,x,y\nb.png,c.png,0,x,y\n"
    return {"u8.csv": text.encode(), "u16.csv": text.encode("utf-16"), "semi.csv": text.replace(",", ";").encode()}


def bins() -> dict[str, bytes]:
    raw = []
    for seed in range(4):
        buffer = io.BytesIO()
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((112, 112)).save(buffer, "JPEG")
        raw.append(buffer.getvalue())
    arrays = [np.frombuffer(data, dtype=np.uint8) for data in raw]
    return {
        f"{name}{protocol}.bin": pickle.dumps((images, [True, False]), protocol=protocol)
        for protocol in (2, 4, 5)
        for name, images in (("bytes", raw), ("arrays", arrays))
    }


def npz_files() -> dict[str, bytes]:
    rng, made = np.random.default_rng(0), {}
    for name, save in (("stored.npz", np.savez), ("packed.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        save(buffer, similarity=rng.random((2, 9, 9)), dissimilarity=rng.random((2, 9, 9)).astype(np.float32))
        made[name] = buffer.getvalue()
    return made


@functools.cache
def finished_run() -> dict[str, bytes]:
    """Return the files of a finished run, whose values are made up: its store, and one of its records.

    The run is made in a fresh interpreter: it leaves threads, for which forked children of this process would wait, and
    a fork of this process would wait for the threads that it has already.
    """
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-m", "tests.soak.seeds"], cwd=root, stdout=subprocess.PIPE, check=True)
    made: dict[str, bytes] = pickle.loads(done.stdout)
    return made


def _finished_run() -> dict[str, bytes]:
    from faithface.api import execute
    from tests.soak.faults import made_up, make_plan

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plan = make_plan(folder)
        execute(plan, folder / "run", executor=made_up)
        files = sorted((folder / "run" / "records").rglob("*"))
        made = {path.name: path.read_bytes() for path in files if path.is_file() and path.parent == files[-1].parent}
        first = min(made).partition(".")[0]
        made = {name: content for name, content in made.items() if name.startswith(first)}
        return {"run.sqlite": (folder / "run" / "run.sqlite").read_bytes(), **made}


def stores() -> dict[str, bytes]:
    return {"run.sqlite": finished_run()["run.sqlite"]}


def records() -> dict[str, bytes]:
    return {name: content for name, content in finished_run().items() if name.endswith(".json")}


def value_tables() -> dict[str, bytes]:
    return {name: content for name, content in finished_run().items() if name.endswith(".parquet")}


def networks() -> dict[str, bytes]:
    return {"net.onnx": _network()}


def _network() -> bytes:
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> TensorProto:
        values = rng.normal(0, 0.3, shape).astype(np.float32)
        return helper.make_tensor(name, TensorProto.FLOAT, shape, values.tobytes(), raw=True)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], "conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c2"], ["r2"], "act2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "gap"),
        helper.make_node("Reshape", ["g", "shape"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 24, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [
            *(weights("w1", 6, 3, 3, 3), weights("b1", 6), weights("w2", 8, 6, 3, 3), weights("w3", 8, 2)),
            *(weights("b3", 2), helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 8])),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


# --- readers


def read_image_file(path: Path) -> None:
    pixels = read_image(path)
    assert pixels.dtype == np.float32
    assert pixels.ndim == 3
    assert 0 <= pixels.min() <= pixels.max() <= 1


def read_card_file(path: Path) -> None:
    from faithface.card import load_card

    json.dumps(load_card(path).model_dump(mode="json"), allow_nan=False)


def read_suite_file(path: Path) -> None:
    from faithface.run.suite import load_suite

    json.dumps(load_suite(path).model_dump(mode="json"), allow_nan=False)


def read_pairs_file(path: Path) -> None:
    from faithface_plugins.datasets.pairs import Pairs

    data = Pairs().with_argument(str(path))
    items = data.items()
    assert len({item.id for item in items}) == len(items) > 0
    for line in (data.revision, *data.notes(), *data.absent(), *(item.id for item in items)):
        line.encode("utf-8")
    for item in items[:3]:
        item.a.read()


def read_bin_file(path: Path) -> None:
    from faithface_plugins.datasets.bins import Bin

    for pair in Bin().with_argument(str(path)).items():
        for face in pair.faces:
            assert face.read().shape == (112, 112, 3)


def read_npz_file(path: Path) -> None:
    for array in read_npz(path).values():
        assert array.dtype.kind in "biuf"


def read_store_file(path: Path) -> None:
    """Read a store as ``status``, ``export`` and ``run`` do; values that differ from the sound ones must be noticed."""
    from faithface.run.export import run_values
    from faithface.run.status import state_of
    from faithface.run.store import create_or_resume, open_run

    for beside in path.parent.glob("run.sqlite-*"):  # of the case before
        beside.unlink()
    state_of(path.parent)
    with open_run(path.parent) as store:
        values = run_values(store)
    with create_or_resume(path.parent, {"seed": 0, "device": "cpu"}) as store:
        damaged: list[Any] = [found for cell in store.cells() for found in store.damaged(cell["id"])]
        damaged += [number for group in store.groups() for number in store.damaged_samples(group["id"])]
    if damaged:
        raise RunError("what was altered is noticed, and computed again")
    if set(values.rows()) != _sound_values():
        raise AssertionError("values were altered, and nothing notices")


@functools.cache
def _sound_values() -> frozenset[Any]:
    from faithface.run.export import run_values
    from faithface.run.store import open_run

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "run.sqlite").write_bytes(finished_run()["run.sqlite"])
        with open_run(folder) as store:
            return frozenset(run_values(store).rows())


def read_record_file(path: Path) -> None:
    from faithface.boards.record import read_record

    json.dumps(read_record(path).record.model_dump(mode="json"), allow_nan=False)


def read_values_file(path: Path) -> None:
    """Read a table of values or curves whose digest is right, as somebody who alters one can make it."""
    from faithface.boards.record import CURVE_SCHEMA, VALUE_SCHEMA, read_frame

    schema = CURVE_SCHEMA if path.stem.endswith("~curves") else VALUE_SCHEMA
    read_frame(path, hashlib.sha256(path.read_bytes()).hexdigest(), schema)


def inspect_network(path: Path) -> None:
    """Inspect the network through its card, as the child of ``faithface inspect`` does."""
    from faithface.guarded import limit_process
    from faithface.model.inspect import inspect_model

    limit_process(18, INSPECT_BYTES)
    try:
        inspect_model(path.with_name("card.toml")).text()
    except FaithfaceError:
        raise
    except Exception as error:
        raise Caught from error


if __name__ == "__main__":
    sys.stdout.buffer.write(pickle.dumps(_finished_run()))
