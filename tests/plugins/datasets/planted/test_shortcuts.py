"""The planted set of shortcuts: every image with and without each thing, and nothing else changed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from faithface.answers.players import Things, players_of
from faithface_plugins.datasets.planted.annotate import tag_mask
from faithface_plugins.datasets.planted.shortcuts import (
    THINGS,
    PlantedShortcuts,
    changed_role,
    draw_things,
    plan_faces,
    render_things,
)

DATA = PlantedShortcuts(n=8, seed=5)


def levels(face) -> np.ndarray:
    return np.round(face.read() * 255).astype(int)


def test_things_come_and_go_independently_of_the_class() -> None:
    present = draw_things(3, 4000).astype(float)
    assert present.mean(axis=0) == pytest.approx(np.full(5, 0.5), abs=0.03)
    correlation = np.corrcoef(present.T) - np.eye(5)
    assert np.abs(correlation).max() < 0.05


def test_the_label_is_the_cue_and_people_differ() -> None:
    items = DATA.items()
    assert [item.label == "attack" for item in items] == DATA.things()[:, 0].tolist()
    assert len({item.face.identity for item in items}) == len(items)
    assert all(re.fullmatch(r"[a-z0-9-]+", item.id) for item in items)


def test_an_image_with_things_changed_is_the_image_that_has_them() -> None:
    """Changing a thing twice gives the image back; so every role is rendered from the things it names."""
    plan, present = plan_faces(5, 8), DATA.things()
    for i, item in ((0, DATA.items()[0]), (3, DATA.items()[3])):
        for changed in (("glasses",), ("cue", "background"), THINGS):
            bits = present[i] ^ np.isin(THINGS, changed)
            expected = render_things(plan.take(np.array([i])), bits[None], threads=1)[0]
            assert np.array_equal(levels(item.others[changed_role(changed)]), expected)
        assert np.array_equal(
            levels(item.face), render_things(plan.take(np.array([i])), present[i][None], threads=1)[0]
        )


def test_a_change_stays_where_the_thing_is() -> None:
    item = DATA.items()[1]
    image = levels(item.face)
    moved = {thing: np.abs(levels(item.others[changed_role([thing])]) - image).max(axis=2) > 2 for thing in THINGS}
    assert np.array_equal(moved["corner tag"], moved["corner tag"] & tag_mask())
    assert moved["corner tag"].sum() > 60
    inner = np.zeros((112, 112), bool)
    inner[14:-14, 14:-14] = True
    assert not (moved["paper edge"] & inner).any()
    assert not (moved["glasses"] & ~inner).any()
    assert all(mask.any() for mask in moved.values())


def test_the_set_has_players() -> None:
    players = players_of(DATA, DATA.items(), (56, 56), None)
    assert isinstance(players, Things)
    assert players.names == THINGS
    assert len(players.roles) == 32
