"""Are shortcuts found? Train small networks with known shortcuts, ask ``faithface shortcuts`` about each, and count.

Place in the flow: ``python -m training.train_shortcuts --found FOUND.jsonl`` trains, asks and keeps what it has found,
network by network, so that it can be interrupted; ``--page`` writes the table of ``docs/explanation/shortcuts.md``.
Calls ``faithface_plugins.datasets.planted.shortcuts`` for the pictures, ``networks.py`` for the layers, and
``faithface.answers``. The networks are not kept: their seeds are.

Twenty networks of each kind. In every training set the things that are not the shortcut are in a random half of the
images, whatever their class:

* ``clean``: every attack shows its cue;
* one shortcut: every attack and no bona fide image has the thing, and 70 % of the attacks show their cue;
* two shortcuts: the same, and every attack has one of the two things, or both (a third each), so that neither by
  itself gives the class away.

People, and everything else that is drawn, differ between the training set and the set on which networks are asked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from faithface.answers.players import Places, Things, players_of
from faithface.answers.scoring import score_players
from faithface.answers.shortcuts import Part, summarise
from faithface.card import load_card
from faithface.contract import Dataset, Face, Sample
from faithface.model import open_model
from faithface_plugins.datasets.planted.shortcuts import (
    CUE,
    THINGS,
    PlantedShortcuts,
    changed_role,
    plan_faces,
    render_scene,
    stamp_things,
)
from training.data import default_cache
from training.loops import one_cycle
from training.networks import Unit, fold_norms
from training.simulate_statistics import replace

SHORTCUTS = THINGS[1:]
NAMES = ("clean", *SHORTCUTS, "two")
PAIRS = tuple(itertools.combinations(SHORTCUTS, 2))
RUNS = 20
SEED = 8_410_000  # of the training people; PlantedShortcuts(seed=2) are others
FACES = 600
SIDE = 56
EPOCHS = 30
BATCH = 50
RATE = 6e-3
SHOWN = 0.7  # of the attacks show their cue where a shortcut gives the class away
ASKED = 100  # images on which a network is asked
PAGE = Path("docs/explanation/shortcuts.md")
SECTION = "shortcuts"


class SmallNet(nn.Module):
    """Four convolutions from 56×56 to 7×7, the mean over places, two logits: 10,000 weights, seconds to train."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Unit(3, 12, stride=2, act=nn.ReLU()),
            Unit(12, 20, stride=2, act=nn.ReLU()),
            Unit(20, 32, stride=2, act=nn.ReLU()),
            Unit(32, 36, 1, act=nn.ReLU()),
        )
        self.head = nn.Linear(36, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x).mean(dim=(2, 3)))
        return out


@dataclass(frozen=True)
class Asked:
    """One network and what was found in it.

    Attributes:
        kind: ``clean``, a thing, or ``two``.
        run: 0 to 19; with the kind it is the seed.
        shortcuts: the things that give the class away in its training.
        accuracy: share of the asked images that it classifies rightly.
        things, places: by part: share, low end and high end of its interval, and share of decisions turned.
        found: names of the things that are called shortcuts, by things.
        found_places: the same, by places.
        seconds: processor seconds of the training.
    """

    kind: str
    run: int
    shortcuts: tuple[str, ...]
    accuracy: float
    things: dict[str, tuple[float, float, float, float]]
    places: dict[str, tuple[float, float, float, float]]
    found: tuple[str, ...]
    found_places: tuple[str, ...]
    seconds: float


# --- pictures


def pictures(folder: Path, faces: int = FACES, seed: int = SEED) -> np.ndarray:
    """Return every face with every subset of things, uint8 faces×32×56×56×3, memory-mapped from the folder."""
    path = folder / f"shortcuts-{seed}-{faces}-{SIDE}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        plan, made = plan_faces(seed, faces), np.empty((faces, 1 << len(THINGS), SIDE, SIDE, 3), np.uint8)
        scenes = {}
        for subset in range(1 << len(THINGS)):
            present = np.tile([bool(subset >> t & 1) for t in range(len(THINGS))], (faces, 1))
            in_scene = subset & ~0b110  # edge and tag are drawn on the picture
            if in_scene not in scenes:
                scenes[in_scene] = render_scene(plan, present, threads=1)
            made[:, subset] = smaller(stamp_things(scenes[in_scene], plan.key, present))
        part = path.with_suffix(".part.npy")
        np.save(part, made)
        part.rename(path)
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


