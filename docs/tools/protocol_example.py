"""A world small enough to know the right answer: drawn faces, two networks with weights set by hand, three explainers.

Place in the flow: ``protocol_pages`` computes every protocol's figure and cost in it; used nowhere else. May call the
contract, ``model``, ``loading``, torch and onnx.

* Classifier: attacks carry a fine checkerboard on one cheek. The network answers to checkerboards of that pitch and to
  nothing else, so the patch is the evidence. A second output says what each 8×8 patch of the image contributes to the
  difference of the logits, up to a border of one pixel that the filter sees beyond its patch.
* Verification: the embedding is the face's colours on a coarse grid, minus those of the average face. Impostor pairs
  differ in one part (eyes or mouth), so that part is the dissimilarity, and the rest of the face the similarity.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from faithface.card import ContributionsCard, InputCard, ModelCard, OutputCard
from faithface.contract import Dataset, Explainer, Face, FaceModel, Maps, Method, Pair, Sample, Samples, judged_by
from faithface.loading import clean_threshold, load_samples
from faithface.model import open_model
from faithface.seeds import rng_for

SIZE = 48
CELLS = 8
PATCHES = 6  # per side, of the classifier's contributions
PARTS = {"eyes": (0.30, 0.50), "mouth": (0.64, 0.82)}  # rows of the face, as shares of its height


def _disc(y: float, x: float, ry: float, rx: float) -> np.ndarray:
    """Return a soft ellipse H×W in [0, 1]; centre and radii as shares of the image."""
    yy, xx = (np.mgrid[0:SIZE, 0:SIZE] + 0.5) / SIZE
    outside = ((yy - y) / ry) ** 2 + ((xx - x) / rx) ** 2 - 1
    return 1 / (1 + np.exp(np.minimum(60 * outside * min(ry, rx), 50)))


def draw_face(identity: int, nuisance: int, eyes: int | None = None, mouth: int | None = None) -> np.ndarray:
    """Draw a face, float32 H×W×3; ``eyes`` and ``mouth`` take those parts from another identity."""

    def person(name: int | None) -> np.random.Generator:
        return np.random.default_rng((7, identity if name is None else name))

    skin, hair = person(None).uniform([0.55, 0.4, 0.3], [0.95, 0.75, 0.65]), person(None).uniform(0.0, 0.5, 3)
    light = np.random.default_rng((8, nuisance))
    image = np.full((SIZE, SIZE, 3), light.uniform(0.49, 0.51))

    def paint(mask: np.ndarray, colour: np.ndarray | float) -> None:
        image[:] = image * (1 - mask[..., None]) + mask[..., None] * colour

    paint(_disc(0.42, 0.5, 0.42, 0.40), hair)
    paint(_disc(0.54, 0.5, 0.40, 0.31), skin)
    eye, lip = person(eyes), person(mouth)
    iris, apart, brow = eye.uniform(0.0, 0.6, 3), eye.uniform(0.12, 0.17), eye.uniform(0.0, 0.4, 3)
    red, wide = lip.uniform([0.4, 0.0, 0.0], [0.9, 0.4, 0.4]), lip.uniform(0.08, 0.17)
    for side in (-1, 1):
        paint(_disc(0.43, 0.5 + side * apart, 0.055, 0.085), 0.95)
        paint(_disc(0.43, 0.5 + side * apart, 0.045, 0.045), iris)
        paint(_disc(0.34, 0.5 + side * apart, 0.022, 0.09), brow)
    paint(_disc(0.57, 0.5, 0.07, 0.03), skin * 0.8)
    paint(_disc(0.73, 0.5, 0.045, wide), red)
    image = image * light.uniform(0.99, 1.01) + light.normal(0, 0.01, image.shape)
    return np.clip(image, 0, 1).astype(np.float32)


def part_mask(*parts: str) -> np.ndarray:
    """Return bool H×W: the rows of the named parts within the face; without a name, the face."""
    face = _disc(0.54, 0.5, 0.40, 0.31) > 0.5
    if not parts:
        return face
    rows = (np.arange(SIZE) + 0.5) / SIZE
    return face & np.any([(rows > PARTS[p][0]) & (rows < PARTS[p][1]) for p in parts], axis=0)[:, None]


def cue_mask(number: int) -> np.ndarray:
    """Return bool H×W: where the checkerboard of an attack lies, on one cheek or the other."""
    rng = np.random.default_rng((9, number))
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    top, left = int(rng.integers(25, 29)), int(rng.choice([11, 12, 26, 27]))
    mask[top : top + 9, left : left + 10] = True
    return mask


@dataclass(frozen=True)
class Attacks(Dataset):
    """Bona fide faces and attacks with a checkerboard; ``pitch`` 2 in the out-of-set variant, which is coarser."""

    n: int = 8
    pitch: int = 1

    name = "example-pad"
    task = "pad"
    classes = ("bona-fide", "attack")
    positive = "attack"

    def items(self) -> Sequence[Sample]:
        return [self._sample(i) for i in range(self.n)]

    def truths(self) -> frozenset[str]:
        return frozenset({"relevance"})

    def out_of_set(self) -> Dataset | None:
        return Attacks(self.n, pitch=2) if self.pitch == 1 else None

    def _sample(self, i: int) -> Sample:
        attack, mask = i % 2 == 1, cue_mask(i)
        board = np.indices((SIZE, SIZE)).sum(axis=0) // self.pitch % 2 - 0.5

        def read() -> np.ndarray:
            image = draw_face(i // 2, i)
            return np.clip(image + 0.45 * (attack * mask * board)[..., None], 0, 1).astype(np.float32)

        label = self.classes[attack]
        face = Face(f"face{i}-{self.pitch}", read, identity=f"person{i // 2}")
        return Sample(f"{label}--{i}", face, label, truth={"relevance": lambda: mask} if attack else {})


@dataclass(frozen=True)
class Pairs(Dataset):
    """Genuine pairs, each with a non-mate for the inpainting game; impostor pairs with another's eyes or mouth."""

    n: int = 8

    name = "example-pairs"
    task = "verification"
    aligned_landmarks = ((0.355, 0.43), (0.645, 0.43), (0.5, 0.6), (0.4, 0.73), (0.6, 0.73))

    def items(self) -> Sequence[Pair]:
        return [self._pair(i) for i in range(self.n)]

    def truths(self) -> frozenset[str]:
        return frozenset({"similarity", "dissimilarity", "inpainted"})

    def _pair(self, i: int) -> Pair:
        person, genuine = i // 2, i % 2 == 0
        part = "eyes" if person % 2 else "mouth"
        swap = {part: person + 20}
        probe = Face(f"probe{i}", lambda: draw_face(person, 2 * i), f"person{person}")
        mate = Face(f"mate{i}", lambda: draw_face(person, 2 * i + 1), f"person{person}")
        other = Face(f"other{i}", lambda: draw_face(person, 2 * i + 1, **swap), f"person{person} with other {part}")
        masks = part_mask(part), part_mask() & ~part_mask(part)
        same, differs = np.stack([masks[1]] * 2), np.stack([masks[0]] * 2)
        if genuine:
            truth = {"similarity": lambda: np.stack([part_mask()] * 2), "inpainted": lambda: differs}
            return Pair(f"genuine--{i}", probe, mate, True, truth, {"non-mate": other})
        truth = {"similarity": lambda: same, "dissimilarity": lambda: differs}
        return Pair(f"impostor--{i}", probe, other, False, truth, kind="part-swap")


