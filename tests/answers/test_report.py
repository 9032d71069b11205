"""``faithface report``: error rates by their definitions, what contradicts the card, the page, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faithface.answers.decisions import Rate, decide
from faithface.answers.measures import MEASURES
from faithface.answers.report import Report, make_report
from faithface.answers.report_page import render_report
from faithface.cli import main
from faithface.errors import UsageError
from faithface.loading import dataset_scores
from faithface.model import open_model
from faithface.plugins import load_registry
from tests.support.runs import Ramp, with_extras, write_card, write_constant, write_folder, write_pairs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("report")
    return {
        "root": root,
        "registry": with_extras(load_registry(), Ramp()),
        "verification": str(write_card(root, "verification")),
        "pad": str(write_card(root, "pad")),
        "pairs": write_pairs(root, people=6),
        "folder": f"folder:{write_folder(root / 'pad')}",
    }


@pytest.fixture(scope="module")
def report(made: dict[str, Any]) -> Report:
    return make_report(
        made["pad"],
        made["folder"],
        explainers=["ramp"],
        measured_by="ramp",
        samples=4,
        judged=3,
        fills=2,
        compare=0,
        crop="arcface",
        registry=made["registry"],
    )


def test_error_rates_of_pairs_follow_their_definitions(made: dict[str, Any]) -> None:
    model = open_model(made["registry"].model(made["verification"]).object)
    data = made["registry"].dataset(made["pairs"]).object
    found = decide(model, data)
    scores, same = dataset_scores(model, data)
    # Counted one by one, at every threshold: where the two rates are nearest.
    best = None
    for threshold in sorted(set(scores.tolist()), reverse=True):
        false = np.mean([s >= threshold for s, one in zip(scores, same, strict=True) if not one])
        missed = np.mean([s < threshold for s, one in zip(scores, same, strict=True) if one])
        if best is None or abs(false - missed) < best[0]:
            best = (abs(false - missed), threshold, (false + missed) / 2, false, missed)
    assert best is not None
    assert found.eer_threshold == pytest.approx(best[1])
    assert found.eer == pytest.approx(best[2])
    assert found.threshold == found.eer_threshold  # the card has none
    assert found.false_accepts.share == pytest.approx(best[3])
    assert found.false_rejects.share == pytest.approx(best[4])
    wins = [(a > b) + 0.5 * (a == b) for a in scores[same] for b in scores[~same]]
    assert found.auc == pytest.approx(np.mean(wins))
    right = sum((s >= best[1]) == one for s, one in zip(scores, same, strict=True))
    assert found.accuracy == Rate(right, len(scores))
    assert found.counts["false accept"] == found.false_accepts.count
    assert sum(found.counts.values()) == len(scores)


def test_outcomes_are_sorted_from_the_limit_outwards(made: dict[str, Any]) -> None:
    model = open_model(made["registry"].model(made["verification"]).object)
    found = decide(model, made["registry"].dataset(made["pairs"]).object)
    for name, shown in found.outcomes.items():
        distances = [abs(one.distance) for one in shown]
        assert distances == sorted(distances), name
        for one in shown:
            assert (one.distance >= -1e-5) == name.endswith("accept")
            assert len(one.pictures) == 2
            assert one.pictures[0].shape == (32, 32, 3)
    # The nearest and the farthest are both there.
    everyone = np.concatenate([found.accepts, found.rejects])
    farthest = max((one for shown in found.outcomes.values() for one in shown), key=lambda one: abs(one.distance))
    assert abs(farthest.distance) == pytest.approx(np.abs(everyone - found.threshold).max())


def test_the_interval_of_a_rate_is_wilson_s() -> None:
    for count, n in ((0, 10), (3, 10), (10, 10), (57, 60)):
        for end in Rate(count, n).interval:
            if 1e-9 < end < 1 - 1e-9:  # where a test of this share just fails to reject, at 5 %
                assert abs(count / n - end) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / n), rel=1e-5)
    low, high = Rate(3, 10).interval
    assert low < 0.3 < high
    assert Rate(0, 10).interval[0] == 0
    assert np.isnan(Rate(0, 0).share)


def test_classes_that_only_the_set_knows_count_as_the_positive_side(made: dict[str, Any], tmp_path: Path) -> None:
    """A card with two kinds of attack, and a set with one: all that is not bona fide is an attack."""
    card = write_card(tmp_path, "pad", name="three")
    text = card.read_text()
    text = re.sub(r"classes = .*\npositive = .*\n", 'classes = ["bona-fide", "attack-print"]\n', text)
    card.write_text(text)
    model = open_model(made["registry"].model(str(card)).object)
    folder = made["folder"]
    with_positive = decide(model, made["registry"].dataset(f"{folder}(positive=attack)").object)
    plain = decide(open_model(made["registry"].model(made["pad"]).object), made["registry"].dataset(folder).object)
    assert with_positive.n == plain.n == 20
    assert with_positive.accepts == pytest.approx(plain.accepts)
    with pytest.raises(UsageError, match="one class only"):
        decide(model, made["registry"].dataset(folder).object)  # its attacks are unknown, so they count nowhere


def test_what_contradicts_the_card_is_on_top(made: dict[str, Any], report: Report) -> None:
    page = render_report(report)
    assert report.problems  # an untrained network: chance, or other preprocessings that fit better
    for line in report.problems:
        assert line in page.replace("&#39;", "'")
    assert f"{len(report.problems)} thing" in report.sentence()


def test_measures_without_a_value_say_why(report: Report) -> None:
    by_name = {one.protocol: one for one in report.measures}
    assert list(by_name) == [name for name, _, _ in MEASURES]
    assert by_name["histogram-entropy@1"].n == 4
    assert by_name["training-stability@1"].why
    assert by_name["out-of-set-shift@1"].why
    page = render_report(report)
    assert all(one.why.split('"')[0] in page for one in report.measures if one.why)


def test_explainers_are_held_against_a_control(report: Report) -> None:
    assert report.trust is not None
    rows = {row.explainer: row for row in report.trust.rows}
    assert set(rows) == {"ramp", "centre-prior"}
    assert rows["ramp"].gain == pytest.approx(rows["ramp"].mean - rows["centre-prior"].mean)
    assert rows["centre-prior"].verdict == "control"
    assert report.trust.passes == 3 * 2 * 2**10
    assert 0 <= report.trust.ceiling <= 1


def test_the_page_stands_alone(report: Report) -> None:
    page = render_report(report)
    assert "<script" not in page
    assert all(address.startswith("data:image/png") for address in re.findall(r'src="([^"]*)"', page))
    assert "prefers-color-scheme: dark" in page
    for name in ("true accept", "false accept", "false reject", "true reject"):
        assert name in page


def test_the_command(made: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "report.html"
    options = ["--samples", "2", "--judged", "0", "--compare", "0", "--measured-by", "centre-prior"]
    assert main(["report", made["verification"], "--dataset", made["pairs"], *options, "-o", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: tiny-verification-0 is right on ")
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_network_of_one_output_is_named_for_it(made: dict[str, Any], tmp_path: Path) -> None:
    options: dict[str, Any] = {"samples": 2, "judged": 2, "fills": 1, "compare": 0, "crop": "arcface"}
    asked = {"explainers": ["ramp"], "measured_by": "ramp", "registry": made["registry"]}
    found = make_report(str(write_constant(tmp_path)), made["folder"], **options, **asked)
    assert "Every sample gets the same score" in found.problems[0]
    assert "1 thing to look at" in found.sentence()
    assert any("does the score move when regions are replaced" in line for line in found.cautions)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{verification}", "--dataset", "{folder}"], "is for pad"),
        (["{pad}", "--dataset", "{folder}", "--explainer", "ocluson"], 'did you mean "occlusion"'),
        (["{pad}", "--dataset", "{folder}", "--out", "a.pdf"], "no HTML page"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    made: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    out = tmp_path / "r.html"
    assert main(["report", "--out", str(out), *(one.format(**made) for one in arguments)]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert said in error
    assert not out.exists()