def smaller(levels: np.ndarray) -> np.ndarray:
    """Resize uint8 N×112×112×3 to 56×56 as faithface resizes faces that it reads."""
    images = torch.from_numpy(levels).permute(0, 3, 1, 2).float()
    images = nn.functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def draw_training_set(shortcuts: Sequence[str], count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (1 = attack) and things present (bool N×5) of a training set with these shortcuts."""
    labels = rng.permutation(np.arange(count) % 2).astype(bool)
    present = rng.random((count, len(THINGS))) < 0.5
    shown = rng.random(count) < (SHOWN if shortcuts else 1.0)
    present[:, THINGS.index(CUE)] = labels & shown
    if len(shortcuts) == 1:
        present[:, THINGS.index(shortcuts[0])] = labels
    elif shortcuts:
        which = rng.integers(1, 4, count)  # the first, the second, or both
        for bit, thing in enumerate(shortcuts):
            present[:, THINGS.index(thing)] = labels & (which >> bit & 1).astype(bool)
    return labels.astype(np.int64), present


# --- networks


def shortcuts_of(kind: str, run: int) -> tuple[str, ...]:
    """Return the things that give the class away in a network's training."""
    return () if kind == "clean" else PAIRS[run % len(PAIRS)] if kind == "two" else (kind,)


def train(kind: str, run: int, images: np.ndarray) -> tuple[nn.Module, float]:
    """Train one network; return it, folded, and the processor seconds that it took."""
    seed = [SEED, NAMES.index(kind), run]
    rng = np.random.default_rng(seed)
    torch.manual_seed(int(rng.integers(2**31)))
    network = SmallNet().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.02)
    count, start = len(images), time.process_time()
    steps, step = EPOCHS * (count // BATCH), 0
    for _ in range(EPOCHS):
        # Every epoch shows the same faces with other things, as a larger set would.
        drawn, present = draw_training_set(shortcuts_of(kind, run), count, rng)
        labels = torch.from_numpy(drawn)
        subset = present @ (1 << np.arange(len(THINGS)))
        inputs = torch.from_numpy(images[np.arange(count), subset]).permute(0, 3, 1, 2).float() / 127.5 - 1
        for rows in rng.permutation(count)[: count - count % BATCH].reshape(-1, BATCH):
            for group in optimiser.param_groups:
                group["lr"] = one_cycle(step, steps, RATE)
            gain = torch.from_numpy(rng.uniform(0.85, 1.15, (BATCH, 1, 1, 1)).astype(np.float32))
            bias = torch.from_numpy(rng.uniform(-0.1, 0.1, (BATCH, 1, 1, 1)).astype(np.float32))
            loss = nn.functional.cross_entropy(network(inputs[rows] * gain + bias), labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1
    return fold_norms(network), time.process_time() - start


@cache
def _graph() -> bytes:
    """Export the network once; other weights are written into the same graph."""
    network = fold_norms(SmallNet())
    for weights in network.parameters():
        torch.nn.init.uniform_(weights)  # the exporter drops biases that are 0
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 3, SIDE, SIDE),),
        dynamo=True,
        opset_version=18,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    return program.model_proto.SerializeToString()  # type: ignore[no-any-return]


def write(network: nn.Module, folder: Path) -> Path:
    """Write the network and its card; return the card's path."""
    model = onnx.load_model_from_string(_graph())
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    written = set()
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weights[tensor.name]), tensor.name))
            written.add(tensor.name)
    if written != set(weights):
        raise RuntimeError(f"the graph has no place for {sorted(set(weights) - written)}")
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "network.onnx")
    card = folder / "network.toml"
    card.write_text(
        '[model]\nname = "shortcut-study"\ntask = "pad"\nfile = "network.onnx"\nfamily = "shortcut-study"\nrun = 0\n'
        'licence = "Apache-2.0"\nsource = "python -m training.train_shortcuts"\n\n'
        f'[input]\nsize = [{SIDE}, {SIDE}]\ncolor = "RGB"\nmean = [0.5]\nstd = [0.5]\n\n'
        '[output]\nname = "logits"\nkind = "logits"\nclasses = ["bona-fide", "attack"]\npositive = "attack"\n',
        encoding="utf-8",
    )
    return card


