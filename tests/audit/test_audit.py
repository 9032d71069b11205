"""The audit on metrics whose verdict is known, and its parts against definitions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from faithface.audit import exam, page
from faithface.audit import verdict as bars
from faithface.audit.audit import PLACES, TRUTH, Place, audit, ranked_form
from faithface.audit.damage import STRENGTHS, Damaged, Mirrored, OfAnother, Untrained, WrongKind
from faithface.audit.evidence import kendall, monotone, paired_z, rank_agreement, samples_needed
from faithface.audit.join import joined
from faithface.audit.record import RECORD, AuditRecord, Evidence, read, write
from faithface.audit.verdict import ENOUGH, Claim, verdict_of
from faithface.cli.main import main
from faithface.contract import Cache, Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores
from faithface.errors import UsageError
from faithface.loading import load_samples
from faithface.metrics.contribution_correlation import ContributionCorrelation
from faithface.metrics.curves import Gap
from faithface.metrics.entropy import Entropy
from faithface.metrics.road import Road
from faithface.metrics.training_stability import TrainingStability
from faithface.plugins import load_registry
from faithface_plugins.datasets.planted.datasets import PlantedVerification
from tests.metrics.made import classifier_samples
from tests.metrics.toy_explainers import Brightness

HERE = Place("exact-pad-28-0", "planted-pad(n=32)", "contributions", ("centre-prior", "edges"))


class Blind(Metric):
    """The same value for every map."""

    protocol = Protocol("blind@1", "Is it?", family="faithful")

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        return Scores({"": np.full(len(samples), 0.5)})


@dataclass(frozen=True)
class Spread(Metric):
    """The standard deviation of the map's values: says how uneven a map is, not where."""

    protocol = Protocol("spread@1", "How uneven is it?")

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        flat = maps.relevance.flatten(1)
        return Scores({"": (flat.std(dim=1) / flat.abs().amax(dim=1)).double().numpy()})


class Reversed(Metric):
    """Minus the correlation with the truth, and higher is called better: it puts the worst map first."""

    protocol = Protocol("reversed@1", "Is it?", family="truth", needs=frozenset({"contributions"}), range=(-1.0, 1.0))

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        return Scores({"": -ContributionCorrelation().score(model, samples, maps).values[""]})


@pytest.fixture(scope="module")
def record() -> AuditRecord:
    metrics = {m.id: m for m in (Blind(), Spread(), Reversed(), ContributionCorrelation(), TrainingStability())}
    return audit(load_registry(), metrics, [HERE], samples=32, suite="toys")


def examined(record: AuditRecord, metric: str):
    return next(one for one in record.metrics if one.metric == metric)


@pytest.mark.parametrize(
    ("metric", "verdict", "check"),
    [
        ("blind@1", "fails", "same"),
        ("spread@1", "describes", "place"),
        ("reversed@1", "fails", "order"),
        ("training-stability@1", "not examined", "applies"),
    ],
)
def test_a_metric_that_cannot_judge_gets_its_verdict_and_the_reason(record, metric, verdict, check):
    one = examined(record, metric)
    assert one.verdict == verdict
    assert check in {finding.check for finding in one.findings if not finding.passed}


def test_correlation_with_the_truth_judges(record):
    one = examined(record, TRUTH)
    assert one.verdict == "judges", [finding for finding in one.findings if not finding.passed]
    (evidence,) = one.evidence.values()
    assert evidence.means["subject"] == pytest.approx(1, abs=1e-6)
    assert evidence.means["inverted"] == pytest.approx(-1, abs=1e-6)
    assert set(evidence.faults) == {"another", "mirrored", "wrong kind", "untrained"}
    assert evidence.passes == 0
    (world,) = record.worlds
    assert world.exact
    assert world.quality["subject"] == pytest.approx(1)
    for damage, strengths in STRENGTHS.items():
        falling = [1.0, *(world.quality[f"{damage} {s:g}"] for s in strengths)]
        assert falling == sorted(falling, reverse=True)
    # The reversed metric orders all candidates the other way round.
    assert world.kendall["reversed@1"][TRUTH] == pytest.approx(-1)
    assert examined(record, "reversed@1").evidence[HERE.name].with_truth == pytest.approx(-1)