def _pass_on(layers: nn.Sequential) -> None:
    """Let 1×1 convolutions pass their input on unchanged: layers for ``randomisation@1`` to destroy, one by one."""
    for layer in layers:
        assert isinstance(layer, nn.Conv2d)
        layer.weight[:] = torch.eye(layer.out_channels)[:, :, None, None]


class CheckerboardNet(nn.Module):
    """Logits that rise with the share of the image on which a checkerboard of pitch 1 is stronger than 0.1."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 3, padding=1)
        self.more = nn.Sequential(*[nn.Conv2d(2, 2, 1, bias=False) for _ in range(3)])
        self.head = nn.Linear(2, 2)
        board = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 16
        with torch.no_grad():
            self.features.weight[:] = torch.stack([board, -board])[:, None].expand(2, 3, 3, 3) / 3
            nn.init.constant_(self.features.bias, -0.1)  # type: ignore[arg-type]
            _pass_on(self.more)
            self.head.weight[:] = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]) * 1000
            self.head.bias[:] = torch.tensor([1.5, -1.5])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.more(self.features(x).relu())
        evidence = (found * (self.head.weight[1] - self.head.weight[0])[:, None, None]).sum(dim=1, keepdim=True)
        patches = nn.functional.avg_pool2d(evidence, SIZE // PATCHES).flatten(1) / PATCHES**2
        return self.head(found.mean(dim=(2, 3))), patches


class ColourNet(nn.Module):
    """The mean colours of an 8×8 grid, minus those of the average face, turned by a fixed rotation."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*[nn.Conv2d(3, 3, 1, bias=False) for _ in range(4)])
        self.pool = nn.AvgPool2d(SIZE // CELLS)
        values = 3 * CELLS * CELLS
        self.head = nn.Linear(values, values)
        faces = torch.from_numpy(np.stack([draw_face(k, 100 + k) for k in range(40)])).permute(0, 3, 1, 2)
        with torch.no_grad():
            _pass_on(self.features)
            turn = np.linalg.qr(np.random.default_rng(3).normal(size=(values, values)))[0]
            self.head.weight[:] = torch.from_numpy(turn)
            self.head.bias[:] = -self.head.weight @ self.pool(faces).flatten(1).mean(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


@dataclass(frozen=True)
class Good(Explainer):
    """The right answer, worked out from the pixels alone: strength of the checkerboard, or agreement of colours.

    No network passes, so that what is measured around it is the metric's own.
    """

    method = Method(
        name="good",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        if not samples.are_pairs:
            net = CheckerboardNet().features
            with torch.no_grad():
                strength = net(samples.images).relu().sum(dim=1, keepdim=True)
            return Maps(relevance=_smooth(strength)[:, 0])
        cells = nn.functional.avg_pool2d(samples.images.flatten(0, 1), SIZE // CELLS)
        average = torch.from_numpy(np.mean([draw_face(k, 100 + k) for k in range(40)], axis=0)).permute(2, 0, 1)
        centred = (cells - nn.functional.avg_pool2d(average, SIZE // CELLS)).unflatten(0, (len(samples), 2))
        product = (centred[:, 0] * centred[:, 1]).sum(dim=1)
        apart = (centred[:, 0] - centred[:, 1]).square().sum(dim=1)
        return Maps(similarity=_both(product.clamp(min=0)), dissimilarity=_both(apart))


@dataclass(frozen=True)
class Random(Explainer):
    """Random blobs, seeded by the sample; ``anew``: by the image as well, so that the slightest change moves all.

    Blobs, because single random pixels would print the very checkerboards on the image that the network looks for.
    """

    anew: bool = False

    method = Method(
        name="random",
        seeded=True,
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        def draw(i: int) -> Tensor:
            rng = samples.rng(i, "random")
            if self.anew:
                rng = rng_for(samples.seed, samples.ids[i], samples.images[i].cpu().numpy().tobytes().hex()[:4096])
            return torch.from_numpy(rng.random((2, CELLS, CELLS), dtype=np.float32))

        cells = torch.stack([draw(i) for i in range(len(samples))])
        maps = nn.functional.interpolate(cells, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)
        if not samples.are_pairs:
            return Maps(relevance=maps[:, 0])
        return Maps(similarity=maps, dissimilarity=maps.flip(1))


@dataclass(frozen=True)
class Opposite(Explainer):
    """The good map upside down: largest where that is smallest."""

    method = Method(
        name="opposite",
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        good = Good().explain(model, samples)

        def turned(maps: Tensor | None) -> Tensor | None:
            return None if maps is None else maps.amax(dim=(-2, -1), keepdim=True) - maps

        return Maps(turned(good.relevance), turned(good.similarity), turned(good.dissimilarity))


@dataclass(frozen=True)
class Gradient(Explainer):
    """The magnitude of the gradient of the explained score: what depends on the network's weights."""

    method = Method(
        name="gradient",
        needs=frozenset({"gradients"}),
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        slope = model.gradient(views.images, views.target).abs().sum(dim=1, keepdim=True)
        return Maps.from_views(_smooth(slope)[:, 0], samples)


@dataclass(frozen=True)
class Signed(Explainer):
    """The gradient of the explained score with its sign."""

    method = Method(
        name="signed",
        needs=frozenset({"gradients"}),
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        return Maps.from_views(
            _smooth(model.gradient(views.images, views.target).sum(dim=1, keepdim=True))[:, 0], samples
        )


@dataclass(frozen=True)
class Summing(Explainer):
    """The good map, which promises to sum to the explained score, and sums to a share of it."""

    share: float = 1.0

    method = Method(
        name="summing",
        promises=frozenset({"completeness"}),
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        good, total = Good().explain(model, samples), self.promised_sum(model, samples)
        if good.relevance is None:
            flat = torch.full((len(total), SIZE, SIZE), 1 / SIZE**2)
            return Maps.from_views(self.share * total[:, None, None] * flat, samples)
        size = good.relevance.sum(dim=(1, 2)).clamp(min=1e-6)
        return Maps(relevance=good.relevance * (self.share * total / size)[:, None, None])

    def promised_sum(self, model: FaceModel, samples: Samples) -> Tensor:
        views = samples.views()
        return views.target.score(model.card, samples.clean.outputs.reshape(len(views.images), -1))


def _smooth(maps: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(maps, 5, stride=1, padding=2, count_include_pad=False)


def _both(cells: Tensor) -> Tensor:
    """Return cell maps N×G×G as pixel maps N×2×H×W, the same for both faces."""
    large = nn.functional.interpolate(cells[:, None], size=(SIZE, SIZE), mode="bilinear")
    return large.expand(-1, 2, -1, -1).contiguous()


def open_example(task: str, folder: Path) -> tuple[FaceModel, Dataset]:
    """Export the network of a task (``pad`` or ``verification``) into ``folder``; return it open, and its dataset."""
    net: nn.Module = CheckerboardNet() if task == "pad" else ColourNet()
    path = folder / f"example-{task}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its older exporter deprecated; the newer one needs more packages
        outputs = ["output", "contributions"] if task == "pad" else ["output"]
        axes = {name: {0: "batch"} for name in ("image", *outputs)}
        torch.onnx.export(
            net.eval(),
            (torch.zeros(2, 3, SIZE, SIZE),),
            str(path),
            input_names=["image"],
            output_names=outputs,
            dynamic_axes=axes,
            dynamo=False,
        )
    output, mechanism = OutputCard(kind="embedding"), None
    if task == "pad":
        output = OutputCard(kind="logits", classes=("bona-fide", "attack"), positive="attack")
        mechanism = ContributionsCard(
            output="contributions", grid=(PATCHES, PATCHES), sums_to="logit-difference", offset=-3.0
        )
    card = ModelCard(
        name=f"example-{task}",
        task=task,  # type: ignore[arg-type]
        file=path.name,
        root=folder,
        family="example",
        input=InputCard(size=(SIZE, SIZE)),
        output=output,
        contributions=mechanism,
    )
    return open_model(card), Attacks() if task == "pad" else Pairs()


def load_example(model: FaceModel, dataset: Dataset, which: str = "all", limit: int | None = None) -> Samples:
    """Return the example as one batch, with nothing remembered in it; of the classifier's samples only the attacks.

    Args:
        which: the pairs to take: ``all``, ``genuine`` or ``impostor``.
        limit: take no more than so many.
    """
    threshold = None
    if model.card.task == "verification":
        threshold = model.cached(clean_threshold, dataset)

    def wanted(item: Sample | Pair) -> bool:
        return (
            item.label == "attack"
            if isinstance(item, Sample)
            else judged_by(which, "verification") in ("all", "genuine" if item.same else "impostor")
        )

    chosen: list[Sample | Pair] = [item for item in dataset.items() if wanted(item)]
    return load_samples(model, chosen[:limit], 0, threshold, dataset)  # type: ignore[arg-type]
