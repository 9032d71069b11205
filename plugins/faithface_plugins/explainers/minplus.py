"""MinPlus and its relatives S0, S1, S−, S+ and AVG: remove parts of a face, or add them to an empty image.

Place in the flow: registered through ``verification``; calls ``perturb.blended`` and ``pair_common``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.lazy import torch
from faithface.perturb import blended_outputs
from faithface.tasks import pair_similarity
from faithface_plugins.explainers.pair_common import pair_maps, partners, require_pairs, scaled

if TYPE_CHECKING:
    from torch import Tensor

Direction = Literal["minus", "plus"]


@dataclass(frozen=True)
class MinPlus(Explainer):
    """MinPlus: what the similarity loses when a soft window of the face is removed, and gains when it is added.

    Formula, for image A with partner B, Gaussian windows G_j on a regular grid, a mask M (0 = black) and
    s(M) = similarity(f(A · M), f(B))::

        removal      h_j = s(M) − s(M · (1 − G_j))                   starting from M = 1, the whole face
        aggregation  h_j = s(1 − (1 − M)(1 − G_j)) − s(M)            starting from M = 0, an empty image
        S = Σ_j h_j G_j / Σ_j G_j
        similarity = max(S, 0),  dissimilarity = max(−S, 0)

    and the same for B with the roles swapped. The forms:

    * ``s0``, ``s1``: removal and aggregation of each window on its own.
    * ``s-``, ``s+``: in collaboration. The window with the largest h is removed (added) for good, and the remaining
      ones are tried again, until the largest h is no longer positive or ``steps`` rounds are done. A window's h is the
      mean over the rounds that tried it, so that the first windows keep their full weight.
    * ``avg``: the mean of these four maps, each divided by its largest absolute value.

    Parameters:
        form: see above.
        width: σ of a window in pixels at 112×112.
        step: distance between window centres in pixels at 112×112.
        steps: the largest number of rounds of ``s-`` and ``s+``.

    Lengths scale with the input's shorter side. Source: Mery & Morris, "On black-box explanation for face
    verification", WACV 2022; Mery, "True black-box explanation in facial analysis", CVPRW 2022. Forward passes
    per image, with W windows (64 at 112×112): W for ``s0``, W + 1 for ``s1``, at most steps · W for ``s-``
    and steps · W + 1 for ``s+``, at most 621 for ``avg``. No backward pass.

    What is known, and what is not: the authors' code was not available. Known are the two strategies (removal,
    aggregation), that parts are judged on their own or in collaboration, Gaussian windows, that heat is a difference
    of scores, that it is smoothed by a Gaussian, and that the greedy forms stop when the score stops changing. Not
    known are the authors' window sizes (a third party quotes 10 and 30 pixels), the limit of rounds, how the rounds are
    combined, and how MinPlus itself weighs its two halves. This reading takes the mean as above, paints with the
    windows themselves, which is the smoothing, and calls the mean of all four ``avg``, the default. A step of 14 keeps
    neighbouring windows overlapping, and 5 rounds keep the cost near that of CorrRISE. Do not compare its numbers with
    the papers'.
    """

    form: Literal["s0", "s1", "s-", "s+", "avg"] = "avg"
    width: float = 10.0
    step: float = 14.0
    steps: int = 5

    method = Method(
        name="minplus",
        tasks=frozenset({"verification"}),
        source="Mery & Morris, WACV 2022; Mery, CVPRW 2022",
    )

    def __post_init__(self) -> None:
        for key in ("width", "step"):
            if not 0 < getattr(self, key) <= 112:
                raise ValueError(f"{key} is {getattr(self, key)}; expected pixels at 112×112, above 0 and at most 112")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        require_pairs(self.name, samples)
        windows = gaussian_windows(model.size, scaled(self.width, model), scaled(self.step, model))
        windows = windows.to(samples.images)
        reference = partners(samples.clean.outputs.flatten(0, 1))
        signed = torch.stack(
            [
                self._one(model, image, other, clean, windows)
                for image, other, clean in zip(
                    samples.images.flatten(0, 1), reference, samples.clean.scores.repeat_interleave(2), strict=True
                )
            ]
        )
        return pair_maps(signed.clamp(min=0), (-signed).clamp(min=0))

    def _one(self, model: FaceModel, image: Tensor, other: Tensor, clean: Tensor, windows: Tensor) -> Tensor:
        """Return the signed map H×W of one image against its partner's embedding."""

        def score(masks: Tensor) -> Tensor:
            embedded = blended_outputs(model, image, image.new_zeros(3, 1, 1), len(masks), masks.__getitem__)
            return pair_similarity(model.card, embedded, other.expand_as(embedded))

        def paint(heat: Tensor) -> Tensor:
            return torch.einsum("j,jhw->hw", heat, windows) / windows.sum(dim=0).clamp(min=1e-12)

        if self.form in ("s0", "s-"):
            return paint(self._rounds(score, windows, "minus", clean)[self.form == "s-"])
        if self.form in ("s1", "s+"):
            return paint(self._rounds(score, windows, "plus", None)[self.form == "s+"])
        alone_minus, together_minus = self._rounds(score, windows, "minus", clean)
        alone_plus, together_plus = self._rounds(score, windows, "plus", None)
        four = torch.stack([paint(h) for h in (alone_minus, alone_plus, together_minus, together_plus)])
        largest = four.abs().amax(dim=(1, 2), keepdim=True)
        return (four / torch.where(largest > 0, largest, 1.0)).mean(dim=0)

    def _rounds(
        self, score: Callable[[Tensor], Tensor], windows: Tensor, direction: Direction, start: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the heat of each window on its own, and its mean over the rounds of the greedy form that tried it.

        ``start`` is the score of the starting image; None: to be computed.
        """
        minus = direction == "minus"
        mask = torch.ones_like(windows[0]) if minus else torch.zeros_like(windows[0])
        now = score(mask[None])[0] if start is None else start
        greedy = self.form in ("s-", "s+", "avg")
        left = torch.ones(len(windows), dtype=torch.bool, device=windows.device)
        total, rounds = torch.zeros_like(windows[:, 0, 0]), torch.zeros_like(windows[:, 0, 0])
        first: Tensor | None = None
        for _ in range(min(self.steps, len(windows)) if greedy else 1):
            at = left.nonzero().flatten()
            tried = mask * (1 - windows[at]) if minus else 1 - (1 - mask) * (1 - windows[at])
            scores = score(tried)
            heat = now - scores if minus else scores - now
            first = heat if first is None else first
            total[at] += heat
            rounds[at] += 1
            best = int(heat.argmax())
            if heat[best] <= 0:
                break
            mask, now, left[at[best]] = tried[best], scores[best], False
        assert first is not None
        return first, total / rounds


def gaussian_windows(size: tuple[int, int], sigma: float, step: float) -> Tensor:
    """Return Gaussian windows of height 1, float32 W×H×W', on a grid of about ``step`` pixels centred on the image."""
    centres, grids = [], []
    for extent in size:
        n = max(1, round(extent / step))
        centres.append((torch.arange(n) + 0.5) * extent / n - 0.5)
        grids.append(torch.arange(extent))
    rows, columns = (
        torch.exp(-((grid[None] - centre[:, None]) ** 2) / (2 * sigma**2))
        for centre, grid in zip(centres, grids, strict=True)
    )
    return torch.einsum("ih,jw->ijhw", rows, columns).flatten(0, 1).to(torch.float32)


EXPLAINERS: tuple[Explainer, ...] = (MinPlus(),)
