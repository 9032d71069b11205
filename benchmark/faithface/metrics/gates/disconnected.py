"""``disconnected@1``: does a map stay off pixels that provably cannot matter?

Place in the flow: a gate that explains other networks; called by ``run``. May call ``windows``, ``_reexplain``,
``contract``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.errors import NotApplicable
from faithface.lazy import torch
from faithface.metrics import _maps
from faithface.metrics._reexplain import AGAIN, need_explainer, rescored
from faithface.metrics.gates.windows import dilated, quarters, windowed
from faithface.reasons import Reason

MARGIN = 0.08  # by how much a window is dilated, as a share of the shorter side


@dataclass(frozen=True)
class Disconnected(Metric):
    """The map's mass on the part of the image that a network was made to see.

    Formula
        For each quarter w of the image (rows 0 to ⌊H/2⌋ − 1 or from ⌊H/2⌋, columns alike) the network is given a
        window: its input x, prepared as the card says, becomes x·M + C before anything reads it, with M = 1 in w and
        0 outside, and C = 0 in w and the prepared mid-grey (0.5 in [0, 1]) outside. What lies outside w is multiplied
        by 0 and cannot matter. The samples are explained on the network with the window, for the class that the whole
        network predicted. Let w⁺ be the window and all pixels at most 8 % of the shorter side from it along both
        axes, A its share of the image's area, and m the share of Σ|map| inside w⁺. Then
        value = mean over the four windows of (m − A) / (1 − A).

    Values
        headline: the mean over the windows.
        ``worst``: the smallest of the four.

    Range and direction
        −1 to 1. Higher is better. The best value is 1.0: nothing outside. A map that is spread evenly has 0, a
        random one 0 in expectation; a map that lies outside has less: −A / (1 − A) for a window, about −0.5.

    Passed or failed
        Passed where the mean over the samples is at least 0.9. Nine tenths of what exceeds chance then lie where
        something can matter.

    Which maps
        Classifiers: relevance, by its absolute value. Pairs: both faces are seen through the same window; the probe's
        similarity map on genuine pairs, its dissimilarity map on impostor pairs.

    Special cases
        A map without mass is empty inside as outside: that window does not count. Where all four are empty, the value
        is 0 and the sample is flagged. Where a map is not finite, there is no value.

    Differs from other libraries
        Pixel-flipping tests of this kind change the image; here the image stays and the network is changed, so that
        irrelevance is a fact of the graph and no assumption. Networks of disconnected halves (DiFull, Rao et al. 2022)
        need a classification head for each part; a window works with any ONNX file.

    Known weaknesses
        A necessary condition only: a map may be wrong within the window. Coarse maps are spread over the window's edge
        when they are enlarged, and smoothed ones by their smoothing; the margin forgives 8 % of the side. The window's
        edge is an edge like any other, and a map may mark it.

    Cost
        Four explanations and four forward passes per sample (pairs: eight passes), and once per model the opening of
        four networks, which stay in memory.

    Source
        faithface; after Rao, Böhle and Schiele, Towards Better Understanding Attribution Methods, CVPR 2022.
    """

    protocol = Protocol(
        id="disconnected@1",
        question="Part of the image is cut off from the network. Does the map stay off it?",
        better="higher",
        range=(-1.0, 1.0),
        best=1.0,
        needs=frozenset({"model", "explainer"}),
        family="gate",
        bar=0.9,
        values=(Value(), Value("worst")),
        cost="4 (pairs: 8), and 4 explanations",
        source="faithface; after Rao, Böhle and Schiele, CVPR 2022, arXiv:2205.10435",
    )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        explainer = need_explainer(self.id, explainer)
        if model.proto is None:
            raise NotApplicable(
                f'metric "{self.id}" changes the network\'s graph; model "{model.card.name}" is no ONNX file'
            )
        margin = MARGIN * min(model.size)
        found, empty, reasons = [], [], dict[int, Reason | str]()
        for box in quarters(model.size):
            net = windowed(model, box)
            before = net.passes
            again = rescored(net, samples)
            one = _maps.judged(again, explainer.explain(net, again))
            spent = net.passes - before
            model.count(spent.forward, spent.backward)
            reasons |= dict.fromkeys(_maps.invalid(one), AGAIN)
            mass = _maps.finite(one).to(torch.float64).abs()
            inside = torch.from_numpy(dilated(box, model.size, margin)).to(mass.device)
            area, total = float(inside.double().mean()), mass.sum(dim=(1, 2))
            share = _maps.to_numpy((mass * inside).sum(dim=(1, 2)) / torch.where(total > 0, total, 1.0))
            found.append((share - area) / (1 - area))
            empty.append(_maps.to_numpy(total) == 0)
        each, blank = np.stack(found), np.stack(empty)
        seen = np.maximum((~blank).sum(axis=0), 1)
        values = {
            "": np.where(blank, 0.0, each).sum(axis=0) / seen,
            "worst": np.where(blank.all(axis=0), 0.0, np.where(blank, np.inf, each).min(axis=0)),
        }
        flags = {int(i): _maps.CONSTANT for i in np.flatnonzero(blank.all(axis=0))}
        return _maps.result(values, reasons, flags)
