"""A model that never ends, and a store that another program holds: one line each, and nothing else is lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from faithface.errors import RunError
from faithface.plugins import Registry
from faithface.reasons import ReasonCode, Status
from faithface.run.driver import execute_plan
from faithface.run.executors import processes
from faithface.run.plan import make_plan
from faithface.run.request import Request
from faithface.run.store import FILE, open_run
from tests.run.test_isolation import Ran
from tests.support.networks import tiny


def endless_network(path: Path) -> None:
    """Write a classifier that multiplies large matrices ten thousand times: minutes of work in one operator."""
    step = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("MatMul", ["v", "v"], ["v2"])],
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [768, 768]),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, [768, 768]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["m"], keepdims=0),
        helper.make_node("Expand", ["m", "size"], ["v0"]),
        helper.make_node("Loop", ["steps", "true", "v0"], ["v1"], body=step),
        helper.make_node("ReduceMin", ["v1"], ["r"], keepdims=0),
        helper.make_node("Flatten", ["image"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y0"]),
        helper.make_node("Add", ["y0", "r"], ["output"]),
    ]
    weights = [
        onnx.numpy_helper.from_array(np.array([768, 768]), "size"),
        onnx.numpy_helper.from_array(np.array(10_000), "steps"),
        onnx.numpy_helper.from_array(np.array(True), "true"),
        onnx.numpy_helper.from_array(np.ones((3 * 32 * 32, 2), np.float32), "w"),
    ]
    graph = helper.make_graph(
        nodes,
        "endless",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 2])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def test_a_model_that_never_ends_fails_its_cells_while_the_others_are_scored(
    registry: Registry, tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SLOW_STEPS", 1.0)
    good = tiny("cnn", "pad", tmp_path)
    endless_network(tmp_path / "endless.onnx")
    endless = good.model_copy(update={"file": "endless.onnx", "name": "endless", "sha256": ""})
    last = good.model_copy(update={"name": "last"})
    asked = Request((good, endless, last), (folder,), ("ramp",), ("mean-relevance@1",), limit=18, batch_size=16)
    ran = Ran(make_plan(asked, registry), tmp_path / "run", timeout=20.0)
    assert ran.outcome.exit_code == 1
    assert ran.left == []
    with open_run(tmp_path / "run") as store:
        cells: dict[str, Any] = {row["model"]: row for row in store.cells()}
    assert {name: row["status"] for name, row in cells.items()} == {
        "tiny-cnn-0": Status.OK,
        "endless": Status.FAILED,
        "last": Status.OK,
    }
    assert cells["endless"]["reason"].code is ReasonCode.TIME_LIMIT
    assert cells["endless"]["reason"].detail.startswith('model "endless", while it was opened, did not end within 20 s')


def test_a_store_that_another_program_holds_is_one_line_and_loses_nothing(
    registry: Registry, tmp_path: Path, pad_card: str, folder: str
) -> None:
    def plan(*explainers: str) -> Any:
        return make_plan(Request((pad_card,), (folder,), explainers, ("mean-relevance@1",), limit=18), registry)

    execute_plan(plan("ramp"), tmp_path / "run")
    holder = sqlite3.connect(tmp_path / "run" / FILE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(RunError, match=r"run.sqlite is locked by another program; close that, then give the same"):
        execute_plan(plan("ramp", "random"), tmp_path / "run")
    holder.execute("ROLLBACK")
    holder.close()
    assert execute_plan(plan("ramp", "random"), tmp_path / "run").exit_code == 0
    with open_run(tmp_path / "run") as store:
        assert [row["status"] for row in store.cells()] == [Status.OK, Status.OK]
