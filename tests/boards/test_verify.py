"""Running records again: what came out is reproduced, what was forged with care differs, what is not here cannot."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from faithface.boards.attest import Level, attestation_of, read_attestations, write_attestation
from faithface.boards.findings import Check
from faithface.boards.publish import rebuild
from faithface.boards.record import Kept, read_records, record_digest, samples_digest, write_records
from faithface.boards.validate import validate_board
from faithface.boards.verify import Asked, Outcome, Verified, chosen_samples, differences, verify_records
from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores
from faithface.errors import UsageError
from faithface.plugins import Registry, load_registry
from tests.boards.conftest import Median
from tests.boards.made import made_board
from tests.support.runs import Fails, FailsToScore, MeanRelevance, Ramp, with_extras

MODELS = ("tiny-pad-0", "kin-1")


@dataclass(frozen=True)
class Second(Metric):
    """The second version of mean-relevance: three times as much."""

    protocol = Protocol(id="mean-relevance@2", range=(0.0, float("inf")))

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        return Scores({"": 3 * maps.headline.flatten(1).mean(dim=1).numpy().astype(np.float64)})


@pytest.fixture(scope="module")
def registry() -> Registry:
    return with_extras(load_registry(), Ramp(), Fails(), MeanRelevance(), FailsToScore(), Median(), Second())


@pytest.fixture
def asked(finished: Path) -> Asked:
    root = finished.parent
    cards = {name: str(root / f"{name}.toml") for name in MODELS}
    return Asked(6, 3, cards, {"folder:classes": f"folder:{root / 'classes'}"})


@pytest.fixture
def kept(board: Path) -> list[Kept]:
    """The records of one of the two models."""
    return [one for one in read_records(board / "records") if one.record.model.name == "tiny-pad-0"]


def by_explainer(found: list[Verified]) -> dict[str, Verified]:
    return {one.record.explainer.spec: one for one in found}


def forged(kept: Kept, values: pl.DataFrame, **update: object) -> Kept:
    """Return a record that says other things, with all its digests taken anew."""
    record = kept.record.model_copy(update=update)
    return Kept(record.model_copy(update={"digest": record_digest(record)}), values)


def test_what_a_run_wrote_is_reproduced(kept: list[Kept], registry: Registry, asked: Asked) -> None:
    found = by_explainer(list(verify_records(kept, registry, asked)))
    assert {name: one.outcome for name, one in found.items()} == {
        "random": Outcome.REPRODUCED,
        "ramp": Outcome.REPRODUCED,
        "ramp(slope=2.0)": Outcome.REPRODUCED,
        "fails": Outcome.CANNOT,
    }
    ramp = found["ramp"]
    assert len(ramp.samples) == 6
    assert set(ramp.protocols) == {"mean-relevance@1", "median@1"}
    assert ramp.values == 6 * 3 + 6  # two named values of one protocol, one of the other, and the clean scores
    assert ramp.largest < 1
    assert any("cost@1" in text for text in ramp.skipped)
    assert "it has no values" in str(found["fails"])


def test_values_swapped_between_explainers_pass_validate_and_differ(
    board: Path, kept: list[Kept], registry: Registry, asked: Asked
) -> None:
    a, b = (next(one for one in kept if one.record.explainer.spec == name) for name in ("ramp", "ramp(slope=2.0)"))
    write_records(
        [forged(a, b.values, numbers=b.record.numbers), forged(b, a.values, numbers=a.record.numbers)],
        board / "records",
    )
    rebuild(board)
    assert validate_board(board) == []
    again = [one for one in read_records(board / "records") if one.record.model.name == "tiny-pad-0"]
    found = by_explainer(list(verify_records(again, registry, asked)))
    assert found["ramp"].outcome is found["ramp(slope=2.0)"].outcome is Outcome.DIFFERS
    assert found["random"].outcome is Outcome.REPRODUCED
    gap = found["ramp"].gaps[0]
    assert (gap.protocol, gap.tolerance) == ("mean-relevance@1", 1e-3)
    assert (gap.recorded, gap.found) == pytest.approx((1.0, 0.5))


def test_an_old_protocol_renamed_to_the_new_differs(kept: list[Kept], registry: Registry, asked: Asked) -> None:
    one = next(one for one in kept if one.record.explainer.spec == "ramp")
    numbers = tuple(
        n.model_copy(update={"protocol": "mean-relevance@2", "id": "mean-relevance@2"})
        for n in one.record.numbers
        if n.id == "mean-relevance@1" and n.value_name == ""
    )
    values = one.values.filter((pl.col("protocol") == "mean-relevance@1") & (pl.col("value_name") == ""))
    renamed = forged(one, values.with_columns(protocol=pl.lit("mean-relevance@2")), numbers=numbers)
    (found,) = verify_records([renamed], registry, asked)
    assert found.outcome is Outcome.DIFFERS
    assert (found.gaps[0].recorded, found.gaps[0].found) == pytest.approx((0.5, 1.5))


def test_tampering_with_digests_taken_anew_differs(kept: list[Kept], registry: Registry, asked: Asked) -> None:
    """All values of a protocol, its mean and its interval are moved alike: everything inside holds."""
    one = next(one for one in kept if one.record.explainer.spec == "ramp")
    moved = one.values.with_columns(
        value=pl.when(pl.col("protocol") == "mean-relevance@1").then(pl.col("value") + 0.01).otherwise("value")
    )
    found = list(verify_records([forged(one, moved)], registry, asked))
    assert found[0].outcome is Outcome.DIFFERS
    assert {gap.protocol for gap in found[0].gaps} == {"mean-relevance@1"}
    assert len(found[0].gaps) == 12  # six samples, two named values


def test_rows_of_another_dataset_differ(kept: list[Kept], registry: Registry, asked: Asked) -> None:
    one = next(one for one in kept if one.record.explainer.spec == "ramp")
    foreign = one.values.with_columns(pl.col("sample") + "-x")
    listed = foreign.select("sample", "units", "label").unique()
    data = one.record.dataset.model_copy(update={"samples_sha256": samples_digest(list(listed.iter_rows()))})
    (found,) = verify_records([forged(one, foreign, dataset=data)], registry, asked)
    assert found.outcome is Outcome.DIFFERS
    assert "-x" in found.reason
    assert "is not in folder:classes" in found.reason


def test_rows_of_other_faces_under_the_same_names_differ(kept: list[Kept], registry: Registry, asked: Asked) -> None:
    one = next(one for one in kept if one.record.explainer.spec == "ramp")
    (found,) = verify_records([forged(one, one.values.with_columns(score=pl.col("score") / 2))], registry, asked)
    assert found.outcome is Outcome.DIFFERS
    assert found.gaps[0].protocol == "clean score"


def test_a_value_that_was_removed_differs(kept: list[Kept], registry: Registry, asked: Asked) -> None:
    one = next(one for one in kept if one.record.explainer.spec == "ramp")
    sample = chosen_samples([one], asked.sample, asked.seed)[0]
    less = one.values.filter((pl.col("sample") != sample) | (pl.col("protocol") != "mean-relevance@1"))
    (found,) = verify_records([forged(one, less)], registry, asked)
    assert found.outcome is Outcome.DIFFERS
    assert {gap.sample for gap in found.gaps} == {sample}
    assert "recorded no value" in found.reason


def test_what_is_not_here_cannot_be_verified(kept: list[Kept], registry: Registry, asked: Asked) -> None:
    ramp = next(one for one in kept if one.record.explainer.spec == "ramp")

    def reason(asked: Asked, one: Kept = ramp) -> str:
        (found,) = verify_records([one], registry, asked)
        assert found.outcome is Outcome.CANNOT
        return found.reason

    assert 'model "tiny-pad-0" is not here' in reason(dataclasses.replace(asked, models={}))
    assert "dataset folder:classes is not here" in reason(dataclasses.replace(asked, datasets={}))
    model = ramp.record.model.model_copy(update={"sha256": "0" * 64})
    assert "is another file" in reason(asked, forged(ramp, ramp.values, model=model))
    data = ramp.record.dataset.model_copy(update={"revision": "other"})
    assert "has revision" in reason(asked, forged(ramp, ramp.values, dataset=data))
    explainer = ramp.record.explainer.model_copy(update={"spec": "rump", "name": "rump"})
    assert "rump" in reason(asked, forged(ramp, ramp.values, explainer=explainer))


def test_the_code_that_changed_since_is_named(kept: list[Kept], registry: Registry, asked: Asked) -> None:
    ramp = next(one for one in kept if one.record.explainer.spec == "ramp")
    origin = ramp.record.explainer.origin.model_copy(update={"fingerprint": "0" * 64})
    explainer = ramp.record.explainer.model_copy(update={"origin": origin})
    (found,) = verify_records([forged(ramp, ramp.values, explainer=explainer)], registry, asked)
    assert found.outcome is Outcome.REPRODUCED
    assert any("the code of ramp is not that of the record (extras 1)" in note for note in found.notes)


def test_the_choice_is_seeded_balanced_and_of_the_records_samples() -> None:
    labels = ["genuine"] * 30 + ["impostor"] * 10
    kept = made_board({("a", "m@1"): np.arange(40.0)}, labels=labels)
    one = chosen_samples(kept, 12, 0)
    assert one == chosen_samples(kept, 12, 0)
    assert set(one) != set(chosen_samples(kept, 12, 1))
    assert sum(int(name[1:]) < 30 for name in one) == 6
    assert len(set(chosen_samples(kept, 99, 0))) == 40


def test_differences_are_counted_in_tolerances() -> None:
    a = made_board({("a", "m@1"): np.array([0.0, 1.0, 2.0, np.nan])})[0].values
    b = made_board({("a", "m@1"): np.array([0.0, 1.05, 2.2, np.nan])})[0].values
    count, gaps, largest = differences(a, b, ["s0000", "s0001", "s0002", "s0003"], {"m@1": 0.1})
    assert (count, [gap.sample for gap in gaps], largest) == (4, ["s0002"], pytest.approx(2.0))
    assert differences(a, b, ["s0000", "s0001"], {"m@1": 0.1})[1] == []
    assert differences(a, b, ["s0002"], {"other@1": 0.1})[0] == 0


# --- attestations and levels


def attested(board: Path, record, independent: bool, by: str, **more: object):  # type: ignore[no-untyped-def]
    where = {"device": "cpu", "system": "Linux x86_64", "versions": {"faithface": "0.1.0"}}
    compared = {"seed": 1, "samples": ("a",), "protocols": ("m@1",), "values": 3, "largest": 0.5, **more}
    return write_attestation(board, attestation_of(record, independent, by, where, **compared))


def test_levels_follow_from_attestations_of_this_very_record(board: Path, kept: list[Kept]) -> None:
    record = kept[0].record
    assert read_attestations(board, kept).level(record) is Level.SELF_REPORTED
    attested(board, record, False, "")
    assert read_attestations(board, kept).level(record) is Level.RE_RUN
    path = attested(board, record, True, "A Laboratory | <b>")
    assert read_attestations(board, kept).level(record) is Level.INDEPENDENT
    rebuild(board)
    assert validate_board(board) == []
    assert "independent" in (board / "trust.csv").read_text()
    # A change of the record makes its attestations those of another record.
    other = forged(kept[0], kept[0].values, seconds_per_sample=1.0)
    found = read_attestations(board, [other, *kept[1:]])
    assert found.level(other.record) is Level.SELF_REPORTED
    assert len(found.refused) == 2
    # And so does a hand in the attestation.
    path.write_text(path.read_text().replace('"values": 3', '"values": 300'))
    assert read_attestations(board, kept).level(record) is Level.RE_RUN
    assert Check.ATTESTATION in {one.check for one in validate_board(board)}


def test_nobody_attests_independently_without_a_name(board: Path, kept: list[Kept]) -> None:
    with pytest.raises(UsageError, match="needs --by"):
        attested(board, kept[0].record, True, " ")
    path = attested(board, kept[0].record, False, "")
    path.write_text(path.read_text().replace('"level": "re-run"', '"level": "independent"'))
    assert "names who attests" in read_attestations(board, kept).refused[0][1]
