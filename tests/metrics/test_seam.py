"""One seam scores and decides pairs: the same network, its embeddings of length 1, compared by cosine and by distance.

With unit embeddings the distance is √(2 − 2·cosine), so every score, decision and ranking on the one card follows from
that on the other. The tests derive it value by value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import faithface
from faithface.applicability import metric_applies
from faithface.card import InputCard, ModelCard, OutputCard
from faithface.contract import FaceModel, Metric, Samples, Scores
from faithface.loading import clean_threshold, load_samples
from faithface.metrics import METRICS
from faithface.metrics.curves import GapDissimilarityScore, GapSimilarityScore
from faithface.metrics.inpainting_game import InpaintingGame
from faithface.metrics.optimum_share import OptimumShare
from faithface.model import open_model
from faithface.reasons import ReasonCode
from faithface.tasks import accepted, decided, score_range, threshold_on, unit_similarity
from tests.metrics.toy_explainers import Brightness
from tests.metrics.toy_pairs import ToyPairs
from tests.support.networks import build, export

SIZE = 16
DATA = ToyPairs(n=6, size=SIZE)
FEW: Callable[[Metric], Metric] = lambda m: type(m)(points=9) if hasattr(m, "points") else m  # noqa: E731
PAIRED = tuple(FEW(m) for m in METRICS if "verification" in m.protocol.tasks and "family" not in m.protocol.needs)

# What a value is made of; values that are not named here are of maps or decisions, and the same on both cards.
SCORES = {"degradation@1": ("score-low", "score-high")}
FALLS = {"confidence-drop@1": ("", "control"), "retention@1": ("", "control"), "noise-stability@1": ("score-fall",)}


class Unit(nn.Module):
    """A network whose embeddings have length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = build("cnn", 8, SIZE)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y / y.square().sum(dim=1, keepdim=True).sqrt()


