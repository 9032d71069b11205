"""The gallery of a run: mean curves of every cell, and pictures of some samples, kept beside its records.

Place in the flow: ``leaderboard build`` and ``view`` call :func:`write_gallery`, ``boards.site`` reads what it writes.
Reads a run's store, its kept maps and, for faces, the datasets; calls ``figures`` and ``loading``. Nothing is explained
or scored here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from faithface.boards.record import Kept, Record
from faithface.boards.render import figure
from faithface.boards.site.extras import (
    FILE,
    GALLERY,
    Band,
    CellExtras,
    Gallery,
    Kind,
    Shown,
    face_file,
    picture_file,
    place_of,
)
from faithface.boards.statistics.design import make_design, make_units
from faithface.boards.statistics.means import quantile, variances
from faithface.durable import cannot_write, replace_folder, write_whole
from faithface.errors import FaithfaceError
from faithface.run.paths import maps_file, short
from faithface.run.store import Store, open_run

if TYPE_CHECKING:
    from faithface.contract import Dataset, Pair, Sample
    from faithface.plugins import Registry

Faces = Literal["publishable", "all"]
SHOWN = 8  # samples with pictures, per model and dataset
QUALITY = 82
HIDDEN = "The faces of this dataset are not shown: nobody has said that they may be published."
NO_FACES = "The faces could not be read again: {}"
KINDS: tuple[Kind, ...] = ("relevance", "similarity", "dissimilarity")


@dataclass(frozen=True)
class Wanted:
    """What goes into a gallery: how many samples, and whose faces. ``publishable``: of sets that allow it."""

    samples: int = SHOWN
    faces: Faces = "publishable"


def write_gallery(
    run: Path, kept: Sequence[Kept], out: Path, wanted: Wanted, registry: Callable[[], Registry]
) -> tuple[str, ...]:
    """Write the galleries of a run's cells below ``out``/gallery. Cells of other runs that are there already stay.

    Args:
        run: a run directory, finished or not.
        kept: the records to which curves and pictures belong.
        out: a board's or a run's folder.
        registry: loads the plugins, in which the datasets of the faces are found; asked only where they are needed.

    Returns:
        One line for each dataset whose faces could not be read again.

    Raises:
        UsageError: ``run`` is not a run.
        RunError: a file cannot be written.
    """
    notes: list[str] = []
    with open_run(run) as store:
        cells = {(c["model"], c["dataset"], c["explainer"]): c["id"] for c in store.cells()}
        for group in store.groups():
            records = {
                explainer: found
                for (model, data, explainer) in cells
                if (model, data) == (group["model"], group["dataset"])
                and (found := _record_of(kept, store, cells[model, data, explainer], model, explainer)) is not None
            }
            records = {e: k for e, k in records.items() if k.record.values_sha256}
            if records:
                numbers = {e: cells[group["model"], group["dataset"], e] for e in records}
                note = _write(store, group, records, numbers, out / GALLERY, wanted, registry)
                if note and note not in notes:
                    notes.append(note)
    return tuple(notes)


def _record_of(kept: Sequence[Kept], store: Store, cell: int, model: str, explainer: str) -> Kept | None:
    """Return the record of a cell of the store: paths are cut in records, so that names alone do not say which."""

    group = store.execute("SELECT dataset FROM groups JOIN cells ON cells.grp = groups.id WHERE cells.id = ?", (cell,))
    dataset = short(group.fetchone()["dataset"])
    found = [
        one
        for one in kept
        if (one.record.model.name, one.record.dataset.spec, one.record.explainer.spec)
        == (model, dataset, short(explainer))
    ]
    # Two datasets, or explainers, whose paths have the same last part: nothing is better than the wrong picture.
    return found[0] if len(found) == 1 else None


def _write(
    store: Store,
    group: Mapping[str, Any],
    records: Mapping[str, Kept],
    numbers: Mapping[str, int],
    root: Path,
    wanted: Wanted,
    registry: Callable[[], Registry],
) -> str:
    samples = store.samples(group["id"])
    first = next(iter(records.values())).record
    data: Dataset | None = None
    hidden, note = "", ""
    chosen = choose(samples, wanted.samples)
    if wanted.faces != "all" and not first.dataset.publishable:
        hidden = HIDDEN
    else:
        try:
            data = registry().dataset(group["dataset"]).object
        except FaithfaceError as error:
            hidden = NO_FACES.format(str(error).splitlines()[0])
            note = f"{group['dataset']}: {hidden}"
    model, folder_name = place_of(first)
    begun = root / model / f"{folder_name}.new"
    shutil.rmtree(begun, ignore_errors=True)
    names = [s["sample"] for s in chosen]
    try:
        sizes = _faces(data, names, first, begun) if data is not None else {}
    except FaithfaceError as error:
        sizes, hidden = {}, NO_FACES.format(str(error).splitlines()[0])
        note = f"{group['dataset']}: {hidden}"
    units = {s["sample"]: s["units"] for s in samples}
    extras = {}
    for explainer, kept in records.items():
        bands, curves = _curves(store, numbers[explainer], kept.record, units, names)
        pictures = {}
        for sample in names:
            path = maps_file(store.directory, group["model"], group["dataset"], explainer, sample)
            if path.is_file() and (sample in sizes or hidden):
                pictures[sample] = _pictures(path, sizes.get(sample, ()), begun, sample, kept.record.stem.name)
        extras[kept.record.stem.name] = CellExtras(
            values_sha256=kept.record.values_sha256, bands=bands, curves=curves, pictures=pictures
        )
    shown = tuple(
        Shown(
            sample=s["sample"],
            facts=facts_of(s, first, group["threshold"]),
            faces=len(sizes.get(s["sample"], ())),
            aspect=_aspect(sizes.get(s["sample"], ())),
        )
        for s in chosen
    )
    extras |= _of_other_runs(root / model / folder_name, begun, set(extras), names)
    # A sample without curve and picture would be a page that says nothing more than the cell's.
    drawn = {s for e in extras.values() for s in e.pictures} | {
        s for e in extras.values() for by_name in e.curves.values() for by_sample in by_name.values() for s in by_sample
    }
    gallery = Gallery(samples=tuple(s for s in shown if s.sample in drawn), hidden=hidden, cells=extras)
    text = gallery.model_dump_json(exclude_defaults=False) + "\n"
    write_whole(begun / FILE, lambda file: file.write(text.encode("utf-8")))
    replace_folder(begun, root / model / folder_name)
    return note


def _of_other_runs(old: Path, new: Path, mine: Collection[str], samples: Sequence[str]) -> dict[str, CellExtras]:
    """Return what is there already of cells of other runs, and copy their pictures of these samples."""
    if not (old / FILE).is_file():
        return {}
    kept = {}
    for explainer, cell in Gallery.model_validate_json((old / FILE).read_bytes()).cells.items():
        if explainer in mine:
            continue
        pictures = {}
        for sample, kinds in cell.pictures.items():
            files = [picture_file(sample, explainer, kind) for kind in kinds]
            if sample in samples and all((old / file).is_file() for file in files):
                pictures[sample] = kinds
                for file in files:
                    (new / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(old / file, new / file)
        curves = {
            protocol: {n: {s: c for s, c in by_sample.items() if s in samples} for n, by_sample in by_name.items()}
            for protocol, by_name in cell.curves.items()
        }
        kept[explainer] = cell.model_copy(update={"pictures": pictures, "curves": curves})
    return kept


def choose(samples: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Return ``count`` samples in the dataset's order, evenly over kinds (genuine and impostor; labels)."""
    kinds: dict[Any, list[Mapping[str, Any]]] = {}
    for one in samples:
        kinds.setdefault(one.get("same", one.get("label")), []).append(one)
    found: list[Mapping[str, Any]] = []
    while len(found) < min(count, len(samples)):
        for members in kinds.values():
            if members and len(found) < count:
                found.append(members.pop(0))
    return sorted(found, key=lambda one: (one["position"], one["sample"]))