def test_the_record_and_its_page_come_back(record, tmp_path, capsys):
    write(record, tmp_path / RECORD)
    assert read(tmp_path / RECORD) == record
    assert main(["audit", "--page", "-o", str(tmp_path)]) == 0
    assert "1 judges, 1 describes, 2 fails, 1 not examined" in capsys.readouterr().out
    text = (tmp_path / page.PAGE).read_text(encoding="utf-8")
    for one in record.metrics:
        assert f"| `{one.metric}` | {one.family} | **{one.verdict}** |" in text
    assert "needs several runs or datasets" in text
    assert (tmp_path / page.FIGURE).stat().st_size > 5000
    (tmp_path / RECORD).write_text("{}")
    with pytest.raises(UsageError, match="not a record of an audit"):
        read(tmp_path / RECORD)
    with pytest.raises(UsageError, match="no such file"):
        read(tmp_path / "none.json")


def test_worlds_examined_apart_are_joined_and_judged_together(record):
    elsewhere = "elsewhere"
    (world,) = record.worlds
    moved = []
    for one in record.metrics:
        found = (
            {elsewhere: next(iter(one.evidence.values())).model_copy(update={"quality": 0.8})} if one.evidence else {}
        )
        refused = tuple(f.model_copy(update={"world": elsewhere}) for f in one.findings if f.check == "applies")
        moved.append(one.model_copy(update={"evidence": found, "findings": refused}))
    other = record.model_copy(
        update={"worlds": (world.model_copy(update={"name": elsewhere}),), "metrics": tuple(moved), "samples": 40}
    )
    both = joined([record, other])
    assert [one.name for one in both.worlds] == [world.name, elsewhere]
    assert both.samples == 40
    one = examined(both, TRUTH)
    assert one.verdict == "with care"  # the worse of the two worlds
    assert [(f.check, f.world) for f in one.findings if not f.passed] == [("monotone", elsewhere)]
    assert {f.world for f in examined(both, "training-stability@1").findings} >= {HERE.name, elsewhere}
    twice = {"seconds": 2 * record.seconds, "processor": 2 * record.processor}
    assert joined([record, record]) == record.model_copy(update=twice)
    changed = world.model_copy(update={"revision": "other"})
    with pytest.raises(UsageError, match=f'revision "{world.revision}" in one record and "other"'):
        joined([record, record.model_copy(update={"worlds": (changed,)})])
    with pytest.raises(UsageError, match="not one audit"):
        joined([record, other.model_copy(update={"seed": 1})])
    with pytest.raises(UsageError, match="no records"):
        joined([])


def test_of_a_metric_examined_twice_in_a_world_the_larger_number_of_samples_counts(record):
    (world,) = record.worlds
    one = examined(record, TRUTH)
    (own,) = one.evidence.values()
    more = own.model_copy(update={"n": 120, "quality": 0.9})
    larger = record.model_copy(
        update={
            "worlds": (world.model_copy(update={"n": 120, "kendall": {TRUTH: {"new@1": 0.5}}}),),
            "metrics": (one.model_copy(update={"evidence": {world.name: more}}),),
        }
    )
    for records in ([record, larger], [larger, record]):
        both = joined(records)
        assert examined(both, TRUTH).evidence == {world.name: more}
        assert examined(both, TRUTH).verdict == "with care"  # the order of damaged maps fails in the larger one
        assert examined(both, "reversed@1") == examined(record, "reversed@1")
        assert both.worlds[0].n == 120
        assert both.worlds[0].kendall[TRUTH] == {**world.kendall[TRUTH], "new@1": 0.5}
        assert len(both.metrics) == len(record.metrics)


