"""What ``faithface bench`` compares is the same thing, and its figures and bars are computed as they are named.

Nothing here depends on how fast the machine is: times are made up, or not looked at.
"""

import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from docs.tools import bench_table
from faithface.bench import draw, engines, explainers, memory, render, rivals, suite, timing, work
from faithface.bench.subjects import ResNet18, Small, Subject, export, random_maps, random_samples, with_random_weights
from faithface.contract import Maps
from faithface.contract.running import ONNX_RUNTIME, OPENVINO
from faithface.model import open_model
from faithface.model.twin import preprocess
from faithface.perturb import curves
from faithface.plugins import load_registry
from tests.support.networks import build, tiny


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    network = build("cnn", 2, 32)
    model = open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("bench")), batch_size=8)
    return Subject("small", model, network, network.features)


def test_a_ratio_is_the_median_over_turns_each_against_the_mean_of_its_neighbours(monkeypatch):
    # A B A B A: the As take 2, 4, 6, the Bs 1 and 5.
    clock = itertools.chain([2.0, 1.0, 4.0, 5.0, 6.0])
    monkeypatch.setattr(timing, "seconds", lambda run: next(clock))
    found = timing.paired(lambda: None, lambda: None, 2)
    assert found.median == pytest.approx(((2 + 4) / 2 / 1 + (4 + 6) / 2 / 5) / 2)


def test_the_bare_run_makes_as_many_passes_in_as_large_batches_as_the_metric(subject, monkeypatch):
    model = subject.model
    samples = random_samples(model, 3)
    passes = work.passes_of(model, work.metric_run(model, samples, random_maps(samples), "blur"))
    assert passes == 3 * 99
    seen = []

    class Spy:
        def run(self, outputs, feed):
            seen.append(len(next(iter(feed.values()))))
            return [np.zeros((seen[-1], 2), np.float32)]

    monkeypatch.setattr(model.session, "ort", Spy())
    work.bare_run(model, passes, 8)()
    assert sum(seen) == passes
    assert max(seen) == 8


def test_torch_cam_gets_the_same_curves_from_the_same_maps(subject):
    samples = random_samples(subject.model, 2)
    relevance = random_maps(samples)
    try:
        metric_class = rivals._import_torchcam()
    except Exception:
        pytest.skip("torch-cam is not installed")
    x = preprocess(samples.images, subject.model.card.input)
    given = rivals.GivenMaps(rivals.Logits(subject.network), relevance)
    metric = metric_class(given, lambda z: z.softmax(-1), steps=32, baseline=rivals._black(subject), batch_size=8)
    metric.update(x)
    ours = work.metric_run(subject.model, samples, relevance, "black", points=33)()
    assert metric.summary()["deletion_auc"] == pytest.approx(ours["deletion"].mean(), abs=1e-5)
    assert metric.summary()["insertion_auc"] == pytest.approx(ours["insertion"].mean(), abs=1e-5)


@pytest.mark.parametrize(("by_pixels", "times"), [(False, 1), (True, 3)])
def test_quantus_takes_our_number_of_steps_or_three_times_as_many_where_its_step_counts_pixels(
    subject, by_pixels, times, monkeypatch
):
    samples = random_samples(subject.model, 2)
    try:
        rivals._import_quantus()
    except Exception:
        pytest.skip("Quantus is not installed")
    sizes = []
    hook = subject.network.register_forward_hook(lambda module, given, out: sizes.append(len(out)))
    monkeypatch.setattr(rivals, "paired", lambda theirs, ours, repeats: theirs() and timing.Ratio(1, 1, 1, 1, 1))
    before = subject.model.passes.forward
    try:
        found = rivals.against_quantus(subject, samples, random_maps(samples), 1, by_pixels)
    finally:
        hook.remove()
    assert subject.model.passes.forward == before
    assert found["their_steps"] == times * found["steps"]
    assert sum(sizes) >= 2 * found["their_steps"]


def test_maps_per_second_counts_passes_and_holds_forward_passes_against_bare_ones(subject, monkeypatch):
    chosen = {name: load_registry().explainers[name] for name in ("random", "occlusion", "grad-cam", "inverted")}
    monkeypatch.setattr(explainers, "load_registry", lambda: replace(load_registry(), explainers=chosen))
    rows = {row["explainer"]: row for row in explainers.maps_per_second(subject, 3)}
    assert (rows["random"]["forward"], rows["random"]["backward"]) == (0, 0)
    assert (rows["grad-cam"]["forward"], rows["grad-cam"]["backward"]) == (1, 1)
    assert rows["occlusion"]["forward"] == 100
    assert [name for name, row in rows.items() if row.get("efficiency", 0) > 0] == ["occlusion"]
    assert "inverted" in rows["inverted"]["skipped"]


