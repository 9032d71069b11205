"""The checks of models.

Place in the flow: ``check_model`` is what plugin authors call, through ``faithface.testing``. Opens the model as a run
does, and feeds it images of its own size. May call ``findings``, ``subjects`` and the core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from faithface.card import InputCard, ModelCard, load_card
from faithface.contract import Dataset, FaceModel
from faithface.errors import FaithfaceError, NotApplicable
from faithface.hashing import model_digest
from faithface.loading import load_samples, read_faces
from faithface.run.choice import choose
from faithface.tasks import class_probabilities
from faithface.testing.findings import Check, CheckFailed, CheckSkipped, Report, Severity, expect, require, run_checks
from faithface.testing.subjects import picture

BATCH = 16
"""Images in a pass; a number is given so that none is measured."""
TOLERANCE = 1e-3
BETTER = 0.1
"""By how much another reading of the pixels must separate the classes better before the card's is called wrong."""


@dataclass
class Trial:
    """A model, and the dataset that its author named."""

    card: ModelCard
    device: str = "cpu"
    dataset: Dataset | None = None
    limit: int = 24

    @cached_property
    def model(self) -> FaceModel:
        from faithface.model import open_model

        return open_model(self.card, self.device, BATCH)

    @cached_property
    def images(self) -> torch.Tensor:
        """Six images: coloured patches on grey, and noise."""
        size = self.card.input.size
        rng = np.random.default_rng(0)
        noise = rng.random((2, *size, 3), dtype=np.float32)
        small = [picture(i, (32, 32), [("green", 7), ("red", 5)]).read() for i in range(4)]
        made = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)
        made = torch.nn.functional.interpolate(made, size=size, mode="bilinear", align_corners=False)
        return torch.cat([made, torch.from_numpy(noise).permute(0, 3, 1, 2)]).clamp(0, 1).to(self.model.device)

    @cached_property
    def outputs(self) -> torch.Tensor:
        return self.model.outputs(self.images)

    @property
    def scale(self) -> float:
        return max(float(self.outputs.abs().max()), 1e-12)

    @cached_property
    def items(self) -> list[Any]:
        """Samples of the dataset, as many of each class or kind."""
        if self.dataset is None:
            raise CheckSkipped("no dataset was given")
        items = self.dataset.items()
        return [items[i] for i in choose(items, self.limit, 0)]

    @cached_property
    def pixels(self) -> Mapping[str, torch.Tensor]:
        return read_faces(self.items, self.model.size)

    def separation(self, card: ModelCard) -> float:
        """Return the area under the ROC curve of the positive class, or of genuine pairs, by this card."""
        from faithface.model import open_model

        model = self.model if card is self.card else open_model(card, self.device, BATCH)
        items = self.items
        samples = load_samples(model, items, threshold=0.0, pixels=self.pixels)
        if samples.are_pairs:
            truth, scores = samples.genuine, samples.clean.scores.cpu().numpy()
        else:
            positive = card.output.positive or (self.dataset.positive if self.dataset else "")
            at = card.output.classes.index(positive)
            truth = np.array([item.label == positive for item in items])
            scores = class_probabilities(card, samples.clean.outputs)[:, at].cpu().numpy()
        if truth.all() or not truth.any():
            raise CheckSkipped("the dataset has samples of one kind only")
        return float(roc_auc_score(truth, scores))


def opens(trial: Trial) -> str | None:
    try:
        _ = trial.model
    except FaithfaceError as error:
        raise CheckFailed(str(error)) from None
    return None


def complete_card(trial: Trial) -> str | None:
    empty = [key for key in ("licence", "source") if not getattr(trial.card, key)]
    if trial.card.task != "verification" and not trial.card.output.positive:
        empty.append("output.positive")
    require(not empty, f"the card leaves empty: {', '.join(empty)}")
    return None


def pinned(trial: Trial) -> str | None:
    found = model_digest(trial.card.path)
    require(trial.card.sha256, f'the card has no sha256: write sha256 = "{found}"')
    return None


