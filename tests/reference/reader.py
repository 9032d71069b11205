"""A reader of the protocol pages: every formula again, one sample at a time, from docs/protocols alone.

It knows a network as a function from images to outputs, and the maps that it is given. It shares no code with the
metrics: numpy, scipy, scikit-image and the BLAKE2b of the standard library. Where a page and this file would differ,
the page is wrong. ``Case`` is one sample (or pair) on one network; ``Case.explain`` is the explainer's formula,
:func:`occluded`, which depends on the network, so that explaining again means something.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.optimize import nnls
from scipy.stats import kendalltau, spearmanr
from skimage.metrics import structural_similarity

Outputs = Callable[[np.ndarray], np.ndarray]  # float32 N×3×H×W in [0, 1] -> N×K
CELLS = 6  # of the explainer, per side


def generator(sample: str, purpose: str, seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(number(sample, purpose, seed))


def number(sample: str, purpose: str, seed: int = 0) -> int:
    digest = hashlib.blake2b(f"{seed}\x1f{sample}\x1f{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class Case:
    """One sample: ``kind`` is relevance (classifier), similarity (genuine pair) or dissimilarity (impostor pair).

    Attributes:
        image, other: the probe and, of a pair, the reference, float32 3×H×W.
        chosen: the class predicted on the clean image.
        dataset: for strangers: (face id, person, label, image) of all faces.
    """

    id: str
    kind: str
    image: np.ndarray
    outputs: Outputs
    other: np.ndarray | None = None
    chosen: int = 0
    threshold: float = 0.0
    item: Any = None
    faces: Sequence[tuple[str, str, str, np.ndarray]] = ()

    @property
    def side(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[2]

    def scores(self, images: np.ndarray) -> np.ndarray:
        out = self.outputs(images.astype(np.float32)).astype(np.float64)
        if self.other is None:
            e = np.exp(out - out.max(axis=1, keepdims=True))
            return (e / e.sum(axis=1, keepdims=True))[:, self.chosen]
        b = self.outputs(self.other[None].astype(np.float32))[0].astype(np.float64)
        return out @ b / np.linalg.norm(out, axis=1) / np.linalg.norm(b)

    def score(self, image: np.ndarray) -> float:
        return float(self.scores(image[None])[0])

    def explain(self, image: np.ndarray | None = None, kind: str = "") -> np.ndarray:
        """The judged map (or another kind) of this case with another image in the probe's place."""
        case = self if image is None else dataclasses.replace(self, image=image)
        signed = occluded(case.scores, case.image)
        kind = kind or self.kind
        return signed if kind == "relevance" else np.maximum(signed if kind == "similarity" else -signed, 0)


