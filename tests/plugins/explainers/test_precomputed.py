"""``maps:DIR``: the layout is read as written, and every wrong file is one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from faithface.contract import Explainer
from faithface.errors import UsageError
from faithface_plugins.explainers.cams import GradCam
from faithface_plugins.explainers.precomputed import Precomputed


def open_maps(folder: Path, text: str = "") -> Explainer:
    return Precomputed().with_argument(f"{folder}{text}", lambda name: GradCam())


@pytest.mark.parametrize("task", ["pad", "verification"])
def test_exported_maps_come_back_bit_by_bit(opened: Callable[..., Any], tmp_path: Path, task: str) -> None:
    model, samples = opened("cnn", task)
    maps = GradCam().explain(model, samples)
    for i, sample_id in enumerate(samples.ids):
        np.savez_compressed(tmp_path / f"{sample_id}.npz", **{k: m[i].numpy() for k, m in maps.named().items()})
    found = open_maps(tmp_path).explain(model, samples)
    assert found.named().keys() == maps.named().keys()
    for kind, expected in maps.named().items():
        assert torch.equal(found.named()[kind], expected)
    assert found.native is None


def test_a_coarse_map_is_resized_and_kept_as_native(opened: Callable[..., Any], tmp_path: Path) -> None:
    model, samples = opened("cnn", n=2)
    coarse = np.random.default_rng(0).normal(size=(2, 7, 7)).astype(np.float32)
    for i, sample_id in enumerate(samples.ids):
        np.savez(tmp_path / f"{sample_id}.npz", relevance=coarse[i])
    found = open_maps(tmp_path).explain(model, samples)
    assert torch.equal(found.native, torch.from_numpy(coarse))
    assert tuple(found.relevance.shape) == (2, 32, 32)
    assert found.relevance[0, 0, 0] == pytest.approx(coarse[0, 0, 0])


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_grey_pngs_of_8_and_16_bits_are_read_as_0_to_1(
    opened: Callable[..., Any], tmp_path: Path, dtype: Any, top: int
) -> None:
    model, samples = opened("cnn", n=1)
    values = (np.linspace(0, top, 32 * 32).reshape(32, 32)).astype(dtype)
    Image.fromarray(values).save(tmp_path / f"{samples.ids[0]}.png")
    found = open_maps(tmp_path).explain(model, samples).relevance[0]
    np.testing.assert_allclose(found, values / np.float32(top), atol=1e-6)


def test_pngs_of_a_pair_and_a_missing_dissimilarity(opened: Callable[..., Any], tmp_path: Path) -> None:
    model, samples = opened("cnn", "verification", n=1)
    for side, value in zip("ab", (51, 255), strict=True):
        pixels = np.full((32, 32), value, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{samples.ids[0]}.similarity.{side}.png")
    found = open_maps(tmp_path).explain(model, samples)
    assert found.similarity.amax((2, 3)).tolist() == [[pytest.approx(0.2), 1.0]]
    assert found.dissimilarity.abs().max() == 0


def test_it_cannot_explain_again_and_keeps_its_declared_provenance(opened: Callable[..., Any], tmp_path: Path) -> None:
    model, samples = opened("cnn", n=1)
    np.savez(tmp_path / f"{samples.ids[0]}.npz", relevance=np.ones((4, 4)))
    explainer = open_maps(tmp_path, "(provenance=our 2023 paper)")
    assert not explainer.info.reexplains
    assert explainer.explain(model, samples).note["provenance"] == "our 2023 paper"


def write(folder: Path, name: str, what: str) -> None:
    path = folder / name
    if what == "text":
        path.write_text("this is not a map")
    elif what == "truncated":
        np.savez(path, relevance=np.ones((9, 9)))
        path.write_bytes(path.read_bytes()[:60])
    elif what == "pickle":
        np.savez(path, relevance=np.array([{"a": 1}], dtype=object))
    elif what == "other-key":
        np.savez(path, heat=np.ones((9, 9)))
    elif what == "colour":
        np.savez(path, relevance=np.ones((9, 9, 3)))
    elif what == "empty":
        np.savez(path, relevance=np.ones((0, 9)))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "no map of sample"),
        ("text", "not an npz"),
        ("truncated", "not an npz"),
        ("pickle", "holds object; expected real numbers"),
        ("other-key", "arrays found: heat"),
        ("colour", r"shape \(9, 9, 3\); expected H×W"),
        ("empty", r"shape \(0, 9\); expected H×W"),
    ],
)
def test_a_wrong_file_is_one_clear_line(opened: Callable[..., Any], tmp_path: Path, what: str, message: str) -> None:
    model, samples = opened("cnn", n=1)
    write(tmp_path, f"{samples.ids[0]}.npz", what)
    with pytest.raises(UsageError, match=message) as caught:
        open_maps(tmp_path).explain(model, samples)
    assert "\n" not in str(caught.value)


def test_negative_pair_maps_and_broken_images_are_refused(opened: Callable[..., Any], tmp_path: Path) -> None:
    model, samples = opened("cnn", "verification", n=1)
    path = tmp_path / f"{samples.ids[0]}.npz"
    np.savez(path, similarity=-np.ones((2, 9, 9)))
    with pytest.raises(UsageError, match="values below 0"):
        open_maps(tmp_path).explain(model, samples)
    path.unlink()
    for side in "ab":
        (tmp_path / f"{samples.ids[0]}.similarity.{side}.png").write_text("no image")
    with pytest.raises(UsageError, match="expected a grey PNG"):
        open_maps(tmp_path).explain(model, samples)


def test_a_missing_folder_is_refused_before_anything_runs(tmp_path: Path, opened: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        open_maps(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="write maps:DIR"):
        Precomputed().explain(*opened("cnn"))