def finite(trial: Trial) -> str | None:
    require(torch.isfinite(trial.outputs).all(), "outputs hold NaN or infinity for ordinary images")
    extremes = torch.stack([torch.zeros_like(trial.images[0]), torch.ones_like(trial.images[0])])
    require(
        torch.isfinite(trial.model.outputs(extremes)).all(), "outputs hold NaN or infinity for a black or white image"
    )
    return None


def output_kind(trial: Trial) -> str | None:
    """Outputs are what the card says: probabilities are, one column per class."""
    out, card = trial.outputs, trial.card.output
    width = {"logits": len(card.classes), "probabilities": len(card.classes), "logit": 1, "probability": 1}.get(
        card.kind
    )
    if width is not None:
        require(
            out.shape[1] == width,
            f"the network gives {out.shape[1]} numbers; {card.kind} of {len(card.classes)} classes are {width}",
        )
    if card.kind == "probabilities":
        total = out.sum(dim=1)
        require(
            (out >= -1e-5).all() and (total - 1).abs().max() < 1e-3,
            f"the card says probabilities, but a row sums to {float(total[0]):.4g}",
        )
    if card.kind == "probability":
        require(
            (out >= -1e-5).all() and (out <= 1 + 1e-5).all(),
            f"the card says probability, but a value is {float(out.max()):.4g}",
        )
    if card.kind == "logits" and ((out >= 0).all() and (out.sum(dim=1) - 1).abs().max() < 1e-4):
        raise CheckFailed("the card says logits, but all rows are positive and sum to 1: they are probabilities")
    return None


def deterministic(trial: Trial) -> str | None:
    found = float((trial.outputs - trial.model.outputs(trial.images)).abs().max()) / trial.scale
    require(found <= TOLERANCE, f"two passes of the same images differ by {found:.2g} of the largest output")
    return None


def batch_independent(trial: Trial) -> str | None:
    alone = torch.cat([trial.model.outputs(trial.images[i : i + 1]) for i in range(len(trial.images))])
    found = float((trial.outputs - alone).abs().max()) / trial.scale
    require(found <= TOLERANCE, f"an image alone and in a batch gets outputs that differ by {found:.2g} of the largest")
    return None


def sees_images(trial: Trial) -> str | None:
    outputs = trial.outputs
    if trial.dataset is not None:
        known = torch.stack(list(trial.pixels.values())).to(trial.model.device)
        outputs = torch.cat([outputs, trial.model.outputs(known)])
    spread = float((outputs - outputs[:1]).abs().max()) / trial.scale
    require(spread > 1e-4, "all images get the same outputs")
    return None


def twin(trial: Trial) -> str | None:
    """Reported: whether gradient explainers can work on it."""
    try:
        found = trial.model.twin(trial.images)
    except NotApplicable as error:
        raise CheckFailed(f"no torch twin: {error}") from None
    gap = float((found.flatten(1) - trial.outputs).abs().max()) / trial.scale
    require(gap <= TOLERANCE, f"the torch twin differs by {gap:.2g} of the largest output")
    return f"differs by {gap:.1g}"


def separates(trial: Trial) -> str | None:
    """It tells the dataset's classes, or genuine and impostor pairs, apart better than chance."""
    found = trial.separation(trial.card)
    if found < 0.4:
        raise CheckFailed(f"area under the ROC curve {found:.2f}: the classes are the wrong way round")
    require(found >= 0.6, f"area under the ROC curve {found:.2f}; chance is 0.50, 0.60 is expected")
    return f"area under the ROC curve {found:.2f}"


def pixels_as_trained(trial: Trial) -> str | None:
    """No other usual colour order or normalisation separates the samples clearly better than the card's."""

    def apart(card: ModelCard) -> float:
        found = trial.separation(card)
        return max(found, 1 - found)  # the order of classes is asked elsewhere

    own = apart(trial.card)
    best, which = own, ""
    for name, given in other_inputs(trial.card.input).items():
        card = trial.card.model_copy(update={"input": given})
        try:
            found = apart(card)
        except FaithfaceError:
            continue
        if found > best:
            best, which = found, name
    require(best - own <= BETTER, f"with {which} the area under the ROC curve is {best:.2f}, with the card's {own:.2f}")
    return f"card {own:.2f}, best other {best:.2f}" if which else None