# --- asking


@dataclass(frozen=True)
class Question:
    """The images on which all networks are asked, read once: by things, and by places."""

    data: Dataset
    items: list[Sample]
    things: Things
    places: Places


def question(folder: Path, seed: int = 2, count: int = ASKED) -> Question:
    """Read the images of the question: ``PlantedShortcuts`` at the networks' size, every image kept."""
    made = pictures(folder, count, seed)
    data = PlantedShortcuts(n=count, seed=seed)
    items = [_kept(item, row, present) for item, row, present in zip(data.items(), made, data.things(), strict=True)]
    things = players_of(data, items, (SIDE, SIDE), None)
    places = players_of(data, [_bare(item) for item in items], (SIDE, SIDE), None)
    assert isinstance(things, Things)
    assert isinstance(places, Places)
    return Question(data, items, things, places)


def _bare(item: Sample) -> Sample:
    return Sample(item.id, item.face, item.label)


def _kept(item: Sample, row: np.ndarray, present: np.ndarray) -> Sample:
    """Return a sample that reads its images from memory (32×56×56×3, by subset of things that are present)."""
    own = int(present @ (1 << np.arange(len(THINGS))))

    def kept(face: Face, changed: int) -> Face:
        return Face(face.id, lambda: row[own ^ changed].astype(np.float32) / np.float32(255), face.identity)

    others = {}
    for subset in range(1, 1 << len(THINGS)):
        role = changed_role([thing for t, thing in enumerate(THINGS) if subset >> t & 1])
        others[role] = kept(item.others[role], subset)
    return Sample(item.id, kept(item.face, 0), item.label, {}, others)


def ask(kind: str, run: int, images: np.ndarray, asked: Question, with_places: bool = True) -> Asked:
    """Train a network and ask about it."""
    network, seconds = train(kind, run, images)
    people = [str(item.face.identity) for item in asked.items]
    with tempfile.TemporaryDirectory() as folder:
        model = open_model(load_card(write(network, Path(folder))))
        scores = score_players(model, asked.data, asked.items, asked.things, 1, 0)
        labels = np.array([item.label == "attack" for item in asked.items])
        accuracy = float(((scores[:, 0, 0] >= 0) == labels).mean())
        things, _ = summarise(scores, asked.things, people)
        places: tuple[Part, ...] = ()
        if with_places:
            bare = [_bare(item) for item in asked.items]
            scores = score_players(model, asked.data, bare, asked.places, 2, 0)
            places, _ = summarise(scores, asked.places, people)

    def figures(parts: Sequence[Part]) -> dict[str, tuple[float, float, float, float]]:
        return {part.name: (part.share, part.low, part.high, part.turned) for part in parts}

    def found(parts: Sequence[Part]) -> tuple[str, ...]:
        return tuple(part.name for part in parts if part.verdict == "shortcut")

    return Asked(
        kind,
        run,
        shortcuts_of(kind, run),
        accuracy,
        figures(things),
        figures(places),
        found(things),
        found(places),
        seconds,
    )


# --- what it says


