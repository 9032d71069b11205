"""Lanes: every stop of every track exactly once, no batch larger than asked."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faithface.errors import UsageError
from faithface.perturb.masking_plan import Track, lay_out, plan_tracks


@given(tracks=st.integers(0, 40), stops=st.integers(0, 12), batch=st.integers(1, 17))
def test_lanes_cover_every_stop_once_and_no_round_exceeds_the_batch(tracks, stops, batch):
    rounds = list(lay_out(tracks, stops, batch))
    seen = Counter((lane.track, s) for lanes in rounds for lane in lanes for s in range(lane.first, lane.last))
    assert seen == Counter((t, s) for t in range(tracks) for s in range(stops))
    for lanes in rounds:
        lengths = [lane.last - lane.first for lane in lanes]
        assert len(lanes) <= batch
        assert lengths == sorted(lengths, reverse=True)


@given(stops=st.integers(1, 60), batch=st.integers(1, 64))
def test_a_lone_track_is_cut_into_the_fewest_lanes_that_need_the_fewest_passes(stops, batch):
    (lanes,) = lay_out(1, stops, batch)
    passes = max(lane.last - lane.first for lane in lanes)
    assert passes == math.ceil(stops / batch)
    assert len(lanes) == 1 or (len(lanes) - 1) * passes < stops


def plan(stops):
    return plan_tracks(torch.zeros(2, 3, 2, 2), torch.arange(4)[None], [Track(0, 1, 0, np.array(stops))])


def test_a_plan_counts_its_passes():
    assert plan([1, 3, 4]).passes == 3


@pytest.mark.parametrize(
    ("stops", "message"), [([0, 1], "expected 1 to 4"), ([2, 5], "expected 1 to 4"), ([2, 2], "strictly")]
)
def test_stops_that_change_nothing_or_leave_the_image_are_refused(stops, message):
    with pytest.raises(UsageError, match=message):
        plan(stops)


def test_orders_of_another_size_than_the_canvases_are_refused():
    with pytest.raises(UsageError, match="2×2"):
        plan_tracks(torch.zeros(2, 3, 2, 2), torch.arange(6)[None], [])
