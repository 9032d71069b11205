"""What a shard checks in the maps and scores that plugins return."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from faithface.contract import Dataset, Explainer, Face, Maps, Method, Metric, Protocol, Sample, Samples, Scores
from faithface.errors import NotApplicable
from faithface.explaining import WrongReturn, check_maps
from faithface.model import open_model
from faithface.plugins import Provenance, Resolved
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.executors import Job
from faithface.run.executors.local import run_group
from faithface.run.plan import Cell, Group
from faithface.run.request import Request
from faithface.run.results import SHARD_SIZE, CellShard, ShardFailure, ShardSamples
from faithface.run.shard import CellWork, ShardWork, run_cell, run_shard
from tests.support.networks import pair_batch, sample_batch, tiny
from tests.support.runs import MeanRelevance, Ramp, place


@pytest.fixture(scope="module")
def pairs(tiny_folder: Path) -> tuple[Any, Samples]:
    model = open_model(tiny("cnn", "verification", tiny_folder))
    return model, pair_batch(model, 4)


def maps(samples: Samples, **changes: Any) -> Maps:
    good = torch.rand(len(samples), 2, *samples.images.shape[-2:])
    return Maps(**{"similarity": good, "dissimilarity": good, **changes})


def test_good_maps_have_no_problem(pairs: tuple[Any, Samples]) -> None:
    assert check_maps(maps(pairs[1]), pairs[1]) == {}


def test_pairs_need_both_maps_and_neither_may_be_negative(pairs: tuple[Any, Samples]) -> None:
    samples = pairs[1]
    with pytest.raises(WrongReturn, match="returned no dissimilarity map; pairs need similarity and dissimilarity"):
        check_maps(maps(samples, dissimilarity=None), samples)
    with pytest.raises(WrongReturn, match="returned dissimilarity with negative values"):
        check_maps(maps(samples, dissimilarity=-maps(samples).similarity), samples)
    with pytest.raises(WrongReturn, match="returned no similarity map"):
        check_maps(Maps(relevance=torch.rand(4, 32, 32)), samples)


def test_a_sample_whose_map_is_not_finite_is_named_by_its_index(pairs: tuple[Any, Samples]) -> None:
    spoilt = maps(pairs[1])
    assert spoilt.similarity is not None
    spoilt.similarity[2, 1, 0, 0] = float("inf")
    other = spoilt.similarity.clone()
    other[2] = 0
    other[3, 0, 0, 0] = float("nan")
    problems = check_maps(Maps(similarity=spoilt.similarity, dissimilarity=other), pairs[1])
    assert problems == {
        2: Reason(ReasonCode.NON_FINITE_MAP, "similarity map holds values that are not finite"),
        3: Reason(ReasonCode.NON_FINITE_MAP, "dissimilarity map holds values that are not finite"),
    }


@dataclass(frozen=True)
class Answers(Metric):
    """A metric that gives back what it is told to."""

    answer: Any = None

    protocol = Protocol(
        id="answers@1",
        judged_on="impostor",
    )

    def score(self, model: Any, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(samples)  # type: ignore[no-any-return]


def cell(pairs: tuple[Any, Samples], metric: Metric) -> CellShard:
    return run_cell(*pairs, CellWork(7, Ramp(), {"m": metric}), number=3)


def test_a_metric_gets_only_the_pairs_that_it_is_judged_on(pairs: tuple[Any, Samples]) -> None:
    def answer(samples: Samples) -> Scores:
        assert not samples.genuine.any()
        return Scores({"": np.arange(len(samples), dtype=float)}, flags={1: "remark"})

    done = cell(pairs, Answers(answer))
    impostors = [item.id for item in pairs[1].items if not item.same]  # type: ignore[union-attr]
    assert [(v.sample, v.value, v.flag) for v in done.values] == [
        (impostors[0], 0.0, None),
        (impostors[1], 1.0, Reason(ReasonCode.REMARK, "remark")),
    ]
    assert (done.cell, done.number) == (7, 3)


def test_a_value_that_is_nan_keeps_the_metrics_reason(pairs: tuple[Any, Samples]) -> None:
    done = cell(pairs, Answers(lambda s: Scores({"": np.array([np.nan, np.nan])}, {0: "too dark"})))
    assert [v.reason for v in done.values] == [
        Reason(ReasonCode.UNDEFINED, "too dark"),
        Reason(ReasonCode.UNDEFINED, "no reason given"),
    ]


def test_a_metrics_own_code_is_kept(pairs: tuple[Any, Samples]) -> None:
    given = Reason(ReasonCode.NO_THRESHOLD, "no threshold")
    done = cell(pairs, Answers(lambda s: Scores({"": np.array([np.nan, 0.0])}, {0: given}, flags={1: given})))
    assert [(v.reason, v.flag) for v in done.values] == [(given, None), (None, given)]


RAISED_AT = place(Answers.score, "raise self.answer")


def failed(code: ReasonCode, detail: str) -> ShardFailure:
    return ShardFailure(Status.FAILED, Reason(code, detail))


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (
            lambda s: Scores({"": np.zeros(5)}),
            failed(ReasonCode.METRIC_RETURNED, "metric returned shape (5,) for value ''; expected (2,)"),
        ),
        (
            lambda s: Scores({"other": np.zeros(2)}),
            failed(ReasonCode.METRIC_RETURNED, "metric returned values ['other']; expected ['']"),
        ),
        (
            lambda s: Scores({"": torch.zeros(2, requires_grad=True)}),  # type: ignore[dict-item]
            failed(
                ReasonCode.METRIC_RETURNED,
                "metric returned value '' with its gradient attached; expected numpy: .detach().numpy()",
            ),
        ),
        (
            lambda s: Scores({"": ["high", "low"]}),  # type: ignore[dict-item]
            failed(
                ReasonCode.METRIC_RETURNED,
                "metric returned value '' as list that is no array of numbers; expected one float per sample",
            ),
        ),
        (
            NotApplicable("not for me", ReasonCode.NO_LAYER),
            ShardFailure(Status.NOT_APPLICABLE, Reason(ReasonCode.NO_LAYER, "not for me")),
        ),
        (ValueError("bad\nworse"), failed(ReasonCode.METRIC_RAISED, f"metric raised ValueError: bad ({RAISED_AT})")),
        # Another's exception stays an exception, however its text begins.
        (
            ValueError("returned nothing"),
            failed(ReasonCode.METRIC_RAISED, f"metric raised ValueError: returned nothing ({RAISED_AT})"),
        ),
    ],
)
def test_a_wrong_answer_is_the_metrics_failure_in_one_line(
    pairs: tuple[Any, Samples], answer: Any, state: ShardFailure
) -> None:
    done = cell(pairs, Answers(answer))
    assert done.metric_failures == {"m": state}
    assert done.values == []
    assert done.failure is None


def test_a_shard_gives_the_same_twice(tiny_folder: Path) -> None:
    model = open_model(tiny("cnn", "pad", tiny_folder))
    items = sample_batch(model, 5).items
    work = ShardWork(0, tuple(range(5)), items, (CellWork(0, Ramp(), {"m": MeanRelevance()}),))
    runs = [list(run_shard(model, work, 0, None, None)) for _ in range(2)]  # type: ignore[arg-type]
    (facts, done), (facts_again, again) = runs
    assert isinstance(facts, ShardSamples)
    assert isinstance(done, CellShard)
    assert facts == facts_again
    assert done.values == again.values  # type: ignore[union-attr]
    assert [f.facts["units"] for f in facts.facts] == [["id0"], ["id0"], ["id1"], ["id1"], ["id2"]]


def test_an_explainers_cost_counts_its_passes(tiny_folder: Path) -> None:
    class TenPasses(Ramp):
        def explain(self, model: Any, samples: Samples) -> Maps:
            for _ in range(10):
                model.outputs(samples.images)
            return super().explain(model, samples)

    model = open_model(tiny("cnn", "pad", tiny_folder))
    done = run_cell(model, sample_batch(model, 4), CellWork(0, TenPasses(), {}), 0)
    assert (done.forward, done.backward) == (40, 0)
    assert done.seconds > 0


@dataclass(frozen=True)
class WaitsForTheNextShard(Explainer):
    """Explains the first batch only when a face of a later shard has been read."""

    method = Method(
        name="waits",
    )

    def explain(self, model: Any, samples: Samples) -> Maps:
        if samples.items[0].id == "s000":
            assert READ_LATER.wait(timeout=30), "no face of the second shard was read while the first was explained"
        return Maps(relevance=torch.ones(len(samples), *model.size))


READ_LATER = threading.Event()


class TwoShards(Dataset):
    """Eighteen blank images: one shard of sixteen, and a second one."""

    name = "two-shards"
    task = "pad"

    def items(self) -> list[Sample]:
        return [Sample(f"s{i:03d}", Face(f"f{i}", functools.partial(self.read, i))) for i in range(SHARD_SIZE + 2)]

    def read(self, i: int) -> np.ndarray:
        if i >= SHARD_SIZE:
            READ_LATER.set()
        return np.full((32, 32, 3), i / 64, dtype=np.float32)


def test_the_next_shard_is_read_while_this_one_is_explained(tiny_folder: Path) -> None:
    card = tiny("cnn", "pad", tiny_folder)
    cell = Cell(0, Resolved("waits", WaitsForTheNextShard(), Provenance("test", "1", "")), {}, {})
    request = Request((card,), (TwoShards(),), (cell.explainer.object,), ())
    model = Resolved(card.name, card, Provenance("test", "1", ""))
    data = Resolved("two-shards", TwoShards(), Provenance("test", "1", ""))
    group = Group(0, model, data, tuple(range(SHARD_SIZE + 2)), (cell,))
    READ_LATER.clear()
    places = {0: tuple(range(SHARD_SIZE)), 1: (SHARD_SIZE, SHARD_SIZE + 1)}
    events = list(run_group(Job(group, TwoShards(), request, {0: frozenset({0, 1})}, shards=places)))
    done = [event for event in events if isinstance(event, CellShard)]
    assert [event.failure for event in done] == [None, None]
    assert [len(event.ids) for event in done] == [SHARD_SIZE, 2]