def other_inputs(card: InputCard) -> dict[str, InputCard]:
    """Return the usual ways to feed a network other than the card's."""
    usual: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
        "mean 0 and std 1": ((0.0,), (1.0,)),
        "mean 0.5 and std 0.5": ((0.5,), (0.5,)),
        "pixels from 0 to 255": ((0.0,), (1 / 255,)),
        "mean 127.5 / 255 and std 1 / 255": ((127.5 / 255,), (1 / 255,)),
    }
    if card.channels == 3:
        usual["ImageNet's mean and std"] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = {name: card.model_copy(update={"mean": mean, "std": std}) for name, (mean, std) in usual.items()}
    if card.channels == 3:
        other = "BGR" if card.color == "RGB" else "RGB"
        found[f"color = {other}"] = card.model_copy(
            update={"color": other, "mean": card.mean[::-1], "std": card.std[::-1]}
        )
    return {name: given for name, given in found.items() if given != card}


CHECKS: tuple[Check[Trial], ...] = (
    Check("opens", "Does the file open, and fit its card?", "`faithface inspect FILE` says what the file is", opens),
    Check(
        "card-complete",
        "Does the card say licence, source and positive class?",
        "complete the card",
        complete_card,
        Severity.WARNING,
    ),
    Check(
        "pinned",
        "Does the card hold the file's sha256?",
        "add it: records then name exactly these weights",
        pinned,
        Severity.NOTE,
    ),
    Check(
        "finite",
        "Are outputs finite, also for black and white images?",
        "look at divisions and norms in the network",
        finite,
        after=("opens",),
    ),
    Check(
        "output-kind",
        "Are the outputs what the card says they are?",
        "correct output.kind, output.name or output.classes",
        output_kind,
        after=("opens", "finite"),
    ),
    Check(
        "deterministic",
        "Do two passes give the same outputs?",
        "export in evaluation mode: no dropout, no noise",
        deterministic,
        after=("opens", "finite"),
    ),
    Check(
        "batch-independent",
        "Is an image's output the same alone and in a batch?",
        "export in evaluation mode: batch normalisation with its stored statistics",
        batch_independent,
        after=("opens", "finite", "deterministic"),
    ),
    Check(
        "sees-images",
        "Do different images get different outputs?",
        "check the normalisation on the card, and output.name",
        sees_images,
        after=("opens", "finite"),
    ),
    Check(
        "twin",
        "Can gradient explainers work on it?",
        "black-box explainers still run",
        twin,
        Severity.WARNING,
        after=("opens", "finite", "deterministic"),
    ),
    Check(
        "pixels-as-trained",
        "Is the card's way to feed pixels the best of the usual ones?",
        "correct color, mean or std on the card",
        pixels_as_trained,
        after=("opens", "finite", "deterministic", "sees-images"),
    ),
    Check(
        "separates",
        "Does it tell the classes of the given dataset apart?",
        "check the order of output.classes, output.positive, and that the dataset fits",
        separates,
        after=("opens", "finite", "deterministic", "sees-images", "pixels-as-trained"),
    ),
)


def check_model(
    model: ModelCard | str | Path,
    *,
    dataset: Dataset | None = None,
    device: str = "cpu",
    expected_failures: Mapping[str, str] | None = None,
    only: Sequence[str] | None = None,
) -> Report:
    """Open a model and check what its card says of it.

    Args:
        model: a card, or a card's path.
        dataset: labelled samples on which the model should work. Without one nothing can say whether colour order,
            normalisation and class order are right, and those checks are skipped.
        expected_failures: as of :func:`~faithface.testing.check_explainer`.
        only: likewise.
    """
    card = model if isinstance(model, ModelCard) else load_card(Path(model))
    chosen = [check for check in CHECKS if only is None or check.name in only]
    found = run_checks(chosen, Trial(card, device, dataset))
    return Report("model", card.name, expect(found, expected_failures or {}, [c.name for c in CHECKS]))
