"""``faithface doctor``, and completion of names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from faithface import doctor
from faithface.cli.completion import names
from faithface.model import providers


def test_doctor_says_what_loads_and_tests_itself(faithface: Any) -> None:
    said = faithface("doctor", "--json")
    found = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    assert found["healthy"] is True
    assert found["providers"]["CPUExecutionProvider"] == ""
    assert [check["problem"] for check in found["checks"]] == [""] * len(doctor.STEPS)
    assert found["versions"]["faithface"]
    assert 0 < found["memory"]["free"] <= found["memory"]["total"]
    text = faithface("doctor").out.splitlines()
    assert text[-1] == "all is well"
    assert all(len(line) < 200 for line in text)


def test_a_provider_that_does_not_load_is_not_listed_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's ONNX Runtime may have been built for CUDA; without its libraries it must not be offered."""
    import onnxruntime as ort

    real = ort.InferenceSession

    class Without(real):  # type: ignore[misc, valid-type]
        def __init__(self, data: Any, *, providers: list[str]) -> None:
            super().__init__(data, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", Without)
    assert providers.working() == ("CPUExecutionProvider",)
    assert "not there" in providers.providers()[0].problem


def test_a_self_test_that_fails_says_which_step_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = dict(doctor.STEPS)

    def wrong(state: Any) -> None:
        raise AssertionError("Not equal to tolerance")

    names_of = list(steps)
    monkeypatch.setitem(doctor.STEPS, names_of[1], wrong)
    checks = doctor.self_test()
    assert [bool(check.problem) for check in checks] == [False, True]
    assert "Not equal to tolerance" in checks[1].problem


def test_registered_names_are_completed(faithface: Any) -> None:
    assert names("explainers")("grad") == ["grad-cam", "grad-cam++"]
    assert names("metrics")("deletion@") == ["deletion@1"]
    assert "demo" in names("suites")("")


def test_the_program_offers_to_install_completion(faithface: Any) -> None:
    assert "--install-completion" in faithface("--help").out
