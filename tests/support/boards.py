"""Boards for tests without a run: records with values drawn from a seed, and a gallery with pictures for some samples.

Place in the flow: used by tests and by ``tests.soak.site_scale``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from scipy.special import stdtrit

from faithface.boards.record import (
    VALUE_SCHEMA,
    DatasetRef,
    ExplainerRef,
    Kept,
    ModelRef,
    Number,
    Origin,
    Record,
    SuiteRef,
    Where,
)
from faithface.boards.site.extras import (
    FILE,
    GALLERY,
    Band,
    CellExtras,
    Gallery,
    Shown,
    face_file,
    picture_file,
    place_of,
)
from faithface.boards.verdicts import Against, Examined, Verdict
from faithface.reasons import Status

AUDIT = {
    "metric-0@1(grid=14)": Examined(Verdict.JUDGES),
    "metric-1@1(grid=14)": Examined(Verdict.JUDGES),
    "metric-4@1(grid=14)": Examined(Verdict.WITH_CARE, (Against.ORDER,)),
    "metric-5@1(grid=14)": Examined(Verdict.FAILS, (Against.RANDOM, Against.MIRRORED)),
}
"""An audit of the protocols of :func:`records`: the first two judge, the fifth with care, the sixth fails."""
ORIGIN = Origin(distribution="extras", distribution_version="1", entry_point="extras:x", fingerprint="ab" * 32)
FAMILIES = ("faithful", "truth", "description", "cost")
METHODS = ("alpha", "beta", "gamma", "delta")
CONTROLS = ("oracle", "random", "inverted:oracle")
NEEDS = (("scores",), ("gradients",), ("activations", "gradients"), ("activations",))


def records(
    methods: Sequence[str] = METHODS,
    controls: Sequence[str] = CONTROLS,
    models: Sequence[str] = ("net-a", "net-b"),
    metrics: int = 6,
    n: int = 24,
    seed: int = 0,
    tasks: Sequence[str] = ("pad", "synthetic-detection"),
    **texts: str,
) -> list[Kept]:
    """Return one record per explainer and model. A method is better than the next by 0.3; a value's own noise is 0.1.

    Args:
        metrics: protocols ``metric-0@1`` and so on, families in turn; odd ones are lower-is-better.
        tasks: of the models, in turn.
        texts: ``description``, ``reason``, ``source``, ``dataset`` and ``sample`` (a prefix) to put into the records.
    """
    rng = np.random.default_rng(seed)
    names = [f"{texts.get('sample', 'sample')}-{i:03d}" for i in range(n)]
    hard = rng.normal(0, 1, (metrics, n))  # what makes a sample hard for all
    t_half = float(stdtrit(n - 1, 0.975) / n**0.5)  # every sample is a unit of its own
    protocols = [
        Number(
            protocol=f"metric-{k}@1(grid=14)",
            id=f"metric-{k}@1",
            family=FAMILIES[k % len(FAMILIES)],
            question=f"Question {k}?",
            value_name="",
            status=Status.OK,
            reason="",
            number=0.0,
            low=0.0,
            high=0.0,
            n=n,
            better="lower" if k % 2 else "higher",
            range=(None, None),
            best=None,
            which="all",
            summary="mean",
            parameters={"grid": "14"},
            source=texts.get("source", "Somebody 2024"),
            origin=ORIGIN,
        )
        for k in range(metrics)
    ]
    rows = pl.DataFrame(
        {
            "protocol": [one.protocol for one in protocols for _ in names],
            "value_name": [""] * (metrics * n),
            "sample": names * metrics,
            "value": [0.0] * (metrics * n),
            "reason": [""] * (metrics * n),
            "flag": [""] * (metrics * n),
            "units": [[name] for name in names] * metrics,
            "label": ["a"] * (metrics * n),
            "score": [0.8] * (metrics * n),
            "correct": [True] * (metrics * n),
        },
        schema=VALUE_SCHEMA,
    )
    kept = []
    for m, model in enumerate(models):
        for e, explainer in enumerate([*methods, *controls]):
            control = e >= len(methods)
            level = {"oracle": 1.0, "random": -1.0}.get(explainer, -2.0) if control else -0.3 * e
            signs = np.array([-1 if k % 2 else 1 for k in range(metrics)])[:, None]
            values = (level + hard + rng.normal(0, 0.1, (metrics, n))) * signs
            halves = t_half * values.std(axis=1, ddof=1)
            numbers = [
                one.model_copy(update={"number": mean, "low": mean - half, "high": mean + half})
                for one, mean, half in zip(protocols, values.mean(axis=1).tolist(), halves.tolist(), strict=True)
            ]
            task = tasks[m % len(tasks)]
            values_frame = rows.with_columns(value=pl.Series(values.ravel()))
            digest = hashlib.sha256(values_frame["value"].to_numpy().tobytes()).hexdigest()
            record = Record(
                suite=SuiteRef(
                    name="made", version=1, description=texts.get("description", "A board that was made up")
                ),
                model=ModelRef(
                    name=model,
                    sha256=hashlib.sha256(model.encode()).hexdigest(),
                    task=task,
                    family=model,
                    run=0,
                    card={"input": {"size": [16, 16]}, "output": {"classes": ["a", "b"]}, "source": "made"},
                    origin=ORIGIN,
                    threshold=None,
                    clean_accuracy=0.9,
                    clean_n=n,
                    twin_parity=None,
                ),
                dataset=DatasetRef(
                    spec=texts.get("dataset", f"faces-{task}"),
                    name="faces",
                    revision="1",
                    parameters={},
                    size=n,
                    samples=n,
                    limit=None,
                    seed=0,
                    licence="CC0-1.0",
                    publishable=True,
                    source=texts.get("source", "made"),
                    origin=ORIGIN,
                ),
                explainer=ExplainerRef(
                    spec=explainer,
                    name=explainer,
                    version="1",
                    parameters={},
                    seeded=False,
                    control=control,
                    needs=() if control else NEEDS[e % len(NEEDS)],
                    source=texts.get("source", "Somebody 2023"),
                    origin=ORIGIN,
                ),
                where=Where(
                    device="cpu",
                    device_name="x86_64",
                    provider="CPUExecutionProvider",
                    threads=1,
                    batch=16,
                    system="Linux x86_64",
                    versions={"faithface": "0.1.0"},
                    commit="",
                ),
                status=Status.OK,
                reason=texts.get("reason", ""),
                numbers=tuple(numbers),
                seconds_per_sample=0.002 * 4**e,
                values="values.parquet",
                values_sha256=digest,
            )
            kept.append(Kept(record, values_frame))
    return kept


def write_made_gallery(kept: Sequence[Kept], folder: Path, shown: int = 3, points: int = 5) -> None:
    """Write a gallery with curves and grey pictures for the first samples of every model and dataset."""
    by_place: dict[tuple[str, str], list[Kept]] = {}
    for one in kept:
        by_place.setdefault(place_of(one.record), []).append(one)
    for (model, dataset), members in by_place.items():
        root = folder / GALLERY / model / dataset
        names = members[0].values["sample"].unique(maintain_order=True).to_list()[:shown]
        cells = {}
        falling = tuple(round(1 - i / (points - 1), 4) for i in range(points))
        for one in members:
            name = one.record.stem.name
            protocol = one.record.numbers[0].protocol
            pair = {"deletion": falling, "insertion": falling[::-1]}
            cells[name] = CellExtras(
                values_sha256=one.record.values_sha256,
                bands={protocol: {k: Band(n=24, mean=c, low=c, high=c) for k, c in pair.items()}},
                curves={protocol: {k: dict.fromkeys(names, c) for k, c in pair.items()}},
                pictures=dict.fromkeys(names, ("relevance",)),
            )
            for sample in names:
                _picture(root / picture_file(sample, name, "relevance"))
        for sample in names:
            _picture(root / face_file(sample, 0))
        gallery = Gallery(samples=tuple(Shown(sample=s, facts={"truth": "a"}, faces=1) for s in names), cells=cells)
        (root / FILE).write_text(gallery.model_dump_json())


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (128, 128, 128)).save(path, "WEBP")