def test_rivals_are_skipped_with_a_reason_where_they_do_not_apply(subject, tmp_path):
    pairs = open_model(tiny("cnn", "verification", tmp_path))
    middle = Subject("middle", pairs, None, None)
    samples = random_samples(pairs, 2)
    assert samples.are_pairs
    for against in (rivals.against_quantus, rivals.against_torchcam):
        assert "classifiers" in against(middle, samples, random_maps(samples), 1)["skipped"]


def test_pairs_are_measured_on_their_similarity_maps(tmp_path):
    model = open_model(tiny("cnn", "verification", tmp_path), batch_size=8)
    samples = random_samples(model, 2)
    relevance = random_maps(samples)
    found = work.metric_run(model, samples, relevance, "blur")()
    expected = curves(model, samples, Maps(similarity=relevance.abs()[:, None].repeat(1, 2, 1, 1)), fill="blur")
    np.testing.assert_allclose(found["deletion"], work.area(expected.scores["deletion"]), atol=1e-6)


# The published network has 11,689,512 with 1,000 classes, each of which takes 512 weights and a bias. The stand-in
# should cost what the zoo's classifier does, so its size may differ by 2 %.
@pytest.mark.parametrize(
    ("network", "parameters", "near"), [(ResNet18, 11_689_512 - 998 * 513, 0), (Small, 4.9e4, 0.02)]
)
def test_the_networks_built_here_have_the_size_that_they_are_named_after(network, parameters, near):
    made = network()
    assert sum(p.numel() for p in made.parameters()) == pytest.approx(parameters, rel=near, abs=0)
    assert made(torch.zeros(1, 3, 112, 112)).shape == (1, 2)


def test_an_exported_network_gives_the_torch_networks_answers_for_any_batch(tmp_path):
    network = with_random_weights(ResNet18(widths=(8, 8, 8, 8)))
    model = open_model(export(network, "thin", tmp_path))
    images = torch.rand(3, 3, 112, 112)
    with torch.no_grad():
        expected = network(preprocess(images, model.card.input))
    torch.testing.assert_close(model.outputs(images), expected, atol=1e-4, rtol=1e-4)


def made_up_result():
    row = {
        "role": "small",
        "network": "n",
        "input": [8, 8],
        "batch": 4,
        "bare_passes_per_second": 10.0,
        "metric_passes_per_second": 8.0,
        "efficiency": {"ratio": 0.8, "quartiles": [0.7, 0.9]},
        "quantus": {"ratio": 6.0, "quartiles": [5.0, 7.0]},
        "torchcam": {"skipped": "torch-cam cannot be imported (ImportError)"},
    }
    large = {**row, "role": "ResNet-18 size", "efficiency": {"ratio": 0.94, "quartiles": [0.9, 0.97]}}
    return {
        "quick": True,
        "device": "cpu",
        "machine": suite.machine("cpu"),
        "engine": [row, large],
        "gradcam": {"six": {"ratio": 7.0, "quartiles": [6.0, 8.0]}, "one_by_one": {"grad-cam": 2.0}},
        "captum": {"saliency": 1.5},
        "explainers": [
            {"explainer": "edges", "network": "n", "maps_per_second": 3.0},
            {"explainer": "lime", "network": "n", "maps_per_second": 3.0, "efficiency": 0.86},
            {"explainer": "rise", "network": "n", "maps_per_second": 3.0, "efficiency": 0.84},
        ],
        "engines": {
            "networks": [
                {
                    "network": "planted-mobile-0",
                    "engine": "openvino",
                    "onnxruntime": "2 × 8",
                    "autotuned": "2 × 32",
                    "ratio": 2.3,
                    "quartiles": [2.2, 2.4],
                }
            ],
            "mean": 1.2,
            "worst": 0.99,
            "depthwise": 2.3,
        },
        "growth": [
            {"samples": 100, "seconds": 1, "peak_mib": 100.0},
            {"samples": 1000, "seconds": 9, "peak_mib": 104.0},
        ],
        "notes": ["middle: skipped"],
        "seconds": 1.0,
    }


