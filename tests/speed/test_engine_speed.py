"""Speed of the engine, by pytest-benchmark: ``pytest tests/speed --benchmark-only --benchmark-group-by=param:role``.

No test here asserts a time: ``faithface bench`` holds ratios against the project's bars.
"""

import pytest

from faithface.bench import work
from faithface.bench.subjects import random_maps, random_samples, subjects
from faithface.perturb.ranking import rank

pytest.importorskip("pytest_benchmark")


@pytest.fixture(scope="module")
def found():
    with subjects() as (opened, _notes):
        yield {subject.role: subject for subject in opened}


@pytest.fixture(params=["small", "ResNet-18 size"])
def case(request, found):
    model = found[request.param].model
    samples = random_samples(model, 16 if request.param == "small" else 1)
    return model, samples, random_maps(samples)


def test_bare_passes(benchmark, case):
    model, samples, _ = case
    benchmark(work.bare_run(model, 99 * len(samples), model.batching.batch))


def test_deletion_and_insertion(benchmark, case):
    model, samples, relevance = case
    areas = benchmark(work.metric_run(model, samples, relevance, "blur"))
    assert len(areas["deletion"]) == len(samples)


@pytest.mark.parametrize("grid", [0, 14])
def test_ranking(benchmark, case, grid):
    _, samples, relevance = case
    assert len(benchmark(rank, relevance, samples, grid).order) == len(samples)
