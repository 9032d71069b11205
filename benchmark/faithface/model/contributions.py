"""The network's own mechanism, where its card declares one: what each patch of the image contributes to the score.

Place in the flow: called by metrics and explainers that need this ground truth; calls ``session`` and ``twin``
(preprocessing), ``card``, ``contract``, ``errors``. Networks of this kind ship as ``exact-*`` (docs/models/exact.md).

Contributions are signed and add up: offset + Σ_p c_p is the score, which is the cosine of a pair, the difference of two
logits, or a logit (``[contributions]`` of the card). Patches are numbered row by row. P is their number, H×W the
model's input size.

What a perturbation with a fill can show is not c_p but c_p minus what the fill itself contributes in its place:
:func:`contributions_beyond_fill`. These values sum to the score of the clean image minus the score of the fill image.
"""

from __future__ import annotations

from itertools import combinations
from math import factorial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from faithface.card import ContributionsCard, ModelCard
from faithface.contract import Samples
from faithface.errors import NotApplicable, UsageError
from faithface.model.twin import preprocess
from faithface.reasons import ReasonCode
from faithface.tasks import pair_similarity

if TYPE_CHECKING:
    from faithface.model.onnx_model import OnnxModel

Of = Literal["positive", "predicted"]


def declared(card: ModelCard) -> ContributionsCard:
    """Return the card's section ``[contributions]``.

    Raises:
        NotApplicable: it has none.
    """
    if card.contributions is None:
        raise NotApplicable(
            f'model "{card.name}" does not give its contributions: its card has no section [contributions]; '
            "the models exact-* have one",
            ReasonCode.NO_GROUND_TRUTH,
        )
    return card.contributions


def contributions(model: OnnxModel, samples: Samples, of: Of = "positive") -> Tensor:
    """Return the signed contribution of each patch to the score of each sample.

    Args:
        model: its card must have a section ``[contributions]``.
        samples: N samples, or N pairs.
        of: the class whose score is meant; pairs have one score only. With ``predicted``, the sign of a logit
            difference follows the class that the model predicts on the clean image.

    Returns:
        float32 N×P. For a pair the value of a patch belongs to both faces: the similarity is one sum over patches.

    Raises:
        NotApplicable: the card declares no contributions.
        UsageError: the samples are of another task; the output has another shape than the card says, or its
            contributions do not sum to the score.
    """
    _check_samples(model, samples)
    if samples.are_pairs:
        rows = _rows(model, samples)
        values = (rows[:, 0] * rows[:, 1]).sum(dim=2)
    else:
        values = _for_class(model, _rows(model, samples), _classes(model, samples, of))
    _check_sums(model, samples, values, of)
    return values


def contributions_beyond_fill(model: OnnxModel, samples: Samples, fills: Tensor, of: Of = "positive") -> Tensor:
    """Return what each patch contributes beyond the fill that would replace it.

    It is the Shapley value of the patch in the game "this patch, or the fill's". Where patches do not interact it is
    the contribution of the clean patch minus the contribution with that patch replaced. Interacting patches
    (``contributions.interacting``) are enumerated: 2 to the power of their number passes per image.

    Args:
        fills: float32 N×S×3×H×W in [0, 1], as ``perturb.fills.fill_images`` returns them. S = 1: the image, or the
            probe of the pair is altered; S = 2 (pairs only): also the reference, on its own.
        of: as for :func:`contributions`.

    Returns:
        float32 N×S×P. Each row sums to the score of the clean sample minus the score with the whole image filled.

    Raises:
        NotApplicable, UsageError: as :func:`contributions`; ``fills`` has another shape.
    """
    clean = contributions(model, samples, of)
    _check_fills(model, samples, fills)
    sides = fills.shape[1]
    raw = _chunked(model, fills.flatten(0, 1)).unflatten(0, (len(samples), sides))
    if samples.are_pairs:
        other = _rows(model, samples).flip(1)[:, :sides]
        return clean[:, None] - (raw * other).sum(dim=3)
    classes = _classes(model, samples, of)
    values = clean - _for_class(model, raw[:, 0], classes)
    players = declared(model.card).interacting
    if players:
        values[:, list(players)] = _shapley(model, samples.images, fills[:, 0], classes)
    return values[:, None]


