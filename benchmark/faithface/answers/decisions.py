"""What a network decides on a whole set: error rates, and the samples of each kind of outcome.

Place in the flow: the first part of ``report``. May call ``contract``, ``loading``, ``preprocessing`` and ``tasks``.

An *accept* is what a system lets through: a pair taken for one person, a face taken for bona fide or real. So the four
outcomes have the same names for all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import stats

from faithface.contract import Dataset, FaceModel, Pair, Sample
from faithface.errors import RunError, UsageError
from faithface.loading import dataset_scores, read_face
from faithface.preprocessing import positive_columns
from faithface.tasks import accepted as accepted_at
from faithface.tasks import auc, class_probabilities, equal_error_rate, threshold_on

SHOWN = 4  # samples of an outcome, the least certain and the most certain in halves

Outcome = Literal["true accept", "false accept", "false reject", "true reject"]
OUTCOMES: tuple[Outcome, ...] = ("true accept", "true reject", "false accept", "false reject")


@dataclass(frozen=True)
class Rate:
    """A share with its count and 95 % interval (Wilson, 1927): ``count`` of ``n``."""

    count: int
    n: int

    @property
    def share(self) -> float:
        return self.count / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The interval; it takes samples for independent."""
        if not self.n:
            return float("nan"), float("nan")
        found = stats.binomtest(self.count, self.n).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Shown:
    """One sample: its pictures H×W×3, its acceptance (see :class:`Decisions`), and how far it lies from the limit."""

    sample: str
    pictures: tuple[np.ndarray, ...]
    score: float
    distance: float


@dataclass(frozen=True)
class Decisions:
    """The network's decisions on a set.

    Attributes:
        n: samples with a known answer.
        unknown: samples without one, which count nowhere.
        accuracy: share of right decisions.
        false_accepts: of those that should be rejected (FMR; APCER over all attacks together).
        false_rejects: of those that should be accepted (FNMR; BPCER).
        eer: equal error rate: the mean of both at the threshold where they are nearest to each other.
        auc: area under the ROC curve.
        threshold: the acceptance from which on a sample is accepted; NaN for a classifier of several classes.
        threshold_from: where it comes from.
        eer_threshold: the one at the equal-error point of this set.
        score_name: what the acceptance is: a similarity, or 1 − the probability of the positive class.
        accepts, rejects: float64: acceptances of those that should be accepted, and rejected.
        outcomes: samples by outcome, the least certain first.
        counts: how many there are of each.
    """

    n: int
    unknown: int
    accuracy: Rate
    false_accepts: Rate
    false_rejects: Rate
    eer: float
    auc: float
    threshold: float
    threshold_from: str
    eer_threshold: float
    score_name: str
    accepts: np.ndarray
    rejects: np.ndarray
    outcomes: dict[Outcome, tuple[Shown, ...]]
    counts: dict[Outcome, int]


def decide(model: FaceModel, data: Dataset) -> Decisions:
    """Score a whole set and sort its samples by outcome.

    Raises:
        UsageError: a set of one class only, or labels that the card does not know.
        RunError: scores that are not finite.
    """
    items: list[Sample | Pair] = list(data.items())
    if model.card.task == "verification":
        scores, wanted = dataset_scores(model, data)
        scores = scores.astype(np.float64)
        known = np.ones(len(items), dtype=bool)
        name = "cosine similarity" if model.card.output.similarity == "cosine" else "minus distance"
    else:
        scores, wanted, known = _acceptances(model, data, items)
        name = f"1 − probability of {_positive(model, data)}"
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise RunError(f'model "{model.card.name}" gives scores that are not finite for {bad} of {len(scores)} samples')
    at = np.flatnonzero(known)
    _need_both(data, wanted[at], model.card.task)
    scores, wanted = scores[at], wanted[at]
    eer, eer_threshold = equal_error_rate(scores, wanted)
    given = threshold_on(model.card) if model.card.task == "verification" else 0.5
    threshold = eer_threshold if given is None else given
    origin = "of the card" if given is not None else "equal-error point of this set"
    if model.card.task != "verification":
        origin = "the more probable side"
    accepted = accepted_at(scores, threshold)
    false = Rate(int((accepted & ~wanted).sum()), int((~wanted).sum()))
    missed = Rate(int((~accepted & wanted).sum()), int(wanted.sum()))
    outcomes, counts = _sorted(model, [items[i] for i in at], scores, scores - threshold, accepted, wanted)
    return Decisions(
        n=len(at),
        unknown=int((~known).sum()),
        accuracy=Rate(int((accepted == wanted).sum()), len(at)),
        false_accepts=false,
        false_rejects=missed,
        eer=eer,
        auc=auc(scores, wanted),
        threshold=threshold,
        threshold_from=origin,
        eer_threshold=eer_threshold,
        score_name=name,
        accepts=scores[wanted],
        rejects=scores[~wanted],
        outcomes=outcomes,
        counts=counts,
    )


