"""The study of real pairs: which pairs it takes, what it concludes, and that an interrupted study goes on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr, ttest_rel

from faithface.contract import Dataset, Face, Pair
from faithface.errors import UsageError
from faithface.perturb.strangers import build_index
from faithface.regions import reliability
from training.region_study import (
    CONTROL,
    PAGE,
    RECORD,
    Studied,
    as_record,
    choose_pairs,
    holm,
    read,
    render,
    summarise,
    text_of,
)

K, FILLS = 10, 4


@dataclass(frozen=True)
class Crowd(Dataset):
    """Eight people with three faces each; all genuine pairs, and impostor pairs of neighbours."""

    name = "crowd"
    task = "verification"

    def items(self) -> list[Pair]:
        face = {(p, i): Face(f"p{p}_{i}", lambda: np.zeros((4, 4, 3), np.float32)) for p in range(8) for i in range(3)}
        own = [Pair(f"g{p}{i}{j}", face[p, i], face[p, j], True) for p in range(8) for i, j in ((0, 1), (0, 2), (1, 2))]
        other = [Pair(f"i{p}{i}", face[p, i], face[(p + 1) % 8, i], False) for p in range(8) for i in range(3)]
        return own + other


def test_pairs_spread_over_people_and_a_longer_study_begins_with_a_shorter_one() -> None:
    data = Crowd()
    index = build_index(data)
    chosen = choose_pairs(data, index, 16)
    assert [pair.same for pair in chosen] == [True, False] * 8
    assert len({pair.a.id[:2] for pair in chosen if pair.same}) == 8  # each person has one genuine pair
    impostor = [face.id[:2] for pair in chosen if not pair.same for face in pair.faces]
    assert max(impostor.count(person) for person in impostor) <= 3
    assert choose_pairs(data, index, 6) == chosen[:6]
    with pytest.raises(UsageError, match="too few"):
        choose_pairs(data, index, 60)


def studied(pairs: int = 20, seed: int = 0) -> list[Studied]:
    """Made-up findings: one explainer follows the exact values, one knows the mean face, one is random, one opposed."""
    rng = np.random.default_rng(seed)
    common, found = rng.normal(size=K), []
    for i in range(pairs):
        same = i % 2 == 0
        sign = 1 if same else -1
        truth = common + rng.normal(size=K)
        sums = {
            "follows": truth + 0.1 * rng.normal(size=K),
            "opposed": -truth,
            "random": rng.normal(size=K),
            "constant": np.ones(K),
            CONTROL: common,
        }
        values = sign * (truth + 0.2 * rng.normal(size=(FILLS, K)))
        people = (f"person {i}",) if same else (f"person {i}", f"person {i}b")
        found.append(Studied(f"p{i}", same, people, values.tolist(), 4096, 1.5, {n: list(s) for n, s in sums.items()}))
    return found


def test_agreement_and_gain_are_those_of_their_definitions() -> None:
    found = studied()
    rows = {row.explainer: row for row in summarise(found)}
    by_hand = {
        name: np.array(
            [
                spearmanr(one.sums[name], (1 if one.same else -1) * np.mean(one.values, axis=0)).statistic
                for one in found
            ]
        )
        for name in ("follows", "opposed", "random", CONTROL)
    }
    for name, values in by_hand.items():
        assert rows[name].mean == pytest.approx(values.mean())
        assert rows[name].genuine == pytest.approx(values[::2].mean())
        assert rows[name].impostor == pytest.approx(values[1::2].mean())
    # Nobody stands in two pairs, so the paired test is Student's.
    test = ttest_rel(by_hand["follows"], by_hand[CONTROL])
    interval = test.confidence_interval(0.95)
    assert rows["follows"].gain == pytest.approx((by_hand["follows"] - by_hand[CONTROL]).mean())
    assert (rows["follows"].gain_low, rows["follows"].gain_high) == pytest.approx((interval.low, interval.high))
    assert rows["constant"].mean == 0  # a map with nothing to rank agrees with nothing, and is not left out of a mean
    assert math.isnan(rows[CONTROL].gain)


def test_what_is_specific_to_a_pair_is_nothing_for_a_fixed_map_and_much_for_one_that_follows() -> None:
    rows = {row.explainer: row for row in summarise(studied(40))}
    assert math.isnan(rows[CONTROL].specific)
    assert rows["follows"].specific > 0.8
    assert rows["opposed"].specific < -0.8
    low, high = rows["random"].specific_low, rows["random"].specific_high
    assert low < 0 < high


def test_the_page_names_those_that_are_better_and_those_that_are_worse() -> None:
    text = render(studied(), "made-up pairs")
    assert "Better than the centre prior" in text
    better, worse = text.split("Better than the centre prior")[1].split("Worse: ")
    assert "`follows`" in better
    assert "`random`" not in better
    assert "`opposed`" in worse
    assert "20 pairs (10 genuine, 10 impostor) of 30 people, made-up pairs, 10 regions, 4 strangers" in text


def test_the_page_says_how_many_fills_are_enough() -> None:
    found = studied(4)
    text = render(found, "made-up pairs")
    own = [reliability(np.array(one.values)) for one in found]
    reached = sum(value >= 0.8 for value in own)
    # Spearman and Brown: n fills give n·r / (1 + (n − 1)·r), where one fill has r; the smallest n that reaches 0.8.
    weakest = min(own)
    one = weakest / (FILLS - (FILLS - 1) * weakest)
    n = next(n for n in range(1, 1000) if n * one / (1 + (n - 1) * one) >= 0.8 - 1e-9)
    assert f"The values reach 0.8 on {reached} of 4 pairs with 4 fills" in text
    assert f"the weakest {n} fills ({n * 2**K:,} passes)" in text


def test_p_values_are_corrected_step_down() -> None:
    p = {"a": 0.04, "b": 0.01, "c": 0.03, "d": float("nan")}
    corrected = holm(p)
    assert corrected["b"] == pytest.approx(0.03)
    assert corrected["c"] == corrected["a"] == pytest.approx(0.06)
    assert math.isnan(corrected["d"])


def test_findings_are_read_back_as_they_were(tmp_path: Path) -> None:
    found = studied(3)
    path = tmp_path / "found.jsonl"
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found))
    assert list(read(path).values()) == found
    assert read(tmp_path / "none.jsonl") == {}


def test_the_record_says_the_same_without_names(tmp_path: Path) -> None:
    found = [
        replace(one, values=[[round(v, 4) for v in row] for row in one.values], people=("person 7", one.people[0]))
        for one in studied(6)
    ]
    record = as_record(found, "photographs")
    assert not any(one.pair in json.dumps(record) for one in found)
    assert text_of(json.loads(json.dumps(record))) == render(found, "photographs")
    assert record["pairs"][0]["people"][0] == "person 0"


def test_the_page_shows_what_is_recorded() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert text_of(json.loads(RECORD.read_text(encoding="utf-8"))) in page
