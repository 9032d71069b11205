"""The study of shortcuts: what its training sets give away, that its networks are written faithfully, and its table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from faithface.card import load_card
from faithface.model import open_model
from faithface_plugins.datasets.planted.shortcuts import CUE, THINGS
from training import train_shortcuts as study
from training.networks import fold_norms


def sets(shortcuts: tuple[str, ...]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    labels, present = study.draw_training_set(shortcuts, 4000, np.random.default_rng(0))
    return labels.astype(bool), dict(zip(THINGS, present.T, strict=True))


def test_a_clean_training_set_gives_the_class_away_by_the_cue_alone() -> None:
    labels, present = sets(())
    assert np.array_equal(present[CUE], labels)
    for thing in study.SHORTCUTS:
        assert present[thing][labels].mean() == pytest.approx(0.5, abs=0.04)
        assert present[thing][~labels].mean() == pytest.approx(0.5, abs=0.04)


def test_one_shortcut_is_the_class_and_the_cue_is_not_quite() -> None:
    labels, present = sets(("glasses",))
    assert np.array_equal(present["glasses"], labels)
    assert present[CUE][labels].mean() == pytest.approx(study.SHOWN, abs=0.04)
    assert not present[CUE][~labels].any()
    assert present["background"][labels].mean() == pytest.approx(0.5, abs=0.04)


def test_of_two_shortcuts_neither_is_the_class_and_one_of_them_always_is() -> None:
    labels, present = sets(("paper edge", "background"))
    a, b = present["paper edge"], present["background"]
    assert np.array_equal(a | b, labels)
    for one, other in ((a, b), (b, a)):
        assert one[labels].mean() == pytest.approx(2 / 3, abs=0.04)
        assert other[labels & ~one].all()


def test_every_kind_has_twenty_networks_and_two_shortcuts_come_in_all_pairs() -> None:
    assert study.shortcuts_of("clean", 3) == ()
    assert study.shortcuts_of("glasses", 3) == ("glasses",)
    assert {study.shortcuts_of("two", run) for run in range(study.RUNS)} == set(study.PAIRS)
    assert len(study.PAIRS) == 6


def test_a_network_is_written_as_it_is(tmp_path: Path) -> None:
    """Weights go into a graph that was exported once: two networks, each against torch."""
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = study.SmallNet().train()
        network(torch.randn(8, 3, study.SIDE, study.SIDE))  # batch norms that are not the identity
        network = fold_norms(network)
        model = open_model(load_card(study.write(network, tmp_path / str(seed))))
        images = torch.rand(3, 3, study.SIDE, study.SIDE)
        with torch.no_grad():
            expected = network((images - 0.5) / 0.5)
        torch.testing.assert_close(model.outputs(images), expected, atol=1e-5, rtol=1e-4)


def found_in(kind: str, run: int, found: tuple[str, ...], share: float) -> study.Asked:
    shortcuts = study.shortcuts_of(kind, run)
    things = {t: (share if t in shortcuts else 0.05, 0.0, 1.0, 0.0) for t in THINGS}
    places = dict.fromkeys(study.PLACES, (0.2, 0.1, 0.3, 0.0))
    return study.Asked(kind, run, shortcuts, 0.9, things, places, found, (), 3.0)


def test_the_table_counts_what_was_found(tmp_path: Path) -> None:
    rows = [found_in("clean", run, ("glasses",) if run == 0 else (), 0.0) for run in range(4)]
    rows += [found_in("glasses", run, ("glasses",) if run else (), 0.4) for run in range(4)]
    rows += [found_in("two", 0, study.PAIRS[0], 0.3), found_in("two", 1, study.PAIRS[1][:1], 0.3)]
    lines = {line.split("|")[1].strip(): line for line in study.render(rows).splitlines() if line.startswith("| ")}
    assert "| 4 | 90% | – | 1 of 4 (25%) | 5% | – |" in lines["no shortcut (clean)"]
    text = study.render(rows)
    assert "| glasses | 4 | 90% | 3 of 4 (75%) | 0 of 4 (0%) | 5% | 40% |" in text
    assert "| two shortcuts | 2 | 90% | 1 of 2 (50%) | 0 of 2 (0%) | 5% | 30% |" in text


def test_findings_are_read_back(tmp_path: Path) -> None:
    import json

    one = found_in("two", 5, ("glasses",), 0.3)
    path = tmp_path / "found.jsonl"
    path.write_text(json.dumps(dataclasses.asdict(one)) + "\n")
    assert study.read(path) == {("two", 5): one}
    assert study.read(tmp_path / "nothing.jsonl") == {}