def test_what_cannot_be_examined_is_refused():
    with pytest.raises(UsageError, match="no metrics"):
        audit(load_registry(), {})
    with pytest.raises(UsageError, match="at least 4"):
        audit(load_registry(), {"blind@1": Blind()}, samples=3)
    assert main(["audit", "--metric", "entropy@1", "--world", "exact-pad-28-0/planted-pad"]) == 2


def test_metrics_are_asked_for_in_the_form_that_is_ranked():
    assert ranked_form(Gap()) == "gap@1(grid=14,points=11)"
    assert ranked_form(Road()) == "road@1"
    assert ranked_form(Entropy()) == "entropy@1"
    assert any(place.subject == "contributions" for place in PLACES)


# --- verdicts from evidence alone


def evidence(order=(10.0, 10.0), faults=(9.0, 9.0), rho=1.0, n=ENOUGH, means=None) -> Evidence:
    named = dict(zip(("another", "mirrored"), faults, strict=True))
    return Evidence(
        n=n,
        means=means or {},
        real_over_random=order[0],
        random_over_inverted=order[1],
        monotone=1.0,
        quality=rho,
        faults={**named, "wrong kind": 9.0},
    )


@pytest.mark.parametrize(
    ("family", "given", "exact", "verdict"),
    [
        ("faithful", evidence(), True, "judges"),
        ("faithful", evidence(rho=0.9), True, "with care"),
        ("faithful", evidence(rho=0.9), False, "judges"),  # without an exact truth there is no known order
        ("faithful", evidence(rho=0.4), True, "fails"),
        ("faithful", evidence(rho=None), True, "fails"),
        ("faithful", evidence(faults=(2.5, 9.0)), True, "with care"),
        ("faithful", evidence(faults=(-9.0, 9.0)), True, "with care"),
        ("faithful", evidence(order=(1.0, 9.0)), True, "fails"),
        ("faithful", evidence(order=(9.0, -9.0)), True, "fails"),
        ("faithful", evidence(faults=(1.0, -1.0)), True, "describes"),
        ("faithful", evidence(faults=(1.0, -1.0), order=(-9.0, 9.0)), True, "fails"),
        ("description", evidence(faults=(1.0, -1.0), order=(-9.0, 9.0)), True, "describes"),
        ("cost", evidence(order=(0.0, 0.0)), True, "describes"),
    ],
)
def test_verdicts(family, given, exact, verdict):
    assert verdict_of(Claim(family), {"here": (given, exact)})[0] == verdict


def test_the_worst_world_decides():
    worlds = {"one": (evidence(), True), "two": (evidence(rho=0.9), True), "three": (evidence(), False)}
    verdict, findings = verdict_of(Claim("faithful"), worlds)
    assert verdict == "with care"
    assert [(f.world, f.check, f.value) for f in findings if not f.passed] == [("two", "monotone", 0.9)]
    assert verdict_of(Claim("faithful"), {})[0] == "not examined"


def test_a_world_of_few_samples_is_shown_and_gives_no_verdict_beside_a_large_one():
    worlds = {"large": (evidence(), True), "small": (evidence(order=(0.5, 0.5), n=ENOUGH - 1), False)}
    assert verdict_of(Claim("specific"), worlds)[0] == "judges"
    assert verdict_of(Claim("specific"), {"small": worlds["small"]})[0] == "fails"
    found, findings = verdict_of(Claim("specific"), {"few": (evidence(n=ENOUGH - 1), True)})
    assert found == "with care"
    assert [(f.check, f.value, f.bar) for f in findings if not f.passed] == [("samples", ENOUGH - 1, ENOUGH)]