def facts_of(sample: Mapping[str, Any], record: Record, threshold: float | None) -> dict[str, str]:
    """Return what is known of a sample, for people to read."""
    score, predicted = sample["score"], sample["predicted"]
    found: dict[str, str] = {}
    if "same" in sample:
        found["truth"] = "genuine pair" if sample["same"] else "impostor pair"
        if sample.get("kind"):
            found["kind"] = str(sample["kind"])
        found["similarity"] = figure(score)
        if threshold is not None:
            found["decision"] = f"{'accepted' if predicted else 'rejected'} at {figure(threshold)}"
    else:
        if sample.get("label"):
            found["truth"] = str(sample["label"])
        classes = record.model.card.get("output", {}).get("classes") or []
        name = classes[predicted] if 0 <= predicted < len(classes) else f"class {predicted}"
        found["decision"] = f"{name}, probability {figure(score)}"
    if sample.get("correct") is not None:
        found["model"] = "right" if sample["correct"] else "wrong"
    return found


# --- curves


def _curves(
    store: Store, cell: int, record: Record, units: Mapping[str, Sequence[str]], chosen: Sequence[str]
) -> tuple[dict[str, dict[str, Band]], dict[str, dict[str, dict[str, tuple[float, ...]]]]]:
    """Return a cell's mean curves, and those of the chosen samples, by protocol and name."""
    bands: dict[str, dict[str, Band]] = {}
    curves: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {}
    protocols = list(dict.fromkeys(n.protocol for n in record.numbers if n.number is not None))
    for protocol in protocols:
        found = store.execute("SELECT DISTINCT name FROM curves WHERE cell = ? AND metric = ?", (cell, protocol))
        for name in sorted(row["name"] for row in found):
            by_sample = {s: c for s, c in store.curves(cell, protocol, name).items() if np.isfinite(c).all()}
            lengths = {len(curve) for curve in by_sample.values()}
            if len(lengths) != 1:
                continue  # of different lengths there is no mean
            bands.setdefault(protocol, {})[name] = band_of(by_sample, units)
            mine = {s: tuple(rounded(v) for v in by_sample[s]) for s in chosen if s in by_sample}
            if mine:
                curves.setdefault(protocol, {})[name] = mine
    return bands, curves


