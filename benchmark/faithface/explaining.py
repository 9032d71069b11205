"""Explaining, apart from runs: images from files, maps by an explainer, maps checked against the contract.

Place in the flow: above ``loading``; called by ``run`` for each shard, by ``figures`` and by ``answers``, so that all
of them explain and check alike. May call ``loading``, ``model`` and the contract.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faithface.card import ModelCard
from faithface.contract import Cost, Dataset, Explainer, Face, FaceModel, Maps, Pair, Sample, Samples
from faithface.errors import FaithfaceError, RunError, UsageError
from faithface.images import read_image
from faithface.loading import load_samples
from faithface.model import open_model
from faithface.reasons import Reason, ReasonCode


class WrongReturn(FaithfaceError):
    """A plugin returned something that breaks its contract; the text begins with "returned"."""


def load_images(
    card: ModelCard, images: Sequence[Path], device: str, seed: int, threshold: float | None = None
) -> tuple[Samples, FaceModel]:
    """Return one loaded sample or pair from files, and the open model."""
    model = open_model(card, device)
    return samples_from_files(model, images, seed, threshold), model


def samples_from_files(
    model: FaceModel,
    images: Sequence[Path],
    seed: int = 0,
    threshold: float | None = None,
    dataset: Dataset | None = None,
) -> Samples:
    """Return one loaded sample (one path) or pair (two) from files; ``dataset``: where fills look for other faces."""
    faces = [Face(path.stem, functools.partial(read_image, path)) for path in images]
    item: Any = Sample(faces[0].id, faces[0])
    if model.card.task == "verification":
        # Whether the two are the same person is not known here; no explainer may use it.
        item = Pair(f"{faces[0].id}--{faces[1].id}", faces[0], faces[1], same=False)
    return load_samples(model, [item], seed, threshold, dataset)


def samples_of(model: FaceModel, images: Sequence[Any], seed: int = 0, threshold: float | None = None) -> Samples:
    """Return one loaded sample (one image) or pair (two) from files or arrays H×W×3.

    Raises:
        UsageError: the wrong number of images for the task, or one that is no image.
    """
    wanted = 2 if model.card.task == "verification" else 1
    if len(images) != wanted:
        raise UsageError(
            f'model "{model.card.name}" is for {model.card.task} and needs {wanted} image{"s" * (wanted > 1)}; '
            f"got {len(images)}"
        )
    faces = [_face(one, "ab"[i] if wanted == 2 else "image") for i, one in enumerate(images)]
    item: Any = Sample(faces[0].id, faces[0])
    if wanted == 2:
        item = Pair(f"{faces[0].id}--{faces[1].id}", faces[0], faces[1], same=False)
    return load_samples(model, [item], seed, threshold)


def _face(image: Any, name: str) -> Face:
    if isinstance(image, str | Path):
        return Face(Path(image).stem, functools.partial(read_image, Path(image)))
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind not in "uf":
        raise UsageError(
            f"an image is an array of shape {array.shape} and {array.dtype}; expected H×W×3, uint8 or floats in [0, 1]"
        )
    scaled = array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
    if not (np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1):
        raise UsageError(f"an image holds values from {scaled.min():g} to {scaled.max():g}; expected 0 to 1, or uint8")
    return Face(name, lambda: scaled)


def explain(model: FaceModel, samples: Samples, explainer: Explainer) -> Maps:
    """Run an explainer and fill in what it cost: wall seconds, images forward and backward."""
    synchronise(model.device)
    start, forward, backward = time.perf_counter(), model.passes.forward, model.passes.backward
    maps = explainer.explain(model, samples)
    synchronise(model.device)
    seconds = time.perf_counter() - start
    if not isinstance(maps, Maps):
        what = {"NoneType": "nothing (None)"}.get(type(maps).__name__, type(maps).__name__)
        raise WrongReturn(f"returned {what}; expected Maps: Maps.from_views(…) or Maps(relevance=…)")
    cost = Cost(seconds, model.passes.forward - forward, model.passes.backward - backward)
    return dataclasses.replace(maps, cost=cost)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def check_maps(maps: Maps, samples: Samples) -> dict[int, Reason]:
    """Check maps against the contract.

    Returns:
        By sample index, why it has no map (:attr:`Maps.absent`) or why its map is invalid (values that are not finite);
        such samples get NaN with this reason.

    Raises:
        WrongReturn: a missing map, no tensor, a wrong shape or dtype, a gradient attached, or negative similarity: no
            sample can be scored.
    """
    height, width = samples.images.shape[-2:]
    expected = (len(samples), 2, height, width) if samples.are_pairs else (len(samples), height, width)
    names = ("similarity", "dissimilarity") if samples.are_pairs else ("relevance",)
    problems: dict[int, Reason] = {}
    for name in names:
        found: Tensor | None = getattr(maps, name)
        if found is None:
            raise WrongReturn(f"returned no {name} map; {samples_kind(samples)} need {' and '.join(names)}")
        if not isinstance(found, Tensor):
            kind = f"{type(found).__module__.partition('.')[0]}.{type(found).__name__}".removeprefix("builtins.")
            hint = "torch.from_numpy(…)" if isinstance(found, np.ndarray) else "torch.stack(…) of one per sample"
            raise WrongReturn(f"returned {name} as {kind}; expected a torch tensor: {hint}")
        if found.requires_grad:
            raise WrongReturn(f"returned {name} with its gradient attached; expected a plain tensor: {name}.detach()")
        if tuple(found.shape) != expected:
            raise WrongReturn(f"returned {name} of shape {tuple(found.shape)}; expected {expected}")
        if found.dtype != torch.float32:
            raise WrongReturn(f"returned {name} as {str(found.dtype).removeprefix('torch.')}; expected float32")
        finite = torch.isfinite(found).flatten(1).all(dim=1)
        for index in torch.nonzero(~finite).flatten().tolist():
            bad = Reason(ReasonCode.NON_FINITE_MAP, f"{name} map holds values that are not finite")
            problems.setdefault(index, maps.absent.get(index, bad))
        if samples.are_pairs and bool((found[finite] < 0).any()):
            raise WrongReturn(f"returned {name} with negative values; expected >= 0")
    return problems


def checked_maps(model: FaceModel, samples: Samples, explainer: Explainer) -> Maps:
    """Explain a batch of which every map must be valid.

    Raises:
        WrongReturn: see :func:`check_maps`.
        RunError: a map holds values that are not finite.
    """
    maps = explain(model, samples, explainer)
    problems = check_maps(maps, samples)
    if problems:
        raise RunError(next(iter(problems.values())).detail)
    return maps


def samples_kind(samples: Samples) -> str:
    return "pairs" if samples.are_pairs else "classifiers"


def what_happened(error: BaseException) -> str:
    """Return an exception as one line after its origin: our own messages unchanged, others with their class."""
    text = one_line(error)
    if isinstance(error, WrongReturn):
        return text
    if isinstance(error, FaithfaceError):
        return f"failed: {text}"
    return f"raised {type(error).__name__}: {text}" if text else f"raised {type(error).__name__}"


def one_line(error: BaseException) -> str:
    """Return the first line of an exception's text; "" if it has none, or raises."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # a plugin's own class, whose __str__ raises
        return ""
    return lines[0][:300] if lines else ""