def render(found: Sequence[Asked]) -> str:
    """Return the section of the page: a row per kind of network, by things and by places."""
    lines = [
        f"{len(found)} networks, {len(found[0].things)} things, {ASKED} images of people whom no network has seen. "
        f"Training took {np.median([one.seconds for one in found]):.1f} processor seconds a network (median).",
        "",
        "| trained with | networks | accuracy | all its shortcuts found | another thing called a shortcut | "
        "largest share of another thing | least share of a shortcut |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind in NAMES:
        rows = [one for one in found if one.kind == kind]
        if rows:
            lines.append(_row(kind, rows))
    lines += [
        "",
        "By places, on the same images: a template says where the face is, and two other people's pictures replace a "
        "place. Glasses lie over the eyes and are not told apart there. The tag lies in the corners, the paper edge in "
        "border and corners.",
        "",
        "| trained with | networks | its place is called a shortcut | another place is | shares: "
        + ", ".join(PLACES)
        + " |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for kind in NAMES:
        rows = [one for one in found if one.kind == kind and one.places]
        if rows:
            lines.append(_places_row(kind, rows))
    return "\n".join(lines)


PLACES = ("face", "eyes", "background", "border", "corners")
IN_PLACES: Mapping[str, frozenset[str]] = {
    "paper edge": frozenset({"border", "corners"}),
    "corner tag": frozenset({"corners"}),
    "glasses": frozenset(),
    "background": frozenset({"background", "border", "corners"}),
}


def _row(kind: str, rows: Sequence[Asked]) -> str:
    hits = sum(set(one.shortcuts) <= set(one.found) for one in rows)
    alarms = sum(bool(set(one.found) - set(one.shortcuts)) for one in rows)
    none = [one.things[t][0] for one in rows for t in SHORTCUTS if t not in one.shortcuts]
    real = [one.things[t][0] for one in rows for t in one.shortcuts]
    name = "no shortcut (clean)" if kind == "clean" else "two shortcuts" if kind == "two" else kind
    return (
        f"| {name} | {len(rows)} | {np.mean([one.accuracy for one in rows]):.0%} | "
        f"{'–' if kind == 'clean' else f'{hits} of {len(rows)} ({hits / len(rows):.0%})'} | "
        f"{alarms} of {len(rows)} ({alarms / len(rows):.0%}) | {max(none):.0%} | "
        f"{f'{min(real):.0%}' if real else '–'} |"
    )


def _places_row(kind: str, rows: Sequence[Asked]) -> str:
    places = [frozenset().union(*(IN_PLACES[t] for t in one.shortcuts)) for one in rows]
    judged = [bool(place) for place in places]
    # Where a shortcut has several places, one of them is enough; of two shortcuts each needs one.
    hits = sum(
        all(not IN_PLACES[t] or IN_PLACES[t] & set(one.found_places) for t in one.shortcuts) and bool(place)
        for one, place in zip(rows, places, strict=True)
    )
    others = sum(bool(set(one.found_places) - place) for one, place in zip(rows, places, strict=True))
    shares = ", ".join(f"{np.mean([one.places[name][0] for one in rows]):.0%}" for name in PLACES)
    said = f"{hits} of {sum(judged)}" if any(judged) else "–"
    return f"| {kind} | {len(rows)} | {said} | {others} of {len(rows)} | {shares} |"


# --- the command


def read(path: Path) -> dict[tuple[str, int], Asked]:
    """Return what an earlier call has found, by kind and run."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = {}
    for line in lines:
        row = json.loads(line)
        for name in ("shortcuts", "found", "found_places"):
            row[name] = tuple(row[name])
        for name in ("things", "places"):
            row[name] = {part: tuple(figures) for part, figures in row[name].items()}
        found[row["kind"], row["run"]] = Asked(**row)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS, help="networks of each kind")
    parser.add_argument("--faces", type=int, default=FACES, help="training faces")
    parser.add_argument("--asked", type=int, default=ASKED, help="images on which networks are asked")
    parser.add_argument("--places", type=int, default=5, help="networks of each kind that are asked by places too")
    parser.add_argument("--found", type=Path, required=True, help="where findings are kept: .jsonl")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder for rendered pictures")
    parser.add_argument("--page", type=Path, help=f"write the table into this page, such as {PAGE}")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = read(given.found)
    # One of each kind first, so that an interrupted study says something of all kinds.
    todo = [(kind, run) for run in range(given.runs) for kind in NAMES if (kind, run) not in found]
    if todo:
        images, asked = pictures(given.cache, given.faces), question(given.cache, count=given.asked)
        given.found.parent.mkdir(parents=True, exist_ok=True)
        for kind, run in todo:
            one = found[kind, run] = ask(kind, run, images, asked, run < given.places)
            with given.found.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(one)) + "\n")
            print(f"{kind} {run}: found {', '.join(one.found) or 'nothing'} ({one.seconds:.1f} s)", flush=True)
    text = render([one for (_, run), one in found.items() if run < given.runs])
    if given.page:
        given.page.write_text(replace(given.page.read_text(encoding="utf-8"), SECTION, text), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