def band_of(curves: Mapping[str, np.ndarray], units: Mapping[str, Sequence[str]]) -> Band:
    """Return the mean of curves with the boards' 95 % interval at each point."""
    names = sorted(curves)
    values = np.stack([np.asarray(curves[name], dtype=np.float64) for name in names])
    mean = values.mean(axis=0)
    half = np.full(values.shape[1], np.nan)
    design = make_design(make_units([units[name] for name in names]))
    if design.df > 0:
        half = quantile(design.df) * np.sqrt(variances(design, values, pairs=False))

    def ends(sign: int) -> tuple[float | None, ...]:
        return tuple(rounded(v) if np.isfinite(v) else None for v in mean + sign * half)

    return Band(n=len(names), mean=tuple(rounded(v) for v in mean), low=ends(-1), high=ends(1))


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


# --- pictures


def _faces(data: Dataset, names: Sequence[str], record: Record, folder: Path) -> dict[str, tuple[np.ndarray, ...]]:
    """Write the faces of some samples; return their pixels, float32 H×W×3 at the model's input size, by sample."""
    from faithface.loading import read_face

    size = tuple(record.model.card["input"]["size"])
    items: Iterable[Sample | Pair] = data.items()
    by_id = {item.id: item for item in items if item.id in set(names)}
    found = {}
    for name in names:
        if name not in by_id:
            continue
        images = tuple(read_face(f, size).numpy().transpose(1, 2, 0) for f in by_id[name].faces)  # type: ignore[arg-type]
        for side, image in enumerate(images):
            _webp(folder / face_file(name, side), image)
        found[name] = images
    return found


def _pictures(path: Path, faces: Sequence[np.ndarray], folder: Path, sample: str, explainer: str) -> tuple[Kind, ...]:
    """Write one picture per kind of map: overlays above where there are faces, the maps alone below."""
    from matplotlib import colormaps

    from faithface.figures import overlay, scale_of

    with np.load(path) as arrays:
        maps = {kind: np.asarray(arrays[kind], dtype=np.float32) for kind in KINDS if kind in arrays}
    done: list[Kind] = []
    for kind, map_ in maps.items():
        if not np.isfinite(map_).all():
            continue
        sides = map_ if map_.ndim == 3 else map_[None]
        scale = scale_of(map_)
        place = np.clip((sides - scale.low) / (scale.high - scale.low), 0, 1)
        bare = np.concatenate([colormaps[scale.colours](one)[..., :3] for one in place], axis=1)
        rows = [bare]
        if len(faces) == len(sides) and all(f.shape[:2] == s.shape for f, s in zip(faces, sides, strict=True)):
            rows = [np.concatenate([overlay(f, s, scale) for f, s in zip(faces, sides, strict=True)], axis=1), bare]
        # A classifier's two pictures stand side by side, a pair's one above the other.
        _webp(folder / picture_file(sample, explainer, kind), np.concatenate(rows, axis=0 if len(sides) > 1 else 1))
        done.append(kind)
    return tuple(done)


def _webp(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, "WEBP", quality=QUALITY, method=4)
    except OSError as error:
        raise cannot_write(path, error) from None


def _aspect(faces: Sequence[np.ndarray]) -> float:
    return round(faces[0].shape[1] / faces[0].shape[0], 4) if faces else 1.0
