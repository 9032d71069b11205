"""``faithface plugins``, the listings, ``inspect``, ``--version``: what they print, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

KINDS = ("explainers", "models", "datasets", "metrics", "suites")


@pytest.mark.parametrize("kind", [*KINDS, "plugins"])
def test_a_listing_is_text_or_a_json_list(faithface: Any, kind: str) -> None:
    text, data = faithface(kind), faithface(kind, "--json")
    assert text.code == data.code == 0
    for row in json.loads(data.out):
        assert str(row.get("name") or row.get("id") or row.get("distribution")) in text.out


def test_an_extra_plugin_is_listed_with_its_provider(faithface: Any) -> None:
    rows = {row["name"]: row for row in json.loads(faithface("explainers", "--json").out)}
    assert rows["ramp"]["provider"] == "extras 1"
    assert rows["random"]["provider"].startswith("faithface ")


def test_an_explainer_is_described_by_its_docstring_and_parameters(faithface: Any) -> None:
    said = faithface("explainers", "ramp")
    assert said.out.startswith("A map that falls from left to right")
    assert "slope=1.0" in said.out
    found = json.loads(faithface("explainers", "ramp(slope=2)", "--json").out)
    assert found["parameters"] == {"slope": "2.0"}


def test_a_metric_prints_its_protocol(faithface: Any) -> None:
    said = faithface("metrics", "entropy@1")
    for part in ("entropy@1 (lower is better ↓)", "Formula", "range", "provider"):
        assert part in said.out
    found = json.loads(faithface("metrics", "cost@1", "--json").out)
    assert found["range"] == [0.0, None]


def test_a_dataset_on_a_path_says_how_many_samples_of_which_kinds_it_has(faithface: Any, made: Path) -> None:
    found = json.loads(faithface("datasets", f"folder:{made / 'classes'}", "--json").out)
    assert (found["samples"], found["kinds"]) == (20, {"attack": 10, "bona-fide": 10})
    assert faithface("datasets", "folder").code == 0


def test_a_model_card_is_described_with_its_fields(faithface: Any, made: Path) -> None:
    found = json.loads(faithface("models", made / "pad.toml", "--json").out)
    assert found["task"] == "pad"
    assert found["input"]["size"] == [32, 32]
    assert "bona-fide" in faithface("models", made / "pad.toml").out


def test_presets_are_listed_and_printed_as_cards(faithface: Any, tmp_path: Path) -> None:
    from faithface.card import load_card

    names = [row["name"] for row in json.loads(faithface("models", "--presets", "--json").out)]
    assert "sface" in names
    for name in names:
        said = faithface("models", name, "--presets")
        card = tmp_path / f"{name}.toml"
        card.write_text(said.out)
        file = next(line for line in said.out.splitlines() if line.startswith("file = ")).split('"')[1]
        (tmp_path / file).write_bytes(b"weights")
        assert load_card(card).file == file
    assert "no preset" in faithface("models", "sfac", "--presets").error


def test_inspect_describes_a_card_and_drafts_one_for_a_bare_network(faithface: Any, made: Path) -> None:
    said = faithface("inspect", made / "pad.toml")
    assert "batch      dynamic" in said.out
    assert "twin       outputs equal" in said.out
    (onnx,) = (p for p in made.glob("*.onnx") if "pad" in p.name)
    assert "[output]" in faithface("inspect", onnx).out
    assert json.loads(faithface("inspect", onnx, "--json").out)["opset"] == 17
    assert faithface("inspect", "nothing.onnx").code == 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_is_exit_code_2(faithface: Any, kind: str) -> None:
    said = faithface(kind, "no-such-thing")
    assert said.code == 2
    assert "no-such-thing" in said.error


def test_version_and_help(faithface: Any) -> None:
    from importlib.metadata import version

    assert faithface("--version").out.strip() == f"faithface {version('faithface')}"
    said = faithface("--help")
    assert said.code == 0
    for command in ("run", "export", "explain", "inspect", "bench", "leaderboard", *KINDS):
        assert f"  {command} " in said.out


def test_every_command_has_help(faithface: Any) -> None:
    for command in ("run", "export", "explain", "inspect", "bench", "plugins", *KINDS):
        said = faithface(command, "--help")
        assert said.code == 0
        assert "--" in said.out
