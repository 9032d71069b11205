"""Does a crop hold a face where the template expects one? A warning, from the mean face of a data set.

Place in the flow: called by ``why``. May call ``contract`` and ``loading``.

The picture is compared with the mean of the set's own faces at many shifts (normalised correlation of details). An
aligned face fits best without a shift; a crop that is off fits better elsewhere. It is a coarse check: on photographs
it names nearly all shifts of 15 % of the side and few of 10 %, and says nothing of turns. No face at all is not told
from a face: a picture of noise fits nearly as well as some faces do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from faithface.contract import Dataset, Face
from faithface.loading import read_face

FACES = 60
ENOUGH = 10  # fewer faces have no mean worth comparing with
SIDE = 32
REACH = 8  # of 32: a quarter of the side
FAR = 4  # a shift of this much, an eighth of the side, is called one
GAIN = 0.15  # of correlation: what a shift must improve
SURE = 0.4  # correlation below which nothing fits, and nothing is said
SPREAD = 0.22  # of the window over the face, as a share of the side


@dataclass(frozen=True)
class Fit:
    """How a picture fits the mean face: the best shift as a share of the side (x, y), and correlations there and at
    no shift.
    """

    shift: tuple[float, float]
    best: float
    here: float

    @property
    def problem(self) -> str:
        """What is wrong, for a caution; "" where nothing is."""
        x, y = self.shift
        if max(abs(x), abs(y)) >= FAR / SIDE and self.best > SURE and self.best - self.here > GAIN:
            across = f"{abs(x):.0%} of the width to the {'right' if x > 0 else 'left'}" if x else ""
            down = f"{abs(y):.0%} of the height {'down' if y > 0 else 'up'}" if y else ""
            return (
                f"looks as if the face sat {' and '.join(part for part in (across, down) if part)} of where the data "
                "set's faces are: the regions are then in the wrong places. Align it as the set is aligned."
            )
        return ""


def mean_face(data: Dataset, size: tuple[int, int], leave_out: frozenset[str] = frozenset()) -> np.ndarray | None:
    """Return the mean of up to 60 faces of a set, prepared for :func:`fit`; None where there are too few."""
    faces: dict[str, Face] = {}
    for item in data.items():
        faces.update({face.id: face for face in item.faces if face.id not in leave_out})
    if len(faces) < ENOUGH:
        return None
    names = sorted(faces)
    at = np.random.default_rng(0).permutation(len(names))[:FACES]
    prepared = [prepare(read_face(faces[names[int(i)]], size).numpy().transpose(1, 2, 0)) for i in at]
    return np.asarray(np.mean(prepared, axis=0))


def prepare(image: np.ndarray) -> np.ndarray:
    """Return the details of H×W×3 as 32×32, float64."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    small = zoom(grey, (SIDE / grey.shape[0], SIDE / grey.shape[1]), order=1)
    # Details over their surroundings, each in units of its own strength: light from one side shifts nothing then.
    detail = gaussian_filter(small, 1.0) - gaussian_filter(small, 4.0)
    return np.asarray(detail / (np.sqrt(gaussian_filter(detail**2, 4.0)) + 0.02), dtype=np.float64)


def fit(image: np.ndarray, mean: np.ndarray) -> Fit:
    """Compare a picture H×W×3 with a mean face at all shifts up to a quarter of the side."""
    picture, window = prepare(image), _window()
    found = {}
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            # The face of the mean, moved by (dx, dy), over the part that both show.
            rows, columns = slice(max(0, dy), SIDE + min(0, dy)), slice(max(0, dx), SIDE + min(0, dx))
            moved = slice(rows.start - dy, rows.stop - dy), slice(columns.start - dx, columns.stop - dx)
            found[dx, dy] = _correlation(picture[rows, columns], mean[moved], window[moved])
    best = max(found, key=lambda at: (found[at], -abs(at[0]) - abs(at[1])))
    return Fit((best[0] / SIDE, best[1] / SIDE), found[best], found[0, 0])


def _window() -> np.ndarray:
    """Return weights 32×32 that fall off from the middle, so that a background does not count."""
    at = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    return np.asarray(np.exp(-0.5 * (at[:, None] ** 2 + at[None] ** 2) / SPREAD**2))


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float:
    weights = weights / weights.sum()
    a, b = a - (weights * a).sum(), b - (weights * b).sum()
    scale = float(np.sqrt((weights * a * a).sum() * (weights * b * b).sum()))
    return float((weights * a * b).sum()) / scale if scale > 1e-12 else 0.0