def test_each_bar_is_held_missed_or_not_measured_by_its_own_figure():
    verdict = {bar["figure"]: bar["holds"] for bar in suite.bars(made_up_result())}
    assert verdict == {
        "efficiency, ResNet-18 size": False,
        "efficiency, small": False,
        "efficiency of explainers that only go forward, the lowest": False,
        "autotuned engine against ONNX Runtime, depthwise verifier": True,
        "autotuned engine against ONNX Runtime, geometric mean": False,
        "autotuned engine against ONNX Runtime, the lowest": True,
        "against Quantus PixelFlipping, ResNet-18 size": True,
        "against Quantus PixelFlipping, small": True,
        "against torch-cam DeletionInsertionMetric, ResNet-18 size": None,
        "against torch-cam DeletionInsertionMetric, small": None,
        "six gradient CAMs against pytorch-grad-cam": True,
        "peak memory, 1000 samples against 100": True,
    }


def test_the_bar_of_efficiency_is_the_gpus_on_a_gpu():
    result = {**made_up_result(), "device": "cuda"}
    assert suite.bars(result)[0]["holds"] is True


def test_the_text_names_every_figure_and_says_no_where_a_bar_is_missed(tmp_path):
    result = made_up_result()
    result["bars"] = suite.bars(result)
    text = render(result)
    assert json.loads(json.dumps(result))
    line = next(line for line in text.splitlines() if line.startswith("efficiency, ResNet-18 size"))
    assert "0.94" in line
    assert line.rstrip().endswith("NO")
    assert "not measured" in text
    assert re.search(r"planted-mobile-0 +2 × 8 +openvino +2 × 32 +2\.30 \(2\.20–2\.40\)", text)
    page = bench_table.table(result)
    assert "| efficiency, ResNet-18 size | 0.94 | ≥ 0.95 | **no** |" in page
    assert "| planted-mobile-0 | 2 × 8 | openvino | 2 × 32 | 2.30 (2.20–2.40) |" in page
    draw(result, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 5000


def test_scoring_many_samples_reports_what_it_did(tmp_path):
    row = memory.score_many(17, export(with_random_weights(Small()), "small", tmp_path).path)
    assert row["samples"] == 17
    assert row["peak_mib"] > 50


def test_a_process_that_fails_is_a_row_with_its_last_line(monkeypatch):
    monkeypatch.setattr(memory.sys, "executable", "false")
    assert memory.growth([5]) == [{"samples": 5, "failed": "no message"}]


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's own count")
def test_the_peak_of_a_child_is_not_that_of_the_process_that_started_it():
    held = np.ones(200 * 2**20, dtype=np.uint8)
    code = "from faithface.bench.memory import peak_mib; print(peak_mib())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Both have imported the same libraries; only this process has the array.
    assert float(child.stdout) < memory.peak_mib() - held.nbytes / 2**20 / 2


def test_engines_are_compared_on_a_choice_made_now_and_the_environment_is_left_alone(monkeypatch, tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is the extra 'openvino'")
    monkeypatch.setattr(engines, "_cards", lambda folder: [export(with_random_weights(Small()), "small", folder)])
    monkeypatch.setenv("FAITHFACE_CACHE", str(tmp_path / "mine"))
    before = dict(os.environ)
    found = engines.compare_engines(1, passes=8)
    assert dict(os.environ) == before
    assert not (tmp_path / "mine").exists()
    (row,) = found["networks"]
    assert row["engine"] in (ONNX_RUNTIME, OPENVINO)
    assert found["mean"] == pytest.approx(row["ratio"])
    assert (found["worst"], found["depthwise"]) == (row["ratio"], None)


def test_without_openvino_the_engines_are_not_compared(monkeypatch):
    monkeypatch.setattr(engines, "openvino_version", lambda: None)
    assert "faithface[openvino]" in engines.compare_engines(1)["skipped"]


def test_a_mobilefacenet_has_the_published_number_of_parameters():
    # Chen et al. 2018: 0.99 million with an embedding of 128 and PReLU, batch norms folded.
    network = engines.MobileFaceNet(128)
    convolutions = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d))
    assert convolutions == pytest.approx(0.99e6, rel=0.02)
    assert network.eval()(torch.zeros(2, 3, 112, 112)).shape == (2, 128)


def test_the_page_is_written_between_its_marks(tmp_path):
    page, measured = tmp_path / "page.md", tmp_path / "bench.json"
    result = made_up_result()
    measured.write_text(json.dumps(result | {"bars": suite.bars(result)}))
    page.write_text(f"before\n{bench_table.BEGIN}\nstale row\n{bench_table.END}\nafter\n")
    bench_table.main([str(measured), str(page)])
    text = page.read_text()
    assert text.startswith(f"before\n{bench_table.BEGIN}\n")
    assert text.endswith(f"{bench_table.END}\nafter\n")
    assert "stale row" not in text
    assert "| efficiency, small | 0.8 |" in text
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="no marks"):
        bench_table.main([str(measured), str(page)])