def _positive(model: FaceModel, data: Dataset) -> str:
    classes = model.card.output.classes
    return " or ".join(classes[i] for i in positive_columns(model.card, data))


def _acceptances(
    model: FaceModel, data: Dataset, items: Sequence[Sample | Pair]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return 1 − the positive side's probability, whether the label is of the other side, and whether it is known."""
    classes = model.card.output.classes
    columns = positive_columns(model.card, data)
    parts = []
    for start in range(0, len(items), 64):
        batch = torch.stack([read_face(item.faces[0], model.size) for item in items[start : start + 64]])
        outputs = model.outputs(batch.to(model.device)).cpu()
        parts.append(class_probabilities(model.card, outputs)[:, columns].sum(dim=1))
    labels = [getattr(item, "label", None) for item in items]
    marks = {classes[i] for i in columns} | ({data.positive} if data.positive else set())
    others = {name for i, name in enumerate(classes) if i not in columns}
    # Where the set says what is positive, every other label of its own is the other side.
    known = np.array(
        [label is not None and (label in marks or label in others or bool(data.positive)) for label in labels]
    )
    if not known.any():
        found = sorted({str(label) for label in labels})
        raise UsageError(
            f'data set "{data.name}" has the labels {", ".join(found)}; model "{model.card.name}" knows '
            f"{', '.join(classes)}: rename the folders or the card's classes, or say which label is positive "
            f"({data.name}:…(positive=NAME))"
        )
    return 1 - torch.cat(parts).double().numpy(), np.array([label not in marks for label in labels]), known


def _need_both(data: Dataset, wanted: np.ndarray, task: str) -> None:
    if wanted.any() and not wanted.all():
        return
    sides = ("genuine pairs", "impostor pairs") if task == "verification" else ("one class", "the other")
    there = sides[0] if len(wanted) and wanted.all() else sides[1]
    what = f"{there} only" if task == "verification" else "samples of one class only"
    raise UsageError(
        f'data set "{data.name}" has {what if len(wanted) else "no samples with a known label"}; error rates need both '
        "sides"
    )


def _sorted(
    model: FaceModel,
    items: Sequence[Sample | Pair],
    scores: np.ndarray,
    distance: np.ndarray,
    accepted: np.ndarray,
    wanted: np.ndarray,
) -> tuple[dict[Outcome, tuple[Shown, ...]], dict[Outcome, int]]:
    masks: dict[Outcome, np.ndarray] = {
        "true accept": accepted & wanted,
        "true reject": ~accepted & ~wanted,
        "false accept": accepted & ~wanted,
        "false reject": ~accepted & wanted,
    }
    shown: dict[Outcome, tuple[Shown, ...]] = {}
    for name, mask in masks.items():
        order = np.flatnonzero(mask)[np.argsort(np.abs(distance[mask]), kind="stable")]
        chosen = order if len(order) <= SHOWN else np.concatenate([order[: SHOWN // 2], order[-SHOWN // 2 :]])
        shown[name] = tuple(
            Shown(
                items[int(i)].id,
                tuple(read_face(face, model.size).numpy().transpose(1, 2, 0) for face in items[int(i)].faces),
                float(scores[i]),
                float(distance[i]),
            )
            for i in chosen
        )
    return shown, {name: int(mask.sum()) for name, mask in masks.items()}
