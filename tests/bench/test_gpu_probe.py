"""The probe for changed batch sizes times the same passes in two orders."""

import pytest

from faithface.bench import gpu, timing
from faithface.model import open_model
from tests.support.networks import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("probe")


def test_both_orders_hold_the_same_passes_and_only_one_changes_the_shape_each_time(folder, monkeypatch):
    model = open_model(tiny("cnn", "pad", folder))
    seen, orders = [], []
    monkeypatch.setattr(model.session, "run_tensor", lambda batch: seen.append(len(batch)))

    def paired(a, b, repeats):
        for run in (a, b):
            seen.clear()
            run()
            orders.append(list(seen))
        return timing.Ratio(1.0, 1.0, 1.0, seconds_a=1.0, seconds_b=1.4)

    monkeypatch.setattr(gpu, "paired", paired)
    found = gpu.changed_shapes(model, rows=6, passes=3)
    assert orders[:2] == [[6, 6, 6, 3, 3, 3], [6, 3, 6, 3, 6, 3]]
    # Four more changes took 0.4 s; a pass took 1.4 s / 3.
    assert found == {"rows": 6, "milliseconds": 100.0, "passes_lost": pytest.approx(0.1 / (1.4 / 3), abs=1e-3)}


def test_a_change_costs_a_finite_time_on_the_host_too(folder):
    found = gpu.changed_shapes(open_model(tiny("cnn", "pad", folder)), rows=4, passes=2, repeats=1)
    assert abs(found["milliseconds"]) < 1000


def test_a_file_with_a_fixed_batch_has_no_shape_to_change(folder):
    assert "skipped" in gpu.changed_shapes(open_model(tiny("fixed-batch", "pad", folder)))