def test_a_metric_of_many_passes_is_examined_on_the_first_batch_and_not_again(monkeypatch):
    monkeypatch.setattr(bars, "MANY", 18 * 5)
    metrics = {"gap": Gap(grid=14, points=11), TRUTH: ContributionCorrelation()}
    found = audit(load_registry(), metrics, [dataclasses.replace(HERE, methods=())], samples=12)
    (gap,), (truth,) = (examined(found, text).evidence.values() for text in metrics)
    assert (gap.n, truth.n) == (exam.FIRST // 2, 12)  # attacks; all
    assert gap.seed is None
    assert truth.seed is not None
    assert ("samples", 4) in {(f.check, f.value) for f in examined(found, "gap").findings if not f.passed}


@pytest.mark.parametrize(
    ("better", "subject", "random", "verdict"),
    [
        ("higher", 0.95, 0.1, "judges"),
        ("higher", 0.85, 0.1, "fails"),
        ("higher", 0.95, 0.92, "fails"),
        ("lower", 0.95, 0.1, "fails"),
        ("lower", 0.1, 0.95, "judges"),
    ],
)
def test_a_gate_judges_if_the_subject_passes_and_a_random_map_does_not(better, subject, random, verdict):
    given = evidence(order=(0.0, -5.0), means={"subject": subject, "random": random})
    found, findings = verdict_of(Claim("gate", better, 0.9), {"here": (given, True)})
    assert found == verdict
    assert {finding.check for finding in findings} == {"gate"}


# --- numbers


def test_z_values_are_those_of_the_paired_t_test():
    first, second = np.random.default_rng(0).normal(size=(2, 30))
    first[3] = np.nan
    expected = stats.ttest_rel(np.delete(first, 3), np.delete(second, 3)).statistic
    assert paired_z(first, second) == pytest.approx(expected)
    assert paired_z(first, second, -1) == pytest.approx(-expected)
    assert paired_z(second, second) == 0
    assert paired_z(second + 1.0, second) == 99
    n = samples_needed(first + 0.5, second)
    difference = np.delete(first + 0.5 - second, 3)
    assert difference.mean() / (difference.std(ddof=1) / np.sqrt(n)) >= 3
    assert difference.mean() / (difference.std(ddof=1) / np.sqrt(n - 1)) < 3
    assert samples_needed(second, second + 1) is None


def test_a_series_is_in_order_only_if_every_step_is():
    means = {"best": 9.0, "a1": 5.0, "a2": 3.0, "b1": 6.0, "b2": 7.0, "c1": 9.0, "c2": 9.0}
    ordered, swapped, flat = ["best", "a1", "a2"], ["best", "b1", "b2"], ["best", "c1", "c2"]
    assert monotone(means, [ordered]) == pytest.approx(1)
    assert monotone(means, [ordered], -1) == pytest.approx(-1)
    assert monotone(means, [ordered, swapped]) == pytest.approx((1 + 0.5) / 2)
    assert monotone(means, [ordered, flat]) == pytest.approx(0.5)
    assert monotone(means, [flat]) is None
    assert monotone(means, [["best", "missing"]]) is None
    assert rank_agreement(means, {"best": 0.9, "a1": 0.5, "a2": 0.1}) == pytest.approx(1)
    assert rank_agreement(means, {"best": 0.1, "a1": 0.5, "a2": 0.9}) == pytest.approx(-1)


def test_orders_are_compared_over_what_both_have():
    first, second = {"a": 1, "b": 2, "c": 3, "d": float("nan")}, {"a": 1, "b": 3, "c": 2, "x": 9}
    assert kendall(first, second) == pytest.approx(1 / 3)
    assert kendall({"a": 1, "b": 1}, {"a": 1, "b": 2}) is None


# --- damage


@dataclass(frozen=True, eq=False)
class Fixed(Explainer):
    """A given map for every sample of a classifier; counts how often it is asked."""

    values: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((8, 8)), metadata={"parameter": False})

    asked: list[int] = dataclasses.field(default_factory=list, metadata={"parameter": False})

    method = Brightness.method

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        self.asked.append(len(samples))
        one = torch.from_numpy(self.values.astype(np.float32))
        return Maps(relevance=one.expand(len(samples), *one.shape).clone())


