"""The kit itself: reports, expected failures, what a plugin's test file gets, the tiny networks, the device check."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from docs.tools import check_tables
from faithface.contract import FaceModel, Samples
from faithface.errors import UsageError
from faithface.loading import load_samples
from faithface.testing import ModelDouble, Outcome, Severity, TinyDataset, check_explainer, tiny_model
from faithface.testing.collecting import by_object, plugin_tests
from faithface.testing.devices import HostTensors, is_on_host
from faithface.testing.findings import Check, CheckFailed, CheckSkipped, expect, mentions, run_checks
from faithface.testing.located import auc, shifted, turned
from faithface.testing.subjects import tiny_double
from tests.testing.broken import Broken, Sound


def fails(_trial: object) -> None:
    raise CheckFailed("got 1, expected 2")


def skips(_trial: object) -> None:
    raise CheckSkipped("nothing to ask")


def passes(_trial: object) -> str:
    return "remark"


def breaks(_trial: object) -> None:
    raise ZeroDivisionError("by\nzero")


CHECKS = (
    Check("first", "?", "do this", fails),
    Check("second", "?", "do that", passes, after=("first",)),
    Check("third", "?", "", skips),
    Check("fourth", "?", "look", breaks, Severity.WARNING),
    Check("fifth", "?", "", passes),
)


def test_findings_say_what_came_of_each_check() -> None:
    found = {f.check: f for f in run_checks(CHECKS, None, "pad")}
    assert [f.outcome for f in found.values()] == ["failed", "skipped", "skipped", "failed", "passed"]
    assert (found["first"].reason, found["first"].advice) == ("got 1, expected 2", "do this")
    assert found["second"].reason == "needs first"
    assert found["fourth"].reason == "raised ZeroDivisionError: by zero"
    assert not found["fourth"].failed  # a warning
    assert str(found["first"]) == "first [pad]: failed (error): got 1, expected 2; do this"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found["first"].reason = ""  # type: ignore[misc]


def test_an_expected_failure_is_strict() -> None:
    names = [c.name for c in CHECKS]
    found = run_checks(CHECKS, None)
    expected = expect(found, {"first": "a known limit"}, names)
    assert expected[0].outcome is Outcome.EXPECTED_FAILURE
    assert "a known limit" in expected[0].reason
    assert not any(f.failed for f in expected)
    unneeded = expect(found, {"fifth": "a known limit"}, names)
    assert [f.reason for f in unneeded if f.failed and f.check == "fifth"] == ["was expected to fail, but did not"]
    with pytest.raises(UsageError, match='names "frist"; did you mean "first"'):
        expect(found, {"frist": "a reason"}, names)
    with pytest.raises(UsageError, match="has no reason"):
        expect(found, {"first": " "}, names)


def test_an_expected_failure_of_an_explainer_passes_the_report() -> None:
    report = check_explainer(
        Broken("float64"), expected_failures={"dtype": "written so"}, only=["returns-maps", "dtype"]
    )
    assert report.ok
    report = check_explainer(Sound(), expected_failures={"dtype": "written so"}, only=["returns-maps", "dtype"])
    with pytest.raises(AssertionError, match="was expected to fail"):
        report.raise_for_failures()


def test_expected_failures_of_several_objects_name_theirs() -> None:
    assert by_object({"a:dtype": "x"}, ["a", "b"]) == {"a": {"dtype": "x"}}
    assert by_object({"m@1:dtype": "x"}, ["m@1"]) == {"m@1": {"dtype": "x"}}
    assert by_object({"dtype": "x"}, ["a"]) == {"a": {"dtype": "x"}}
    with pytest.raises(UsageError, match="write NAME:dtype"):
        by_object({"dtype": "x"}, ["a", "b"])
    with pytest.raises(UsageError, match="not registered"):
        by_object({"c:dtype": "x"}, ["a", "b"])


def test_plugin_tests_of_an_installed_distribution() -> None:
    tests = plugin_tests("faithface_resnet29", data={"resnet29": "folder:x"})
    assert set(tests) == {"test_plugin_loads", "test_model_resnet29"}
    tests["test_plugin_loads"]()
    with pytest.raises(UsageError, match=r"no distribution .*did you mean .faithface-resnet29"):
        plugin_tests("faithface-resnet92")


def test_parameters_are_found_in_docstrings_with_dashes_or_underscores() -> None:
    assert mentions("n_masks: how many", "n-masks")
    assert mentions("n-masks: how many", "n-masks")
    assert not mentions("masks: how many", "n-masks")


# --- where a map points


def test_area_under_the_curve_counts_ties_half() -> None:
    truth = np.zeros((4, 4), bool)
    truth[1, 1] = truth[2, 2] = True
    values = np.arange(16.0).reshape(4, 4)
    wins = [
        (values[t] > v) + 0.5 * (values[t] == v) for t in zip(*np.nonzero(truth), strict=True) for v in values[~truth]
    ]
    assert auc(values, truth) == pytest.approx(np.mean(wins))
    assert auc(np.ones((4, 4)), truth) == 0.5
    assert auc(truth.astype(float), truth) == 1.0


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (0, -1), (2, -2)])
def test_a_displacement_is_measured(down: int, right: int) -> None:
    truth = np.zeros((20, 20), bool)
    truth[6:11, 9:13] = True
    moved = np.roll(truth.astype(float), (down, right), (0, 1))
    assert shifted([moved], [truth])[0] == (down, right)


@pytest.mark.parametrize(
    ("turn", "words"),
    [(lambda m: m, ""), (lambda m: m[:, ::-1], "mirrored"), (lambda m: m.T, "transposed (height"), (np.rot90, "270")],
)
def test_a_turned_map_is_recognised(turn, words: str) -> None:
    truth = np.zeros((20, 20), bool)
    truth[2:5, 11:18] = True
    name, _best, _own = turned([turn(truth.astype(float))], [truth])
    assert words in name
    assert bool(words) == bool(name)


# --- the tiny networks


@pytest.mark.parametrize("task", ["pad", "synthetic-detection", "verification"])
def test_the_tiny_network_looks_at_the_evidence_and_nowhere_else(task: str) -> None:
    """Painting everything but the evidence grey leaves the decision as it is; painting the evidence grey undoes it."""
    data = TinyDataset(task, n=8)  # type: ignore[arg-type]
    model = tiny_model(data.task)
    samples = load_samples(model, data.items(), dataset=data)
    if task == "verification":
        assert samples.clean.predicted.bool().tolist() == samples.genuine.tolist()
        masks = samples.truth("similarity") + samples.truth("dissimilarity")
    else:
        names = [model.card.output.classes[i] for i in samples.clean.predicted]
        assert names == [item.label for item in samples.items]
        masks = samples.truth("relevance")
    inside = (masks > 0).unsqueeze(-3)
    only = torch.where(inside, samples.images, torch.tensor(0.5)).flatten(0, -4)
    without = torch.where(inside, torch.tensor(0.5), samples.images).flatten(0, -4)
    whole = model.outputs(samples.images.flatten(0, -4))
    assert (model.outputs(only) - whole).abs().max() < 0.05 * whole.abs().max()
    blank = model.outputs(torch.full_like(without[:1], 0.5))
    assert (model.outputs(without) - blank).abs().max() < 0.05 * whole.abs().max()


def test_the_double_gives_the_numbers_of_the_file(tiny_samples: Samples, tiny_model: FaceModel) -> None:
    double, views = tiny_double("pad"), tiny_samples.views()
    assert torch.allclose(double.outputs(views.images), tiny_samples.clean.outputs, atol=1e-5)
    assert torch.allclose(double.scores(views.images), tiny_model.scores(views.images), atol=1e-5)
    assert torch.allclose(
        double.gradient(views.images, views.target), tiny_model.gradient(views.images, views.target), atol=1e-6
    )
    cotangents = torch.randn(8, 3, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(double.vjp(views.images, cotangents), tiny_model.vjp(views.images, cotangents), atol=1e-6)
    seen = double.activations(views.images, views.target)
    assert seen.gradients is not None
    assert seen.values.shape == seen.gradients.shape == (8, 4, 16, 16)


def test_fixtures_are_there(
    tiny_pairs: Samples, tiny_verifier: FaceModel, tiny_dataset: TinyDataset, model_double: ModelDouble
) -> None:
    assert tiny_pairs.images.shape == (8, 2, 3, 32, 32)
    assert tiny_verifier.card.task == "verification"
    assert len(tiny_dataset.items()) == 8
    assert model_double.card.task == "pad"


def test_the_pytest_plugin_loads_nothing_heavy() -> None:
    code = "import faithface.testing.pytest_plugin, sys; print('torch' in sys.modules, 'onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# --- devices


def told(act) -> list[str]:
    images = torch.rand(2, 3, 4, 4)
    mode = HostTensors()
    with mode:
        act(images)
    return mode.problems


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x * torch.ones(4, 4, device=x.device),
        lambda x: x * torch.ones(4, 4).to(x),
        lambda x: x * torch.tensor(0.5),
        lambda x: x[torch.tensor([1, 0])],
        lambda x: torch.zeros_like(x) + x,
        lambda x: x.cpu().numpy(),
        lambda x: torch.from_numpy(np.ones((4, 4), np.float32)).to(x.device) * x,
        lambda x: torch.full((2,), 0.5, device=x.device) * x.mean(dim=(1, 2, 3)),
    ],
)
def test_code_that_runs_on_a_device_is_let_through(act) -> None:
    assert told(act) == []


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda x: x * torch.ones(4, 4), "torch.mul"),
        (lambda x: x + torch.from_numpy(np.ones((4, 4), np.float32)), "torch.add"),
        (lambda x: torch.where(torch.ones(4, 4) > 0, x, x), "torch.where"),
        (lambda x: x.numpy(), ".numpy()"),
        (lambda x: torch.cat([x, torch.zeros(1, 3, 4, 4)]), "torch.cat"),
    ],
)
def test_code_that_would_fail_on_a_device_is_named(act, words: str) -> None:
    (problem,) = told(act)
    assert words in problem
    assert "test_kit.py, line" in problem


def test_what_is_made_of_host_tensors_is_on_the_host() -> None:
    with HostTensors():
        made = torch.zeros(2, 2) + torch.ones(2, 2)
        moved = made.to("cpu")
        turned, turned_there = made.T, moved.T
    assert is_on_host(made)
    assert is_on_host(turned)
    assert not is_on_host(turned_there)
    assert not is_on_host(moved)


def test_the_page_has_every_check() -> None:
    page = Path(check_tables.PAGE).read_text(encoding="utf-8")
    assert check_tables.tables() in page, "run python -m docs.tools.check_tables"
