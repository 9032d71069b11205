"""Verification explainers, slowly: one channel, one mask, one image at a time, from the papers' formulas.

Shares no code with ``faithface_plugins``. ``network`` maps pixels 1×3×H×W in [0, 1] to an embedding 1×D.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

Network = Callable[[Tensor], Tensor]


def embed(network: Network, image: Tensor) -> Tensor:
    with torch.no_grad():
        return network(image[None])[0]


def similarity(a: Tensor, b: Tensor) -> float:
    return float((a @ b) / (a.norm() * b.norm()))


def fggb(network: Network, a: Tensor, b: Tensor, threshold: float, absolute: bool, normalised: bool) -> Tensor:
    """Return S_A, H×W, before the split and without smoothing: one backward pass per channel."""
    fa, fb = embed(network, a), embed(network, b)
    n = len(fa)
    total = torch.zeros(a.shape[1:] if absolute else a.shape)
    for k in range(n):
        pixels = a[None].clone().requires_grad_(True)
        f = network(pixels)[0]
        f = f / f.norm() if normalised else f
        f[k].backward()
        g = pixels.grad[0]
        g = (g[0].abs() + g[1].abs() + g[2].abs()) / 3 if absolute else g
        w = fa[k] * fb[k] / (fa.norm() * fb.norm())
        total += g / g.norm() * (w - threshold / n)
    return total if absolute else total[0] + total[1] + total[2]


def xssab(network: Network, a: Tensor, b: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return P+ and P−, H×W each."""
    ea, eb = (f / f.norm() for f in (embed(network, a), embed(network, b)))
    maps = []
    for pro in (True, False):
        weight = torch.zeros_like(eb)
        for k in range(len(eb)):
            if bool(ea[k] * eb[k] >= threshold / len(eb)) == pro:
                weight[k] = eb[k]
        pixels = a[None].clone().requires_grad_(True)
        f = network(pixels)[0]
        (weight * f / f.norm()).sum().backward()
        maps.append(pixels.grad[0].abs().mean(dim=0))
    return maps[0], maps[1]


def corrrise(network: Network, a: Tensor, b: Tensor, masks: np.ndarray, ranks: bool) -> np.ndarray:
    """Return the correlation H×W of each pixel's visibility with the similarity, by scipy, pixel by pixel."""
    fb = embed(network, b)
    scores = np.array([similarity(embed(network, a * torch.from_numpy(mask)), fb) for mask in masks])
    result = np.zeros(masks.shape[1:])
    for y, x in np.ndindex(*result.shape):
        if np.ptp(masks[:, y, x]):
            result[y, x] = (spearmanr if ranks else pearsonr)(masks[:, y, x], scores)[0]
    return result


def xface(network: Network, a: Tensor, b: Tensor, method: int, sides: list[int], step: int, sigma: float) -> np.ndarray:
    """Return the signed map H×W: positive where an occlusion drives the faces apart."""
    height, width = a.shape[1:]
    fa, fb = embed(network, a), embed(network, b)
    result = np.zeros((height, width))
    for side in sides:
        places = [(y, x) for y in range(0, height - side, step) for x in range(0, width - side, step)]

        def occluded(image: Tensor, place: tuple[int, int], side: int = side) -> Tensor:
            image = image.clone()
            image[:, place[0] : place[0] + side + 1, place[1] : place[1] + side + 1] = 0
            return embed(network, image)

        others = [occluded(b, place) for place in places]
        painted = np.zeros((height, width))
        for i, place in enumerate(places):
            one = occluded(a, place)
            if method == 1:
                distance = np.mean([1 - similarity(one, other) for other in others])
            else:
                distance = 1 - similarity(one, fb if method == 2 else others[i])
            value = (distance - (1 - similarity(fa, fb))) / side**2
            mask = np.zeros((height, width))
            mask[place[0] : place[0] + side + 1, place[1] : place[1] + side + 1] = 1
            painted += mask * value / len(places)
        result += gaussian_filter(painted, sigma, truncate=0.4, mode="mirror") / len(sides)
    return result


def minplus(network: Network, a: Tensor, b: Tensor, form: str, windows: list[Tensor], steps: int) -> Tensor:
    """Return the signed map H×W of one of ``s0``, ``s1``, ``s-``, ``s+``."""
    fb = embed(network, b)

    def score(visible: Tensor) -> float:
        return similarity(embed(network, a * visible), fb)

    removing = form in ("s0", "s-")
    visible = torch.ones(a.shape[1:]) if removing else torch.zeros(a.shape[1:])
    heats: dict[int, list[float]] = {j: [] for j in range(len(windows))}
    left = list(heats)
    for _ in range(steps if form in ("s-", "s+") else 1):
        now = score(visible)
        for j in left:
            if removing:
                heats[j].append(now - score(visible * (1 - windows[j])))
            else:
                heats[j].append(score(1 - (1 - visible) * (1 - windows[j])) - now)
        best = max(left, key=lambda j: heats[j][-1])
        if heats[best][-1] <= 0:
            break
        visible = visible * (1 - windows[best]) if removing else 1 - (1 - visible) * (1 - windows[best])
        left.remove(best)
    painted = [float(np.mean(heats[j])) * g for j, g in enumerate(windows)]
    return sum(painted) / sum(windows)  # type: ignore[return-value]


def fame(network: Network, a: Tensor, b: Tensor, steps: int, lower: bool) -> Tensor:
    """Return |grey(x) − grey(A)| / max, H×W, after the walk (0 where it never moved); without smoothing."""
    fb = embed(network, b)
    x = a.clone()
    for _ in range(steps):
        pixels = x[None].clone().requires_grad_(True)
        f = network(pixels)[0]
        cosine = (f @ fb) / (f.norm() * fb.norm())
        loss = cosine if lower else 1 - cosine
        if float(loss.detach()) < 0.01:
            break
        loss.backward()
        g = pixels.grad[0]
        x = x - g / g.abs().max() / 255
    grey = [0.2989 * i[0] + 0.587 * i[1] + 0.114 * i[2] for i in (x, a)]
    change = (grey[0] - grey[1]).abs()
    return change / change.max() if change.max() > 0 else change
