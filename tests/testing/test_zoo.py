"""Plugins with one fault each are caught by the check that is there for it, and by no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from faithface.testing import check_dataset, check_explainer, check_metric, check_model, check_suite
from faithface.testing.findings import Outcome, Report
from faithface.testing.of_explainers import VALID
from faithface.testing.subjects import TinyDataset, tiny_card
from tests.testing import broken


def caught(report: Report, check: str) -> None:
    assert report.failed_checks() == {check}, str(report)
    assert all(finding.advice for finding in report.failed)


@pytest.mark.parametrize("way", broken.EXPLAINERS)
def test_a_broken_explainer_is_caught_by_its_check(way: str) -> None:
    caught(check_explainer(broken.Broken(way), max_examples=2), broken.EXPLAINERS[way][1])


def test_what_the_broken_explainers_are_made_of_is_sound() -> None:
    report = check_explainer(broken.Sound(), max_examples=4)
    assert report.ok, str(report)


def test_promises_are_held_to() -> None:
    report = check_explainer(broken.Promises(), max_examples=0)
    assert report.failed_checks() == {"completeness", "translation"}, str(report)


def test_promises_that_are_kept_pass() -> None:
    from faithface.plugins import load_registry

    registry = load_registry(only=[])
    for name, promised in (("saliency", ["translation"]), ("integrated-gradients", ["completeness", "translation"])):
        explainer = registry.explainers[name].object
        assert explainer.info.promises == set(promised)
        report = check_explainer(explainer, max_examples=0, tasks=["pad"], only=[*VALID, *promised])
        assert report.ok, str(report)
        assert {f.outcome for f in report.findings if f.check in promised} == {Outcome.PASSED}


def test_negative_similarity_is_caught() -> None:
    report = check_explainer(
        broken.Negative(), max_examples=0, only=["returns-maps", "shape", "not-negative", "finite"]
    )
    caught(report, "not-negative")


def test_an_explainer_that_cannot_be_sent_to_a_worker_is_caught() -> None:
    caught(check_explainer(broken.HoldsALambda(helper=lambda: 0), only=["pickles"]), "pickles")


@pytest.mark.parametrize("way", broken.METRICS)
def test_a_broken_metric_is_caught_by_its_check(way: str) -> None:
    caught(check_metric(broken.BrokenMetric(way), max_examples=2), broken.METRICS[way][1])


def test_what_the_broken_metrics_are_made_of_is_sound() -> None:
    report = check_metric(broken.Inside(), max_examples=4)
    assert report.ok, str(report)


@pytest.mark.parametrize("way", broken.MODELS)
def test_a_broken_model_is_caught_by_its_check(way: str, tmp_path: Path) -> None:
    card, check = broken.broken_models(tmp_path)[way]
    caught(check_model(card, dataset=TinyDataset("pad", n=16)), check)


def test_a_sound_model_passes() -> None:
    for task in ("pad", "verification"):
        report = check_model(tiny_card(task), dataset=TinyDataset(task, n=16))
        assert report.ok, str(report)


@pytest.mark.parametrize("way", broken.DATASETS)
def test_a_broken_dataset_is_caught_by_its_check(way: str) -> None:
    caught(check_dataset(broken.BrokenDataset("pad", way=way)), broken.DATASETS[way][1])


def test_wrong_identities_are_caught() -> None:
    caught(check_dataset(broken.WrongIdentities("verification")), "identities")


def test_a_dataset_that_cannot_be_sent_to_a_worker_is_caught() -> None:
    caught(check_dataset(broken.HoldsAFile()), "pickles")


def test_sound_datasets_pass() -> None:
    for task in ("pad", "synthetic-detection", "verification"):
        report = check_dataset(TinyDataset(task))
        assert report.ok, str(report)


SUITE = """
[suite]
name = "mine"
version = 1
description = "a suite"
models = ["planted-pad-guided-0"]
datasets = ["planted-pad"]
explainers = ["random", "centre-prior", "edges", "grad-cam"]
metrics = ["entropy@1"]
"""


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        ("[suite]", "[sweet]", "reads"),
        ("version = 1", "versoin = 1", "reads"),
        ('name = "mine"', 'name = "yours"', "named"),
        ('"grad-cam"', '"grad-cm"', "resolves"),
        ('"entropy@1"', '"entropy@1(grd=2)"', "resolves"),
        ('"entropy@1"', '"gap-similarity@1"', "plans"),
        ('"grad-cam"', '"corrrise"', "plans"),
        ('"grad-cam"', '"edges"', "listed-once"),
        ("", "", ""),
    ],
)
def test_a_broken_suite_is_caught_by_its_check(old: str, new: str, check: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE.replace(old, new) if old else SUITE)
    report = check_suite(path)
    assert report.failed_checks() == ({check} if check else set()), str(report)