def contribution_maps(card: ModelCard, values: Tensor) -> Tensor:
    """Spread patch values over the pixels of their patches: …×P to …×H×W.

    Each pixel gets its patch's value divided by the number of pixels of a patch, so that a map sums to its score (minus
    the offset), and the sum over a patch is its contribution.
    """
    (rows, columns), (height, width) = declared(card).grid, card.input.size
    down, across = height // rows, width // columns
    grid = values.unflatten(-1, (rows, columns)) / (down * across)
    return grid.repeat_interleave(down, dim=-2).repeat_interleave(across, dim=-1)


def score_of(model: OnnxModel, samples: Samples, of: Of = "positive") -> Tensor:
    """Return the score that offset and contributions sum to, float32 N, from the clean outputs of the samples."""
    outputs = samples.clean.outputs
    if samples.are_pairs:
        return pair_similarity(model.card, outputs[:, 0], outputs[:, 1])
    return _class_score(model, outputs, _classes(model, samples, of))


# --- reading the output -----------------------------------------------------------------------------------------------


def _rows(model: OnnxModel, samples: Samples) -> Tensor:
    """Return the second output of the clean images, read once per batch: N×…, for pairs N×2×P×D."""
    return samples.cached(_read_rows, model)


def _read_rows(samples: Samples, model: OnnxModel) -> Tensor:
    raw = _chunked(model, samples.images.flatten(0, 1) if samples.are_pairs else samples.images)
    return raw.unflatten(0, (len(samples), 2)) if samples.are_pairs else raw


def _chunked(model: OnnxModel, images: Tensor) -> Tensor:
    """Return the declared output for M×3×H×W images in [0, 1], in batches that the model can take."""
    size = model.fixed_batch or model.batch_size
    parts = []
    for start in range(0, len(images), size):
        part = images[start : start + size].to(torch.float32)
        count = len(part)
        if model.fixed_batch and count < size:
            part = torch.cat([part, part[-1:].expand(size - count, *part.shape[1:])])
        ready = preprocess(part, model.card.input).cpu().numpy()
        parts.append(model.session.run(ready, declared(model.card).output)[:count])
    model.count(forward=len(images))
    found = torch.from_numpy(np.concatenate(parts)).to(images.device)
    return _shaped(model.card, found)


def _shaped(card: ModelCard, found: Tensor) -> Tensor:
    """Check the output's shape against the card."""
    patches = declared(card).patches
    forms: dict[str, tuple[int | str, ...]] = {
        "similarity": (patches, "D"),
        "logits": (patches, len(card.output.classes)),
        "logit-difference": (patches,),
    }
    expected = forms[declared(card).sums_to]
    shape = found.shape[1:]
    if len(shape) != len(expected) or any(e not in ("D", s) for e, s in zip(expected, shape, strict=True)):
        raise UsageError(
            f"{card.path}: output '{declared(card).output}' has shape N×{'×'.join(map(str, shape))}; the card's "
            f"[contributions] says grid {list(declared(card).grid)} and sums_to {declared(card).sums_to}, which is "
            f"N×{'×'.join(map(str, expected))}"
        )
    return found


def _check_samples(model: OnnxModel, samples: Samples) -> None:
    pairs = declared(model.card).sums_to == "similarity"
    if samples.are_pairs != pairs:
        got, wanted = ("pairs", "single images") if samples.are_pairs else ("single images", "pairs")
        raise UsageError(f'model "{model.card.name}" has contributions for {wanted}; got samples that are {got}')


def _check_fills(model: OnnxModel, samples: Samples, fills: Tensor) -> None:
    most = 2 if samples.are_pairs else 1
    size = (3, *model.card.input.size)
    if fills.ndim != 5 or len(fills) != len(samples) or not 1 <= fills.shape[1] <= most or fills.shape[2:] != size:
        raise UsageError(
            f"fills have shape {'×'.join(map(str, fills.shape))}; expected {len(samples)}×S×{'×'.join(map(str, size))} "
            f"with S = {'1 or 2' if most == 2 else '1'}, as fill_images returns them"
        )