class Holder:
    """A model that only keeps things."""

    def __init__(self) -> None:
        self.cache = Cache()

    def cached(self, function, *given):
        return self.cache.get(self, function, *given)


def test_damage_is_what_it_is_called():
    values = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    samples = classifier_samples(2, (8, 8))

    def damaged(damage, strength):
        return Damaged(Fixed(values), "", damage, strength, 4).explain(Holder(), samples).relevance.numpy()

    np.testing.assert_array_equal(damaged("shift", 1.0)[0], np.roll(values, (2, 2), (0, 1)))
    blurred = ndimage.gaussian_filter(values.astype(np.float64), 1.8 * 2, mode="reflect")
    np.testing.assert_allclose(damaged("blur", 1.8)[1], blurred, atol=1e-5)
    noisy = damaged("noise", 0.25)
    noise = (noisy - 0.75 * values) / 0.25
    assert noise.min() >= values.min() - 1e-5
    assert noise.max() <= values.max() + 1e-5
    cells = noise.reshape(2, 4, 2, 4, 2)
    np.testing.assert_allclose(cells, cells[:, :, :1, :, :1].repeat(2, 2).repeat(2, 4), atol=1e-5)
    assert np.abs(noise[0] - noise[1]).max() > 0.05  # each sample has noise of its own
    np.testing.assert_array_equal(noisy, damaged("noise", 0.25))
    mirrored = Mirrored(Fixed(values)).explain(Holder(), samples).relevance[0]
    np.testing.assert_array_equal(mirrored, values[:, ::-1])


def test_damages_of_one_map_share_it_wherever_it_was_asked_for():
    inner, model, samples = Fixed(np.eye(8)), Holder(), classifier_samples(3, (8, 8))
    # The same batch made again, as a metric that explains altered images makes it.
    again = dataclasses.replace(samples, cache=Cache())
    for number, damage in enumerate(STRENGTHS):
        Damaged(inner, "", damage, 0.5, 4).explain(model, again if number else samples)
    Mirrored(inner).explain(model, samples)
    assert len(inner.asked) == 1
    others = (
        dataclasses.replace(samples, images=samples.images + 1e-3, cache=Cache()),
        dataclasses.replace(samples, seed=1, cache=Cache()),
        dataclasses.replace(samples, clean=dataclasses.replace(samples.clean, predicted=1 - samples.clean.predicted)),
        samples.take([1, 2]),
    )
    for number, other in enumerate(others):
        Mirrored(inner).explain(model, other)
        assert len(inner.asked) == 2 + number
    Mirrored(inner).explain(Holder(), samples)
    assert len(inner.asked) == 6


def test_faults_of_pairs_are_what_they_are_called():
    registry = load_registry()
    place = dataclasses.replace(PLACES[0], dataset="planted-verification(n=12)")
    data = PlantedVerification(n=12)
    from faithface.model import open_model

    model = open_model(registry.model(place.model).object)
    items = data.items()
    samples = load_samples(model, [items[0], items[1]], 0, 0.5, data)
    inner = registry.explainer("contributions").object
    own = inner.explain(model, samples)
    wrong = WrongKind(inner).explain(model, samples)
    assert torch.equal(wrong.similarity, own.dissimilarity)
    assert torch.equal(wrong.dissimilarity, own.similarity)
    # The next genuine pair is number 2, the next pair of different people number 5.
    expected = inner.explain(model, load_samples(model, [items[2], items[5]], 0, 0.5, data))
    another = OfAnother(inner).explain(model, samples)
    torch.testing.assert_close(another.similarity, expected.similarity)
    forgotten = Untrained(registry.explainer("saliency").object).explain(model, samples)
    trained = registry.explainer("saliency").object.explain(model, samples)
    assert float((forgotten.similarity - trained.similarity).abs().max()) > 0
