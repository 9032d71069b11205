"""Scores of every subset of players, for a whole set: what ``shortcuts`` takes its values from.

Place in the flow: below ``shortcuts`` and ``report``. May call ``players``, ``regions``, ``loading``, ``preprocessing``
and ``tasks``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from faithface.answers.players import Places, Things
from faithface.card import ModelCard
from faithface.contract import Dataset, Face, FaceModel, Pair, Sample
from faithface.errors import RunError, UsageError
from faithface.loading import clean_threshold, load_samples, read_face
from faithface.preprocessing import positive_columns
from faithface.regions.fills import make_fills
from faithface.regions.subsets import score_subsets
from faithface.regions.values import scalar_of
from faithface.tasks import class_probabilities

STILL = 1e-6  # scores that move less than this do not move
CERTAIN = 1e-6  # a probability nearer to 0 or 1 than this counts as this


def choose_items(data: Dataset, card: ModelCard, limit: int, seed: int) -> list[Sample | Pair]:
    """Return at most ``limit`` samples, evenly over classes (or kinds of pair), drawn by the seed, in their order.

    Raises:
        UsageError: samples of one class only.
    """
    items: list[Sample | Pair] = list(data.items())
    labels = [str(item.same) if isinstance(item, Pair) else item.label for item in items]
    known = sorted({label for label in labels if label is not None})
    if len(known) < 2:
        what = "kind of pair" if card.task == "verification" else "class"
        said = f": {known[0]}" if known and card.task != "verification" else ""
        raise UsageError(
            f'data set "{data.name}" has samples of one {what} only{said}; a shortcut tells classes apart, so both are '
            "needed"
        )
    rng = np.random.default_rng(seed)
    queues = [list(rng.permutation([i for i, label in enumerate(labels) if label == name])) for name in known]
    chosen: list[int] = []
    while len(chosen) < limit and any(queues):
        for queue in queues:
            if queue and len(chosen) < limit:
                chosen.append(int(queue.pop(0)))
    return [items[i] for i in sorted(chosen)]


def score_players(
    model: FaceModel, data: Dataset, items: Sequence[Sample | Pair], players: Things | Places, fills: int, seed: int
) -> np.ndarray:
    """Return the scores of all subsets of players, float64 N×F×2^k (F = 1 for things): a pass for each.

    Raises:
        RunError: scores that are not finite, or that never move.
    """
    if isinstance(players, Things):
        return checked(model, data, score_things([model], data, items, players)[0])
    columns = _columns(model, data)
    threshold = clean_threshold(model, data) if model.card.task == "verification" else None
    scores = [_score_places(model, data, item, players, fills, seed, threshold, columns) for item in items]
    return checked(model, data, np.stack(scores))


def score_things(
    models: Sequence[FaceModel], data: Dataset, items: Sequence[Sample | Pair], players: Things
) -> list[np.ndarray]:
    """Return, for each network, the scores of all subsets of things, float64 N×1×2^k; every image is read once.

    Memory: the 2^k images of one sample.
    """
    columns = [_columns(model, data) for model in models]
    scores: list[list[np.ndarray]] = [[] for _ in models]
    for item in items:
        faces: list[Face] = [item.faces[0], *(item.others[role] for role in players.roles[1:])]
        images = {
            size: torch.stack([read_face(face, size) for face in faces]) for size in {model.size for model in models}
        }
        for model, of_model, own in zip(models, scores, columns, strict=True):
            outputs = model.outputs(images[model.size].to(model.device)).cpu()
            of_model.append(log_odds(model.card, outputs, own).numpy())
    return [np.stack(of_model)[:, None] for of_model in scores]


def checked(model: FaceModel, data: Dataset, scores: np.ndarray) -> np.ndarray:
    """Return scores that say something.

    Raises:
        RunError: scores that are not finite, or that never move.
    """
    if not np.isfinite(scores).all():
        raise RunError(f'model "{model.card.name}" gives scores that are not finite on "{data.name}"')
    moved = float(np.abs(scores - scores[..., :1]).max())
    if moved < STILL:
        raise RunError(
            f'model "{model.card.name}": the score does not move whatever is replaced (largest change {moved:.1e} in '
            f"{scores.size} passes); there is nothing to explain: is its output constant?"
        )
    return scores


def _columns(model: FaceModel, data: Dataset) -> list[int]:
    return [] if model.card.task == "verification" else positive_columns(model.card, data)


def log_odds(card: ModelCard, outputs: Tensor, columns: Sequence[int]) -> Tensor:
    """Return the log-odds of the classes ``columns`` together, float64 N, from raw outputs N×K."""
    outputs = outputs.double()
    if card.output.kind == "logits":
        others = [i for i in range(len(card.output.classes)) if i not in columns]
        return outputs[:, list(columns)].logsumexp(dim=1) - outputs[:, others].logsumexp(dim=1)
    if card.output.kind == "logit":
        return outputs.reshape(-1) * (1 if list(columns) == [1] else -1)
    probability = class_probabilities(card, outputs)[:, list(columns)].sum(dim=1)
    return probability.clamp(CERTAIN, 1 - CERTAIN).logit()


def _score_places(
    model: FaceModel,
    data: Dataset,
    item: Sample | Pair,
    players: Places,
    fills: int,
    seed: int,
    threshold: float | None,
    columns: Sequence[int],
) -> np.ndarray:
    samples = load_samples(model, [item], seed, threshold, data)  # type: ignore[arg-type]
    strangers = make_fills(model, samples, "stranger", fills, data, tuple(face.id for face in item.faces))
    scalar: Callable[[Tensor], Tensor] = lambda outputs: log_odds(model.card, outputs, columns)  # noqa: E731
    if samples.are_pairs:
        scalar = scalar_of(model, samples)
    probe = samples.images[0, 0] if samples.are_pairs else samples.images[0]
    scores = score_subsets(model, probe, strangers.images, players.regions.labels, scalar)
    return scores - threshold if threshold is not None else scores