Both = tuple[tuple[FaceModel, Samples], tuple[FaceModel, Samples]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The network with a cosine and with a Euclidean card, and the pairs; the threshold lies amid their scores."""
    folder = tmp_path_factory.mktemp("seam")
    export(Unit().eval(), (3, SIZE, SIZE), folder / "unit.onnx")

    def opened(similarity: str, threshold: float | None) -> tuple[FaceModel, Samples]:
        output = OutputCard(kind="embedding", similarity=similarity, threshold=threshold)  # type: ignore[arg-type]
        size = InputCard(size=(SIZE, SIZE), mean=(0.5,), std=(0.5,))
        card = ModelCard(name=similarity, task="verification", file="unit.onnx", root=folder, input=size, output=output)
        model = open_model(card)
        return model, load_samples(model, DATA.items(), dataset=DATA)

    clean = np.sort(opened("cosine", None)[1].clean.scores.numpy())
    middle = float(clean[2] + clean[3]) / 2
    return opened("cosine", middle), opened("euclidean", float(np.sqrt(2 - 2 * middle)))


def distance(cosine: np.ndarray) -> np.ndarray:
    """Return minus the distance of unit embeddings of a cosine."""
    return -np.sqrt(np.maximum(2 - 2 * np.asarray(cosine, dtype=np.float64), 0))


def scored(metric: Metric, model: FaceModel, samples: Samples) -> Scores:
    samples = samples.take(samples.where(metric.judged_on))
    explainer = Brightness()
    return metric.score(model, samples, explainer.explain(model, samples), explainer)


def expected(metric: Metric, found: Scores, clean: np.ndarray) -> dict[str, np.ndarray]:
    """Return the values on the Euclidean card from the scores on the cosine card."""
    values = dict(found.values)
    if metric.id.endswith("-score@1"):
        area = {name: np.trapezoid(distance(c), axis=1) / (c.shape[1] - 1) for name, c in found.curves.items()}
        sign = -1 if metric.id.startswith("gap-dissimilarity") else 1
        values[""] = sign * (area["insertion"] - area["deletion"]) if len(area) == 2 else next(iter(area.values()))
    if metric.id == "road@1":
        for name in ("morf", "lerf"):
            values[name] = np.trapezoid(distance(found.curves[name]), axis=1) / (metric.points - 1)  # type: ignore[attr-defined]
        values[""] = values["lerf"] - values["morf"]
    for name in SCORES.get(metric.id, ()):
        values[name] = distance(values[name])
    for name in FALLS.get(metric.id, ()):
        values[name] = distance(clean) - distance(clean - values[name])
    if metric.id == "degradation@1":
        sign = np.where([item.same for item in DATA.items()], 1, -1)
        values[""] = sign * (values["score-low"] - values["score-high"])
    return values


@pytest.mark.parametrize("metric", PAIRED, ids=lambda m: m.id)
def test_every_metric_of_pairs_follows_the_cards_similarity(metric: Metric, both: Both) -> None:
    (cosine, pairs), (euclidean, same_pairs) = both
    refusal = metric_applies(euclidean.card, DATA, Brightness(), metric)
    if metric.id == "average-drop@1":
        # It divides by the clean score, which minus a distance is not for.
        assert refusal is not None
        assert refusal.code is ReasonCode.NOT_APPLICABLE
        return
    if refusal is not None:  # no ground truth, second dataset or template here: on neither card, for the same reason
        assert metric_applies(cosine.card, DATA, Brightness(), metric) == refusal
        return
    if metric.id in ("gap-specific@1", "optimum-share@1"):
        # A mean over maps, or the best of all maps, cannot be derived from the values on the other card; the map's own
        # part is a gap that follows the seam.
        specific = metric.id == "gap-specific@1"
        metric = metric if specific else OptimumShare(grid=3)
        points, part = (metric.points, "own") if specific else (metric.grid**2 + 1, "gap")
        found = scored(metric, euclidean, same_pairs)
        for kind, gap in (("genuine", GapSimilarityScore), ("impostor", GapDissimilarityScore)):
            chosen = same_pairs.where(kind)
            alone = scored(gap(grid=metric.grid, points=points), euclidean, same_pairs)
            able = np.isfinite(found.values[""][chosen])
            assert able.any()
            np.testing.assert_allclose(found.values[part][chosen][able], alone.values[""][able], atol=2e-5)
        return
    if isinstance(metric, InpaintingGame):
        metric = InpaintingGame(
            points=9, decision="threshold"
        )  # the middle of two distances is not that of two cosines
    one, other = scored(metric, cosine, pairs), scored(metric, euclidean, same_pairs)
    assert dict(one.reasons) == dict(other.reasons)
    clean = pairs.clean.scores.double().numpy()[pairs.where(metric.judged_on)]
    for name, value in expected(metric, one, clean).items():
        if name.startswith("auc"):
            assert metric.summarise(value, name) == metric.summarise(other.values[name], name)
            continue
        np.testing.assert_allclose(other.values[name], value, atol=2e-5, err_msg=f"{metric.id}:{name}")
    low, high = metric.range_on(euclidean.card)
    known = other.values[""][np.isfinite(other.values[""])]
    assert ((low <= known) & (known <= high)).all()


def test_clean_scores_rank_and_decide_pairs_alike(both: Both) -> None:
    (_, pairs), (_, same_pairs) = both
    np.testing.assert_array_equal(pairs.clean.scores.argsort(), same_pairs.clean.scores.argsort())
    np.testing.assert_array_equal(pairs.clean.predicted, same_pairs.clean.predicted)
    assert 0 < int(pairs.clean.predicted.sum()) < len(pairs)
    np.testing.assert_allclose(same_pairs.clean.scores, distance(pairs.clean.scores.numpy()), atol=1e-5)


@pytest.mark.parametrize("side", [0, 1])
def test_the_pair_that_sets_the_threshold_is_accepted_in_every_batch(both: Both, side: int) -> None:
    card = both[side][0].card
    card = card.model_copy(update={"output": card.output.model_copy(update={"threshold": None})})
    model = open_model(card)
    threshold = clean_threshold(model, DATA)
    items = DATA.items()
    for batch in (items, items[:3], items[::-1], *[[item] for item in items]):
        samples = load_samples(model, batch, threshold=threshold, dataset=DATA)
        scores = samples.clean.scores.double().numpy()
        np.testing.assert_array_equal(samples.clean.predicted, (scores >= threshold - 1e-5).astype(int))
        assert (np.abs(scores - threshold) > 1e-5)[samples.clean.predicted.numpy() == 0].all()


def test_a_similarity_within_1e_5_below_the_threshold_counts_as_on_it() -> None:
    given = np.array([0.5, 0.5 - 5e-6, 0.5 - 2e-5, 0.6, -1.0])
    np.testing.assert_array_equal(accepted(given, 0.5), [True, True, False, True, False])
    assert decided(torch.from_numpy(given), 0.5).tolist() == [1, 1, 0, 1, 0]
    assert decided(torch.from_numpy(given), None).tolist() == [0] * 5


def test_range_threshold_and_unit_scale_follow_the_cards_similarity(both: Both) -> None:
    (cosine, _), (euclidean, _) = both
    assert score_range(cosine.card) == (-1, 1)
    assert score_range(euclidean.card) == (float("-inf"), 0)
    assert threshold_on(euclidean.card) == pytest.approx(distance(threshold_on(cosine.card)), abs=1e-12)
    np.testing.assert_allclose(unit_similarity(cosine.card, np.array([-1.0, 0.0, 1.0])), [0, 0.5, 1])
    np.testing.assert_allclose(unit_similarity(euclidean.card, np.array([0.0, -1.0, -3.0])), [1, 0.5, 0.25])
    ranges = {m.id: (m.range_on(cosine.card), m.range_on(euclidean.card)) for m in METRICS}
    inf = float("inf")
    assert ranges["gap-similarity-score@1"] == ((-2, 2), (-inf, inf))
    assert ranges["deletion-similarity-score@1"] == ((-1, 1), (-inf, 0))
    assert ranges["gap-similarity@1"] == ((-1, 1), (-1, 1))
    assert ranges["road@1"] == ranges["confidence-drop@1"] == ((-2, 2), (-inf, inf))


def test_nothing_but_the_seam_compares_scores_with_a_threshold() -> None:
    package = Path(faithface.__file__).parent
    comparison = re.compile(r"[<>]=?\s*[\w.]*threshold|threshold\s*[<>]|euclidean")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if comparison.search(line.partition("#")[0])
    }
    assert found <= {"tasks.py", "card.py"}, found - {"tasks.py", "card.py"}
