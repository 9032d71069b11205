"""Speed of the planted renderer, to be read and not judged: ``pytest tests/speed/test_planted_speed.py``."""

from __future__ import annotations

from faithface_plugins.datasets.planted import keys, pad_arrays, render_levels, sample_identities, sample_nuisance

BATCH = 128


def test_render_a_batch(benchmark):
    people, conditions = sample_identities(1, BATCH), sample_nuisance(keys(1, "speed", BATCH), "loose")
    benchmark.extra_info["images"] = BATCH
    assert len(benchmark(render_levels, people, conditions)) == BATCH


def test_render_one_image(benchmark):
    people, conditions = sample_identities(1, 1), sample_nuisance(keys(1, "speed", 1), "loose")
    assert len(benchmark(render_levels, people, conditions)) == 1


def test_render_twins_with_truth_and_human_masks(benchmark):
    benchmark.extra_info["images"] = BATCH
    assert len(benchmark(pad_arrays, 1, BATCH).images) == BATCH