def _check_sums(model: OnnxModel, samples: Samples, values: Tensor, of: Of) -> None:
    """Refuse a file whose second output is not a decomposition of its first: it is not ground truth."""
    score = score_of(model, samples, of).to(values)
    sign = _signs(model, _classes(model, samples, of)) if not samples.are_pairs else 1.0
    total = values.sum(dim=1) + declared(model.card).offset * sign
    error = (total - score).abs() / score.abs().clamp(min=1)
    worst = int(error.argmax())
    if not float(error[worst]) <= model.execution_target.tolerance:
        raise UsageError(
            f"{model.card.path}: the contributions of sample {samples.ids[worst]} sum to {float(total[worst]):.6g}, "
            f"offset included, but its score is {float(score[worst]):.6g}; [contributions] of the card does not "
            "describe this file (grid, sums_to, offset)"
        )


# --- classes ----------------------------------------------------------------------------------------------------------


def _positive(card: ModelCard) -> int:
    """Return the index of the positive class; without one on the card, of the second."""
    return card.output.classes.index(card.output.positive) if card.output.positive else 1


def _classes(model: OnnxModel, samples: Samples, of: Of) -> Tensor:
    """Return the class whose score is meant, int64 N."""
    if of not in ("positive", "predicted"):
        raise UsageError(f"of is {of!r}; expected 'positive' or 'predicted'")
    predicted = samples.clean.predicted
    return predicted if of == "predicted" else torch.full_like(predicted, _positive(model.card))


def _signs(model: OnnxModel, classes: Tensor) -> Tensor:
    """Return +1 or −1: the other class's logit difference is the negative one. Logits of their own have no sign."""
    if declared(model.card).sums_to == "logits":
        return torch.ones_like(classes)
    return torch.where(classes == _positive(model.card), 1, -1)


def _for_class(model: OnnxModel, raw: Tensor, classes: Tensor) -> Tensor:
    """Return N×P of the given classes from the output N×P, or N×P×C."""
    if raw.ndim == 3:
        return raw.gather(2, classes.to(raw.device)[:, None, None].expand(-1, raw.shape[1], 1))[:, :, 0]
    return raw * _signs(model, classes).to(raw)[:, None]


def _class_score(model: OnnxModel, outputs: Tensor, classes: Tensor) -> Tensor:
    """Return the logit of the given classes, or its difference to the other class's, from raw outputs N×K."""
    classes = classes.to(outputs.device)
    if outputs.shape[1] == 1:  # one unit: the logit of the second class against the first
        return torch.where(classes == 1, outputs[:, 0], -outputs[:, 0])
    own = outputs.gather(1, classes[:, None])[:, 0]
    if declared(model.card).sums_to == "logits":
        return own
    return own - outputs.gather(1, 1 - classes[:, None])[:, 0]


# --- patches that interact --------------------------------------------------------------------------------------------


def _shapley(model: OnnxModel, images: Tensor, fills: Tensor, classes: Tensor) -> Tensor:
    """Return the Shapley values of the interacting patches, N×k, by all 2^k coalitions.

    The other patches stay clean: they add the same to every coalition.
    """
    players = declared(model.card).interacting
    k = len(players)
    values: dict[frozenset[int], Tensor] = {}
    for size in range(k + 1):
        for chosen in combinations(range(k), size):
            mixed = images.clone()
            for at in set(range(k)) - set(chosen):
                box = _patch_box(model.card, players[at])
                mixed[..., box[0], box[1]] = fills[..., box[0], box[1]]
            values[frozenset(chosen)] = _class_score(model, model.outputs(mixed), classes)
    found = torch.zeros(len(images), k, device=images.device)
    for coalition, value in values.items():
        for at in set(range(k)) - coalition:
            share = factorial(len(coalition)) * factorial(k - len(coalition) - 1) / factorial(k)
            found[:, at] += share * (values[coalition | {at}] - value)
    return found


def _patch_box(card: ModelCard, patch: int) -> tuple[slice, slice]:
    """Return the rows and columns of pixels of a patch."""
    (rows, columns), (height, width) = declared(card).grid, card.input.size
    down, across = height // rows, width // columns
    y, x = divmod(patch, columns)
    return slice(y * down, (y + 1) * down), slice(x * across, (x + 1) * across)
