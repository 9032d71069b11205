"""``region-shapley@1`` against a slow re-derivation: all orders of replacing regions, one image at a time."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, spearmanr

from faithface.contract import Dataset, Face, FaceModel, Maps, Pair, Sample, Samples
from faithface.errors import NotApplicable
from faithface.loading import load_samples
from faithface.metrics.region_shapley import RegionShapley
from faithface.model import open_model
from faithface.reasons import ReasonCode
from faithface.regions import make_fills
from faithface.tasks import class_probabilities, cosine
from tests.metrics.made import codes
from tests.support.networks import tiny

SIZE = 32


@dataclass(frozen=True)
class People(Dataset):
    """Faces of six people, two each, as pairs; smooth, so that a network tells them apart by regions."""

    name = "people"
    task = "verification"

    def face(self, person: int, number: int) -> Face:
        def read() -> np.ndarray:
            rng = np.random.default_rng((person, 5))
            coarse = rng.random((4, 4, 3)) + 0.1 * np.random.default_rng((person, number)).random((4, 4, 3))
            return np.clip(np.kron(coarse, np.ones((8, 8, 1))) / 1.1, 0, 1).astype(np.float32)

        return Face(f"p{person}_{number}", read, f"person {person}")

    def items(self) -> list[Pair]:
        genuine = [Pair(f"g{p}", self.face(p, 0), self.face(p, 1), True) for p in range(6)]
        return [*genuine, *(Pair(f"i{p}", self.face(p, 0), self.face((p + 1) % 6, 1), False) for p in range(6))]


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> FaceModel:
    return open_model(tiny("arcface", "verification", tmp_path_factory.mktemp("verifier")))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> FaceModel:
    return open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("classifier")))


def some_pairs(model: FaceModel) -> Samples:
    data = People()
    items = data.items()
    return load_samples(model, [items[0], items[6]], seed=3, threshold=2.0, dataset=data)


def pair_maps(n: int = 2, seed: int = 0) -> Maps:
    rng = np.random.default_rng(seed)
    similarity, dissimilarity = (torch.from_numpy(rng.random((n, 2, SIZE, SIZE), dtype=np.float32)) for _ in range(2))
    return Maps(similarity=similarity, dissimilarity=dissimilarity)


def halves(n: int) -> list[tuple[int, ...]]:
    return [c for c in itertools.combinations(range(n), n // 2) if n % 2 or 0 in c]


def slow_reliability(profiles: np.ndarray) -> float:
    """Correlate the order of the mean profile of one half of the fills with that of the other, over all splits."""
    ranks = np.array(
        [[1 + sum(o < v for o in row) + sum(o == v for o in row) / 2 - 0.5 for v in row] for row in profiles]
    )
    found = []
    for half in halves(len(ranks)):
        rest = [i for i in range(len(ranks)) if i not in half]
        a, b = ranks[list(half)].mean(axis=0), ranks[rest].mean(axis=0)
        # Equal mean ranks have no order to agree with.
        found.append(0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else spearmanr(a, b).statistic)
    r = float(np.mean(found))
    return 2 * r / (1 + r)


def slow_values(score, image: torch.Tensor, fills: list[torch.Tensor], cells: np.ndarray) -> np.ndarray:
    """Replace the cells one after another in each of all orders, and average what the score loses."""
    k = int(cells.max()) + 1
    orders = list(itertools.permutations(range(k)))
    values = np.zeros((len(fills), k))
    for f, fill in enumerate(fills):
        known: dict[frozenset[int], float] = {}

        def at(replaced: frozenset[int], fill=fill, known=known) -> float:
            if replaced not in known:
                mask = torch.from_numpy(np.isin(cells, list(replaced)))
                known[replaced] = score(torch.where(mask, fill, image))
            return known[replaced]

        for order in orders:
            for place, cell in enumerate(order):
                before = frozenset(order[:place])
                values[f, cell] += (at(before) - at(before | {cell})) / len(orders)
    return values


def quarters() -> np.ndarray:
    top, left = np.indices((SIZE, SIZE)) // (SIZE // 2)
    return 2 * top + left


def test_pairs_are_judged_by_the_average_over_all_orders_and_strangers(verifier: FaceModel) -> None:
    samples, maps, cells = some_pairs(verifier), pair_maps(), quarters()
    metric = RegionShapley(grid=2, fills=4, reliable=0.0)
    scores = metric.score(verifier, samples, maps)
    assert not scores.reasons
    for i, sign in ((0, 1), (1, -1)):
        # The strangers, found by what they must be: other people, one face of each, told from the pair's by name.
        names = make_fills(verifier, samples.take([i]), "stranger", 4, samples.dataset).names
        own = {face.identity for face in samples.items[i].faces}
        people = [f"person {name[1]}" for name in names]
        assert len(set(people)) == 4
        assert not own & set(people)
        faces = {f.id: f for pair in People().items() for f in pair.faces}
        fills = [torch.from_numpy(faces[name].read().transpose(2, 0, 1)) for name in names]
        reference = verifier.embeddings(samples.images[i, 1:2])

        def score(image: torch.Tensor, reference: torch.Tensor = reference) -> float:
            return float(cosine(verifier.embeddings(image[None]), reference))

        exact = slow_values(score, samples.images[i, 0], fills, cells)
        judged = (maps.similarity if sign > 0 else maps.dissimilarity)[i, 0].numpy()
        sums = [judged[cells == c].sum() for c in range(4)]
        assert scores.values[""][i] == pytest.approx(spearmanr(sums, sign * exact.mean(axis=0)).statistic)
        assert scores.values["kendall"][i] == pytest.approx(kendalltau(sums, sign * exact.mean(axis=0)).statistic)
        assert scores.values["reliability"][i] == pytest.approx(max(slow_reliability(exact), 0.0), abs=1e-6)


def slow_strangers(model: FaceModel, samples: Samples, i: int, count: int) -> list[str]:
    """Return the ids of the strangers by the common rules: the sample's permutation of all faces, sorted by id."""
    item, data = samples.items[i], samples.dataset
    everyone = sorted({face.id: face for other in data.items() for face in other.faces}.values(), key=lambda f: f.id)
    digest = hashlib.blake2b(f"{samples.seed}\x1f{item.id}\x1fregion strangers".encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little") >> 1)
    own = {face.identity for face in item.faces}
    free = [everyone[k] for k in rng.permutation(len(everyone)) if everyone[k].identity not in own]

    def embedding(face: Face) -> np.ndarray:
        values = model.outputs(torch.from_numpy(face.read().transpose(2, 0, 1).copy())[None])[0].double().numpy()
        return values / np.sqrt((values**2).sum())

    known = [embedding(face) for face in item.faces]
    people: dict[str, int] = {}
    turns: list[tuple[int, int, str]] = []
    for place, face in enumerate(free):
        turn = people.get(face.identity, 0)  # one face of each person, then a second of each
        people[face.identity] = turn + 1
        if all(float(embedding(face) @ one) < samples.threshold for one in known):
            turns.append((turn, place, face.id))
    return [name for _, _, name in sorted(turns)[:count]]


@pytest.mark.parametrize("accepted", [0, 3])
def test_strangers_of_pairs_are_those_of_the_common_rules(verifier: FaceModel, accepted: int) -> None:
    """With a threshold of 2 nobody is taken for the pair's people; then with one that takes some strangers for them."""
    data, skipped = People(), 0
    for place in (0, 4, 6, 9):
        item = data.items()[place]
        samples = load_samples(verifier, [item], seed=3, threshold=2.0, dataset=data)
        if accepted:
            faces = {f.id: f for pair in data.items() for f in pair.faces}
            first = [faces[name] for name in slow_strangers(verifier, samples, 0, 8)]
            pixels = [torch.from_numpy(f.read().transpose(2, 0, 1).copy()) for f in (*item.faces, *first)]
            found = verifier.embeddings(torch.stack(pixels)).double().numpy()
            found /= np.sqrt((found**2).sum(axis=1, keepdims=True))
            closest = np.sort((found[2:] @ found[:2].T).max(axis=1))[::-1]
            threshold = float(closest[accepted - 1] + closest[accepted]) / 2
            samples = load_samples(verifier, [item], seed=3, threshold=threshold, dataset=data)
            skipped += slow_strangers(verifier, samples, 0, 4) != [f.id for f in first[:4]]
        expected = slow_strangers(verifier, samples, 0, 4)
        assert len(expected) == 4
        assert list(make_fills(verifier, samples, "stranger", 4, data).names) == expected
    assert bool(skipped) == bool(accepted)


def test_a_classifier_is_judged_by_blur_of_several_strengths(classifier: FaceModel) -> None:
    from scipy.ndimage import gaussian_filter

    face = People().face(1, 0)
    samples = load_samples(classifier, [Sample("s", face, "attack")])
    rng = np.random.default_rng(1)
    maps = Maps(relevance=torch.from_numpy(rng.random((1, SIZE, SIZE), dtype=np.float32)))
    scores = RegionShapley(grid=2, fills=3, reliable=0.0).score(classifier, samples, maps)
    column = int(samples.clean.predicted[0])
    image = samples.images[0]
    fills = [
        torch.from_numpy(gaussian_filter(image.numpy(), (0, 0.08 * SIZE * ratio, 0.08 * SIZE * ratio), mode="reflect"))
        for ratio in (0.5, 1, 2)
    ]

    def score(one: torch.Tensor) -> float:
        return float(class_probabilities(classifier.card, classifier.outputs(one[None]))[0, column])

    exact = slow_values(score, image, fills, quarters()).mean(axis=0)
    sums = [maps.relevance[0].numpy()[quarters() == c].sum() for c in range(4)]
    assert scores.values[""][0] == pytest.approx(spearmanr(sums, exact).statistic)


def test_explainers_share_the_reference_and_it_costs_two_to_the_k_passes_per_fill(verifier: FaceModel) -> None:
    samples, metric = some_pairs(verifier), RegionShapley(grid=3, fills=2, reliable=0.0)
    from faithface.regions import make_fills

    before = verifier.passes.forward
    for i in range(2):
        make_fills(verifier, samples.take([i]), "stranger", 2, samples.dataset)  # skips whom the network accepts
    drawing = verifier.passes.forward - before
    before = verifier.passes.forward
    first = metric.score(verifier, samples, pair_maps(seed=1))
    assert verifier.passes.forward - before - drawing == 2 * 2 * 2**9
    before = verifier.passes.forward
    second = metric.score(verifier, samples, pair_maps(seed=2))
    assert verifier.passes.forward == before
    assert list(first.values["reliability"]) == list(second.values["reliability"])
    assert list(first.values[""]) != list(second.values[""])
    assert RegionShapley(grid=3, fills=2).cost.startswith("1024 ")
    assert RegionShapley().cost.startswith("8192 ")


def test_a_map_of_the_exact_values_has_the_value_one_and_its_opposite_minus_one(verifier: FaceModel) -> None:
    from faithface.regions import make_fills, region_values

    samples, cells = some_pairs(verifier), quarters()
    metric = RegionShapley(grid=2, fills=4, reliable=0.0)
    maps = {}
    for name, turn in (("right", 1), ("wrong", -1)):
        both = np.zeros((2, 2, SIZE, SIZE), np.float32)
        for i, sign in ((0, 1), (1, -1)):
            one = samples.take([i])
            known = tuple(face.id for face in one.items[0].faces)
            fills = make_fills(verifier, one, "stranger", 4, one.dataset, known)
            (exact,) = region_values(verifier, one, [fills], cells)
            wanted = turn * sign * exact.mean
            both[i, 0] = (wanted - wanted.min())[cells]
        maps[name] = Maps(similarity=torch.from_numpy(both), dissimilarity=torch.from_numpy(both))
    assert metric.score(verifier, samples, maps["right"]).values[""] == pytest.approx([1, 1])
    assert metric.score(verifier, samples, maps["wrong"]).values[""] == pytest.approx([-1, -1])


def test_a_reference_that_is_not_reliable_judges_nobody(verifier: FaceModel) -> None:
    samples = some_pairs(verifier)
    free = RegionShapley(grid=2, fills=4, reliable=0.0).score(verifier, samples, pair_maps())
    found = free.values["reliability"]
    least = float(found.mean())
    assert found.min() < least < found.max()  # one pair on either side
    strict = RegionShapley(grid=2, fills=4, reliable=least).score(verifier, samples, pair_maps())
    bad = int(found.argmin())
    assert codes(strict.reasons) == {bad: ReasonCode.UNRELIABLE_REFERENCE}
    assert f"reliability {found[bad]:.2f}" in strict.reasons[bad].detail
    assert np.isnan(strict.values[""][bad])
    assert strict.values[""][1 - bad] == free.values[""][1 - bad]


def test_the_partner_is_one_fill_and_has_no_reliability_to_fail(verifier: FaceModel) -> None:
    scores = RegionShapley(grid=2, fill="partner").score(verifier, some_pairs(verifier), pair_maps())
    assert not scores.reasons or set(codes(scores.reasons).values()) == {ReasonCode.UNDEFINED}
    assert np.isfinite(scores.values[""][1])
    assert np.isnan(scores.values["reliability"]).all()


def test_maps_that_say_nothing_are_flagged_and_bad_ones_have_no_value(verifier: FaceModel) -> None:
    samples = some_pairs(verifier)
    maps = pair_maps()
    maps.similarity[0] = 0.5
    maps.dissimilarity[1, 0, 3, 3] = float("nan")
    scores = RegionShapley(grid=2, fills=4, reliable=0.0).score(verifier, samples, maps)
    assert scores.values[""][0] == 0  # four equal cells, equal sums
    assert codes(scores.flags) == {0: ReasonCode.CONSTANT_MAP}
    assert codes(scores.reasons) == {1: ReasonCode.NON_FINITE_MAP}


def test_too_few_strangers_are_said_for_the_sample(verifier: FaceModel) -> None:
    scores = RegionShapley(grid=2, fills=40).score(verifier, some_pairs(verifier), pair_maps())
    assert "expected 40 fills" in scores.reasons[0].detail
    assert set(scores.reasons) == {0, 1}


def test_what_cannot_apply_is_refused_before_the_run(verifier: FaceModel) -> None:
    card = verifier.card
    aligned = People()

    class Loose(People):
        aligned = False

    with pytest.raises(NotApplicable, match="no template is known for crops of 32×32") as refused:
        RegionShapley().check(card, aligned)
    assert "grid=3" in str(refused.value)
    RegionShapley(crop="arcface").check(card, aligned)
    RegionShapley(grid=3).check(card, aligned)
    with pytest.raises(NotApplicable, match="needs aligned faces") as refused:
        RegionShapley(crop="arcface").check(card, Loose())
    assert refused.value.code is ReasonCode.NOT_ALIGNED
    with pytest.raises(NotApplicable, match="not aligned"):
        RegionShapley(grid=3).check(card, Loose())
    RegionShapley(grid=3, fill="blur").check(card, Loose())


@pytest.mark.parametrize("setting", [{"grid": 1}, {"grid": 4}, {"fills": 0}, {"reliable": 1.5}])
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        RegionShapley(**setting)  # type: ignore[arg-type]