def occluded(scores: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """the explainer: by how much the score falls where a cell of 6×6 is grey; float32."""
    height, width = image.shape[1:]
    row, column = np.arange(height) * CELLS // height, np.arange(width) * CELLS // width
    cell = row[:, None] * CELLS + column[None]
    masked = np.stack([np.where(cell == k, np.float32(0.5), image) for k in range(CELLS**2)])
    found = scores(np.concatenate([image[None], masked]))
    # Rounded, so that no rounding error of a network orders cells that do nothing.
    return (np.rint((found[0] - found[1:]) * 1e5) / 1e5)[cell].astype(np.float32)


# --- order and fills


def units_of(m: np.ndarray, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """The unit of each pixel, H×W, and the value of each unit."""
    height, width = m.shape
    if not grid:
        return np.arange(height * width).reshape(height, width), m.ravel().astype(np.float64)
    unit = (np.arange(height) * grid // height)[:, None] * grid + (np.arange(width) * grid // width)[None]
    means = np.array([m[unit == k].astype(np.float64).mean() for k in range(grid * grid)])
    return unit, np.rint(means / (np.abs(m.astype(np.float64)).max() or 1.0) / 2.0**-20)


def order_of(values: np.ndarray, sample: str) -> list[int]:
    first = {int(unit): place for place, unit in enumerate(generator(sample, "ties").permutation(len(values)))}
    return sorted(range(len(values)), key=lambda unit: (-values[unit], first[unit]))


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.stack([ndimage.gaussian_filter(c.astype(np.float64), sigma, mode="reflect", truncate=4) for c in image])


def stranger(case: Case) -> np.ndarray:
    faces = sorted(case.faces, key=lambda face: face[0])
    own = {face.id for face in case.item.faces}
    people = {person for name, person, _, _ in faces if name in own}
    free = [f for f in faces if f[0] not in own]
    if case.other is not None:
        allowed = [f for f in free if f[1] not in people]
    else:
        apart = [f for f in free if f[1] not in people]
        label = case.item.label
        sets = ([f for f in apart if f[2] != label], [f for f in free if f[2] != label], apart, free)
        allowed = next(found for found in sets if found)
    return allowed[int(generator(case.id, "stranger").integers(len(allowed)))][3]


def fill_of(case: Case, fill: str) -> np.ndarray:
    if fill == "blur":
        return blur(case.image, 0.08 * min(case.side))
    if fill == "black":
        return np.zeros_like(case.image)
    if fill == "partner":
        assert case.other is not None
        return case.other
    return stranger(case)


FILLS = {"relevance": "blur", "similarity": "stranger", "dissimilarity": "partner"}


def half_even(value: float) -> int:
    return int(np.rint(value))


# --- curves


def curve(case: Case, m: np.ndarray, direction: str, fill: str, grid: int, points: int) -> np.ndarray:
    unit, values = units_of(m, grid)
    order, other = order_of(values, case.id), fill_of(case, fill)
    count = len(values)
    images = []
    for j in range(points):
        if direction == "deletion":
            gone = order[: half_even(j * count / (points - 1))]
        else:
            gone = order[count - half_even((points - 1 - j) * count / (points - 1)) :]
        images.append(np.where(np.isin(unit, gone), other, case.image))
    return case.scores(np.stack(images))


def area(y: np.ndarray, x: np.ndarray | None = None) -> float:
    x = np.linspace(0, 1, len(y)) if x is None else x
    return float(sum((x[k + 1] - x[k]) * (y[k + 1] + y[k]) / 2 for k in range(len(y) - 1)))


def gap(case: Case, m: np.ndarray, fill: str, grid: int, points: int, form: str = "score") -> float:
    found = []
    for direction in ("insertion", "deletion"):
        y = curve(case, m, direction, fill, grid, points)
        found.append(area(right(case, y) if form == "decision" else y))
    return (found[0] - found[1]) * (-1 if case.kind == "dissimilarity" and form == "score" else 1)


def right(case: Case, scores: np.ndarray) -> np.ndarray:
    accepted = scores >= case.threshold - 1e-5
    return (accepted == (case.kind == "similarity")).astype(float)


def curve_metric(case: Case, metric: Any) -> float:
    name = metric.id.partition("@")[0]
    head, form = name.partition("-")[0], "score" if name.endswith("score") or "-" not in name else "decision"
    m = case.explain()
    if head == "gap":
        return gap(case, m, metric.fill, metric.grid, metric.points, form)
    y = curve(case, m, head, metric.fill, metric.grid, metric.points)
    return area(right(case, y) if form == "decision" else y)


# --- masks


def top_share(case: Case, metric: Any) -> float:
    m = case.explain()
    unit, values = units_of(m, metric.grid)
    top = order_of(values, case.id)[: max(1, int(np.floor(metric.share * len(values) + 0.5)))]
    gone = np.isin(unit, top) != (metric.id == "retention@1")
    return case.score(case.image) - case.score(np.where(gone, fill_of(case, metric.fill), case.image))


def top_share_control(case: Case, metric: Any) -> float:
    m = case.explain()
    height, width = case.side
    unit, values = units_of(m, metric.grid)
    top = np.isin(unit, order_of(values, case.id)[: max(1, int(np.floor(metric.share * len(values) + 0.5)))])
    v = int(generator(case.id, "shifted mask").integers(1, height * width))
    moved = np.roll(top, (v // width, v % width), (0, 1)) != (metric.id == "retention@1")
    return case.score(case.image) - case.score(np.where(moved, fill_of(case, metric.fill), case.image))


def unit_range(m: np.ndarray) -> np.ndarray:
    m = m.astype(np.float64)
    return (m - m.min()) / (m.max() - m.min()) if m.max() > m.min() else np.zeros_like(m)


def average_drop(case: Case, _metric: Any) -> float:
    before = case.score(case.image)
    return max(0.0, before - case.score(case.image * unit_range(case.explain()))) / before


def average_increase(case: Case, _metric: Any) -> float:
    return float(case.score(case.image * unit_range(case.explain())) > case.score(case.image) + 1e-6)


def imputed(case: Case, gone: np.ndarray, noise: float) -> np.ndarray:
    height, width = case.side
    field = generator(case.id, "road").standard_normal(case.image.shape)
    places = [(int(y), int(x)) for y, x in np.argwhere(gone)]
    at = {place: k for k, place in enumerate(places)}
    out = case.image.astype(np.float64).copy()
    if len(places) == height * width:
        values = np.repeat(out.reshape(3, -1).mean(axis=1)[:, None], len(places), axis=1)
    else:
        matrix, known = np.zeros((len(places), len(places))), np.zeros((len(places), 3))
        for (y, x), k in at.items():
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if (dy or dx) and 0 <= y + dy < height and 0 <= x + dx < width:
                        w = 1 / 12 if dy and dx else 1 / 6
                        matrix[k, k] += w
                        if (y + dy, x + dx) in at:
                            matrix[k, at[y + dy, x + dx]] -= w
                        else:
                            known[k] += w * out[:, y + dy, x + dx]
        values = np.linalg.solve(matrix, known).T if places else np.zeros((3, 0))
    for (y, x), k in at.items():
        out[:, y, x] = np.clip(values[:, k] + noise * field[:, y, x], 0, 1)
    return out


def road(case: Case, metric: Any) -> float:
    unit, values = units_of(case.explain(), metric.grid)
    order, areas = order_of(values, case.id), []
    for sequence in (order[::-1], order):
        images = [
            imputed(case, np.isin(unit, sequence[: half_even(j * len(order) / (metric.points - 1))]), metric.noise)
            for j in range(metric.points)
        ]
        areas.append(area(case.scores(np.stack(images))))
    return areas[0] - areas[1]


# --- maps alone


def entropy(case: Case, _metric: Any) -> float:
    return entropy_of(case.explain())


def entropy_of(m: np.ndarray) -> float:
    p = np.abs(m.astype(np.float64)).ravel()
    p = p / p.sum() if p.sum() else np.full(p.size, 1 / p.size)
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum() / np.log2(p.size))


def eight_bit(m: np.ndarray) -> np.ndarray:
    return np.floor(unit_range(m) * 255)


def histogram_entropy(case: Case, _metric: Any) -> float:
    grey = eight_bit(np.maximum(case.explain(), 0)).ravel()
    p = np.unique(grey, return_counts=True)[1] / grey.size
    return float(-(p * np.log2(p)).sum() / np.log2(min(256, grey.size)))


def sparseness(case: Case, _metric: Any) -> float:
    x = np.sort(np.abs(case.explain().astype(np.float64)).ravel())
    n = len(x)
    return float(sum((2 * i - n - 1) * v for i, v in enumerate(x, start=1)) / (n * x.sum()))


# --- ground truth


def truth_and_map(case: Case) -> tuple[np.ndarray, np.ndarray]:
    if case.kind == "relevance":
        return case.item.truth["relevance"]() >= 0.5, case.explain()
    return case.item.truth[case.kind]()[0] >= 0.5, case.explain()


def pointing_game(case: Case, _metric: Any) -> float:
    truth, m = truth_and_map(case)
    return float(truth.ravel()[order_of(m.ravel().astype(np.float64), case.id)[0]])


def relevance_mass(case: Case, _metric: Any) -> float:
    truth, m = truth_and_map(case)
    positive = np.maximum(m.astype(np.float64), 0)
    return float(positive[truth].sum() / positive.sum())


def relevance_rank(case: Case, _metric: Any) -> float:
    truth, m = truth_and_map(case)
    top = order_of(m.ravel().astype(np.float64), case.id)[: truth.sum()]
    return float(truth.ravel()[top].sum() / truth.sum())


def localisation_auc(case: Case, _metric: Any) -> float:
    truth, m = truth_and_map(case)
    inside, outside = m[truth][:, None], m[~truth][None]
    return float(((inside > outside) + 0.5 * (inside == outside)).mean())


# --- contributions


def patch_truth(case: Case, contributions: Outputs, patches: int) -> tuple[np.ndarray, np.ndarray]:
    """The map's sums over the patches, and what they contribute more than the blurred image's, to the class."""
    sign = 1 if case.chosen == 1 else -1
    both = contributions(np.stack([case.image, fill_of(case, "blur")]).astype(np.float32)).astype(np.float64)
    m, size = case.explain().astype(np.float64), case.side[0] // patches
    sums = m.reshape(patches, size, patches, size).sum(axis=(1, 3)).ravel()
    return sums, sign * (both[0] - both[1])


def contribution_correlation(sums: np.ndarray, truth: np.ndarray) -> float:
    return float(spearmanr(np.rint(sums / np.abs(sums).max() / 2.0**-20), truth).statistic)


def contribution_error(sums: np.ndarray, truth: np.ndarray) -> float:
    # a ≥ 0, b of either sign: b as the difference of two numbers that are ≥ 0.
    design = np.stack([sums, np.ones_like(sums), -np.ones_like(sums)], axis=1)
    scale = np.abs(sums).max()
    _, residual = nnls(design / [scale, 1, 1], truth)
    return float(residual / np.sqrt(((truth - truth.mean()) ** 2).sum()))


# --- explaining again


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    return float(structural_similarity(unit_range(a), unit_range(b), win_size=7, data_range=1.0))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    constant = [np.ptp(a) == 0, np.ptp(b) == 0]
    return 1.0 if all(constant) else 0.0 if any(constant) else float(spearmanr(a.ravel(), b.ravel()).statistic)


def salted(case: Case, level: float) -> np.ndarray:
    rng = generator(case.id, "salt-and-pepper")
    hit = rng.random(case.image.shape) < level
    return np.where(hit, (rng.random(case.image.shape) < 0.5).astype(np.float32), case.image)


def noise_stability(case: Case, metric: Any) -> float:
    return ssim(case.explain(), case.explain(salted(case, metric.level)))


def geometry(case: Case, _metric: Any) -> float:
    own, (height, width) = case.explain(), case.side
    found = []
    for axis in (2, 1):
        found.append(ssim(own, np.flip(case.explain(np.flip(case.image, axis).copy()), axis - 1)))
    down, across = (max(1, round(16 / 224 * side)) for side in (height, width))
    for dy in (-down, 0, down):
        for dx in (-across, 0, across):
            if dy or dx:
                rows = np.clip(np.arange(height) - dy, 0, height - 1)
                columns = np.clip(np.arange(width) - dx, 0, width - 1)
                moved = case.explain(case.image[:, rows][:, :, columns])
                keep = [
                    (y, x) for y in range(height) for x in range(width) if 0 <= y + dy < height and 0 <= x + dx < width
                ]
                shape = (height - abs(dy), width - abs(dx))
                a = np.array([own[y, x] for y, x in keep]).reshape(shape)
                b = np.array([moved[y + dy, x + dx] for y, x in keep]).reshape(shape)
                found.append(ssim(a, b))
    for turn in (-1, 1):
        found.append(ssim(own, np.rot90(case.explain(np.rot90(case.image, turn, (1, 2)).copy()), -turn)))
    return float(np.mean(found))


def max_sensitivity(case: Case, metric: Any) -> float:
    def direction(m: np.ndarray) -> np.ndarray:
        m = m.astype(np.float64)
        return m / np.linalg.norm(m)

    own, changes = direction(case.explain()), []
    for k in range(metric.draws):
        noise = generator(case.id, f"max-sensitivity/{k}").uniform(-metric.radius, metric.radius, case.image.shape)
        again = case.explain(np.clip(case.image + noise.astype(np.float32), 0, 1).astype(np.float32))
        changes.append(np.linalg.norm(direction(again) - own))
    return float(max(changes))


def degradation(case: Case, _metric: Any) -> float:
    side, scores = min(case.side), []
    for high in (False, True):
        grey = eight_bit(np.maximum(case.explain(), 0)).astype(np.uint8)
        c = ndimage.gaussian_filter(255 - grey if high else grey, 5 * side / 224).astype(np.float64)
        v = np.rint(10 * 10 * c / max(c.max(), 1)) / 10
        out = case.image.astype(np.float64).copy()
        for level in np.unique(v):
            sigma = (10 - level) ** 4 / 1000 * side / 224
            if int(4 * sigma + 0.5):
                out = np.where(v == level, blur(case.image, sigma), out)
        scores.append(case.score(np.clip(out, 0, 1)))
    return (scores[0] - scores[1]) * (-1 if case.kind == "dissimilarity" else 1)


def out_of_set_shift(case: Case, others: Sequence[Case]) -> float:
    """By entropy, rounded to nine decimals."""
    own, theirs = round(entropy_of(case.explain()), 9), [round(entropy_of(one.explain()), 9) for one in others]
    return (sum(t > own for t in theirs) + 0.5 * sum(t == own for t in theirs)) / len(theirs)


def training_stability(maps: Sequence[np.ndarray]) -> float:
    found = [
        structural_similarity(eight_bit(a), eight_bit(b), win_size=7, data_range=255)
        for i, a in enumerate(maps)
        for b in maps[i + 1 :]
    ]
    return float(np.mean(found))


def randomisation(case: Case, networks: Sequence[Outputs]) -> float:
    """The networks of each level, as functions."""
    own = case.explain()
    return float(np.mean([abs(spearman(own, dataclasses.replace(case, outputs=net).explain())) for net in networks]))


def disconnected(case: Case, _metric: Any) -> float:
    height, width = case.side
    found = []
    for top in (slice(0, height // 2), slice(height // 2, height)):
        for left in (slice(0, width // 2), slice(width // 2, width)):
            window = np.zeros(case.side, bool)
            window[top, left] = True
            seen = dataclasses.replace(case, outputs=lambda x, w=window: case.outputs(np.where(w, x, np.float32(0.5))))
            m = np.abs(seen.explain().astype(np.float64))
            margin = 0.08 * min(case.side)
            rows, columns = np.arange(height), np.arange(width)
            near = ((rows >= top.start - margin) & (rows <= top.stop - 1 + margin))[:, None] & (
                (columns >= left.start - margin) & (columns <= left.stop - 1 + margin)
            )[None]
            if m.sum():
                found.append((m[near].sum() / m.sum() - near.mean()) / (1 - near.mean()))
    return float(np.mean(found)) if found else 0.0


def own_class(case: Case, _metric: Any) -> float:
    if case.kind == "relevance":
        return spearman(case.explain(), dataclasses.replace(case, chosen=1 - case.chosen).explain())
    return spearman(case.explain(kind="similarity"), case.explain(kind="dissimilarity"))


# --- pairs


def patch_replacement(case: Case, _metric: Any) -> float:
    height, width = case.side
    rng = generator(case.id, "patch-replacement")
    h, w = (max(1, round(16 / 112 * side)) for side in case.side)
    mask = np.zeros(case.side, bool)
    for _ in range(27):
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        mask[y : y + h, x : x + w] = True
    source = stranger(case) if case.kind == "similarity" else case.other
    patched = np.where(mask, source, case.image)
    balance = case.explain(patched, "similarity") - case.explain(patched, "dissimilarity")
    taken = case.score(patched) >= case.threshold - 1e-5
    order = order_of((balance if taken else -balance).ravel().astype(np.float64), case.id)
    shares = [k * 0.05 for k in range(20)]
    pixels = np.arange(height * width).reshape(case.side)
    back = [np.isin(pixels, order[: half_even(round(r * 100) * height * width / 100)]) for r in shares]
    after = right(case, case.scores(np.stack([np.where(b, case.image, patched) for b in back])))
    return area(1 - after, np.array(shares)) / 0.95


def inpainting_game(case: Case, non_mate: np.ndarray, inside: np.ndarray, metric: Any) -> float:
    """The map of the non-mate's picture in the pair (probe, non-mate): the dissimilarity of its second image."""
    assert case.other is not None
    second = dataclasses.replace(case, image=non_mate, other=case.image)
    m = second.explain(kind="dissimilarity")
    order = order_of(m.ravel().astype(np.float64), case.id)
    to_probe = dataclasses.replace(case, other=case.image)
    ends = to_probe.scores(np.stack([non_mate, case.other]))
    pixels = np.arange(m.size).reshape(m.shape)
    taken, outside = [], []
    for j in range(metric.points):
        done = order[: half_even(j * m.size / (metric.points - 1))]
        x = np.where(np.isin(pixels, done), case.other, non_mate)
        taken.append(float(to_probe.score(x) > ends.mean()))
        outside.append(float((~inside.ravel()[done]).sum() / (~inside).sum()))
    return area(np.array(taken), np.array(outside))


def part_swap(case: Case, masks: np.ndarray) -> float:
    """Parts as bool P×H×W: their outlines are data, which no page spells out."""
    soft = [np.clip(ndimage.gaussian_filter(m.astype(np.float64), 0.02 * min(case.side)), 0, 1) for m in masks]
    genuine = case.kind == "similarity"
    source = stranger(case) if genuine else case.other
    altered = [case.image + w * (source - case.image) for w in soft]
    maps = [case.explain(a.astype(np.float32), "dissimilarity" if genuine else "similarity") for a in altered]
    mass = [[float((w * m).sum() / m.sum()) if m.sum() else float(w.mean()) for w in soft] for m in maps]
    before = case.score(case.image)
    change = [(before - case.score(a)) * (1 if genuine else -1) for a in altered]
    e = np.maximum(change, 0)
    d = [np.mean([mass[k][k] - mass[j][k] for j in range(len(soft)) if j != k]) for k in range(len(soft))]
    return float((e * d).sum() / e.sum())


def gap_specific(case: Case, others: Sequence[Case], metric: Any) -> float:
    fill = FILLS[case.kind]
    own = gap(case, case.explain(), fill, metric.grid, metric.points)
    return float(np.mean([own - gap(case, o.explain(), fill, metric.grid, metric.points) for o in others]))


def next_on_the_circle(
    item: Any, items: Sequence[Any], persons: Callable[[Any], set[str]], kind: Callable[[Any], str], count: int
) -> list[Any]:
    ring = sorted((i for i in items if kind(i) == kind(item)), key=lambda i: number(i.id, "limit"))
    start = [i.id for i in ring].index(item.id)
    after = ring[start + 1 :] + ring[:start]
    return [i for i in after if not persons(i) & persons(item)][:count]


def optimum_share(case: Case, grid: int) -> float:
    """All sets of cells, and the best path by recursion from the full set; the largest of all k! orders."""
    m, other, k = case.explain(), fill_of(case, FILLS[case.kind]), grid * grid
    unit, values = units_of(m, grid)
    sign = -1 if case.kind == "dissimilarity" else 1
    shown = [np.isin(unit, [c for c in range(k) if s >> c & 1]) for s in range(1 << k)]
    v = case.scores(np.stack([np.where(gone, other, case.image) for gone in shown]))
    full = (1 << k) - 1

    def term(s: int) -> float:
        weight = (0.5 if s in (0, full) else 1.0) / k
        return float(sign * weight * (v[full ^ s] - v[s]))

    best: dict[int, float] = {full: term(full)}
    for s in range(full - 1, -1, -1):
        best[s] = term(s) + max(best[s | 1 << c] for c in range(k) if not s >> c & 1)
    at, own = 0, term(0)
    for cell in order_of(values, case.id):
        at |= 1 << cell
        own += term(at)
    return own / best[0]


def region_shapley(case: Case, fills: Sequence[np.ndarray], grid: int) -> float:
    height, width = case.side
    cell = (np.arange(height) * grid // height)[:, None] * grid + (np.arange(width) * grid // width)[None]
    k = grid * grid
    sums = [float(case.explain()[cell == r].astype(np.float64).sum()) for r in range(k)]
    reference = np.zeros(k)
    for fill in fills:
        gone = [[bool(s >> r & 1) for r in range(k)] for s in range(1 << k)]
        v = case.scores(np.stack([np.where(np.array(g)[cell], fill, case.image) for g in gone]))
        for r in range(k):
            for s in range(1 << k):
                if not s >> r & 1:
                    t = bin(s).count("1")
                    reference[r] += factorial(t) * factorial(k - t - 1) / factorial(k) * (v[s] - v[s | 1 << r])
    return float(spearmanr(sums, reference * (-1 if case.kind == "dissimilarity" else 1)).statistic)


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    return float(kendalltau(a, b).statistic)
