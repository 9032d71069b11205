"""Pairs and triplets of drawn images as a dataset, for testing metrics of pairs. Used by tests only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faithface.contract import Dataset, Face, Pair
from tests.support.networks import faces


@dataclass(frozen=True)
class ToyPairs(Dataset):
    """n pairs, alternately genuine (the same blobs, dimmed) and impostor; genuine ones with a triplet.

    The non-mate is the mate with another face's pixels in one square, a different one for every pair.
    """

    n: int = 4
    size: int = 16
    seed: int = 0
    faces_aligned: bool = True
    triplets: bool = True

    name = "toy-pairs"
    task = "verification"

    @property
    def aligned(self) -> bool:  # type: ignore[override]
        return self.faces_aligned

    def truths(self) -> frozenset[str]:
        return frozenset({"inpainted"} if self.triplets else ())

    def region(self, index: int) -> np.ndarray:
        """bool H×W: the square in which mate and non-mate of pair ``index`` differ."""
        mask = np.zeros((self.size, self.size), dtype=bool)
        side = self.size // 3
        top, left = (index * 3) % (self.size - side), (index * 5) % (self.size - side)
        mask[top : top + side, left : left + side] = True
        return mask

    def items(self) -> Sequence[Pair]:
        made = faces(3 * self.n, self.size, self.seed)
        return [self._pair(i, *made[3 * i : 3 * i + 3]) for i in range(self.n)]

    def _pair(self, i: int, a: Face, b: Face, third: Face) -> Pair:
        a = Face(a.id, a.read, f"person-{i}")
        if i % 2:
            return Pair(f"impostor-{i}", a, Face(b.id, b.read, f"other-{i}"), False)

        def dimmed() -> np.ndarray:
            return (a.read() * 0.8).astype(np.float32)

        def mixed() -> np.ndarray:
            return np.where(self.region(i)[..., None], third.read(), dimmed()).astype(np.float32)

        mate = Face(f"{a.id}-dim", dimmed, f"person-{i}")
        if not self.triplets:
            return Pair(f"genuine-{i}", a, mate, True)
        truth = {"inpainted": lambda: np.stack([self.region(i)] * 2)}
        return Pair(f"genuine-{i}", a, mate, True, truth, {"non-mate": Face(f"{a.id}-mixed", mixed, f"mixed-{i}")})
