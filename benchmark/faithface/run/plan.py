"""What a run will do, and what cannot apply, settled before anything starts.

Place in the flow: ``cli`` and ``api`` make a :class:`Request`; :func:`make_plan` resolves its names through the
registry and returns a :class:`Plan` of groups (model × dataset) and cells (explainer within a group), which
``driver`` carries out. May call ``misfit``, ``plugins``, ``suite`` and the contract. No network is opened and no pixel
is read here.

What fits somewhere is left out where it does not fit, with the reason in the run; what fits nowhere is a usage error,
unless it came with a suite whose other lists were changed.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Metric, Pair, Sample
from faithface.errors import UsageError
from faithface.plugins import Provenance, Registry, Resolved
from faithface.run.misfit import explainer_misfit, family_of, metric_misfit, refuse_misfits
from faithface.run.suite import Published, Suite
from faithface.seeds import seed_for
from faithface.specs import canonical

ADHOC = ("adhoc", 0)
LISTS = ("models", "datasets", "explainers", "metrics")


@dataclass(frozen=True)
class Request:
    """What was asked for. Names are texts as typed, or objects (from the Python API).

    Attributes:
        suite: name and version of the board that the numbers belong to.
        published: figures from papers that the board prints beside its own.
        limit: samples per dataset (see :func:`choose`); None for all.
        batch_size: the largest batch of the network; None for the model's own choice.
        strict: an unreadable image is an error rather than skipped.
        allow_outside: cards may name networks outside their own folders.
        command: the command line as it was typed, to tell how an unfinished run is gone on with; "" for the Python API.
        inherited: which of ``explainers`` and ``metrics`` nobody asked for by name: they are those of a suite of which
            something else was changed. What fits nowhere among them is left out rather than refused.
    """

    models: tuple[str | ModelCard, ...]
    datasets: tuple[str | Dataset, ...]
    explainers: tuple[str | Explainer, ...]
    metrics: tuple[str | Metric, ...]
    suite: tuple[str, int] = ADHOC
    description: str = ""
    published: tuple[Published, ...] = ()
    limit: int | None = None
    seed: int = 0
    device: str = "cpu"
    batch_size: int | None = None
    keep_maps: bool = False
    strict: bool = False
    allow_outside: bool = False
    command: str = ""
    inherited: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Cell:
    """One explainer on one model and dataset.

    Attributes:
        number: position in the plan; the cell's key in the store.
        metrics: what is scored, by text.
        skipped: by metric text, why it does not apply here.
        reason: why the whole cell does not apply; "" if it does.
        fingerprint: of the code that makes the numbers.
    """

    number: int
    explainer: Resolved
    metrics: Mapping[str, Resolved]
    skipped: Mapping[str, str]
    reason: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Group:
    """A model on a dataset: the cells that share samples and clean scores.

    Attributes:
        positions: which of the dataset's items are used, in its order.
    """

    number: int
    model: Resolved
    dataset: Resolved
    positions: tuple[int, ...]
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        return f"{self.model.object.name} on {self.dataset.spec}"


@dataclass(frozen=True)
class FamilyJob:
    """A family metric over the runs of one family: the same explainer and dataset, one cell per run."""

    metric: Resolved
    dataset: Resolved
    cells: tuple[tuple[Group, Cell], ...]


@dataclass(frozen=True)
class Plan:
    request: Request
    groups: tuple[Group, ...]
    families: tuple[FamilyJob, ...] = ()
    explainers: tuple[Resolved, ...] = ()
    metrics: tuple[Resolved, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> list[tuple[Group, Cell]]:
        return [(group, cell) for group in self.groups for cell in group.cells]


def from_suite(suite: Suite, /, **changes: Any) -> Request:
    """Return a suite as a request; ``changes`` that are not None win over the suite's own seed, limit and so on."""
    given = {what for what in LISTS if changes.get(what)}
    request = {
        "models": suite.models,
        "datasets": suite.datasets,
        "explainers": suite.explainers,
        "metrics": suite.metrics,
        "suite": (suite.name, suite.version),
        "description": suite.description,
        "published": suite.published,
        "limit": suite.limit,
        "seed": suite.seed,
        "inherited": frozenset({"explainers", "metrics"} - given if given else ()),
    }
    return Request(**{**request, **{k: v for k, v in changes.items() if v is not None}})


def make_plan(request: Request, registry: Registry) -> Plan:
    """Resolve the names of a request and decide what applies.

    Raises:
        UsageError: an unknown name, a wrong parameter, an empty dataset, a model without a dataset of its task, or an
            explainer or metric that fits nowhere (of a changed suite: if nothing at all is left).
    """
    for what in LISTS:
        if not getattr(request, what):
            raise UsageError(f"no {what} to run; give at least one --{what.removesuffix('s')}")
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"limit is {request.limit}; expected at least 1")
    by_name = functools.partial(registry.model, allow_outside=request.allow_outside)
    models = _distinct([resolve(m, by_name) for m in request.models], "model", lambda r: r.object.name)
    datasets = _distinct([resolve(d, registry.dataset) for d in request.datasets], "dataset")
    explainers = _distinct([resolve(e, registry.explainer) for e in request.explainers], "explainer")
    metrics = _distinct([resolve(m, registry.metric) for m in request.metrics], "metric")
    groups = _groups(request, models, datasets, explainers, metrics)
    refuse_misfits(groups, models, datasets, explainers, metrics, request.inherited)
    return Plan(
        request,
        groups,
        _families(groups, metrics),
        tuple(explainers),
        tuple(metrics),
        identity(request, models, datasets, explainers, metrics),
    )


def resolve(asked: Any, by_name: Callable[[str], Resolved]) -> Resolved:
    """Return what a text names, or an object given by hand, with its class as provenance."""
    if isinstance(asked, str):
        return by_name(asked)
    cls = type(asked)
    provenance = Provenance("(an object)", "", f"{cls.__module__}:{cls.__qualname__}", source_hash(cls))
    name = getattr(asked, "id", "") or asked.name
    try:
        default = cls() if not isinstance(asked, ModelCard) else asked
    except (TypeError, ValueError):
        default = None  # a required parameter: then all of them are part of the name
    return Resolved(canonical(name, asked, default), asked, provenance)


def _distinct(found: list[Resolved], what: str, key: Any = lambda r: r.spec) -> list[Resolved]:
    """Drop a name given twice; two different things of one name are an error."""
    seen: dict[str, Resolved] = {}
    for one in found:
        earlier = seen.setdefault(key(one), one)
        if earlier is not one and earlier.object != one.object:
            raise UsageError(f'two {what}s are named "{key(one)}"; rename one of them')
    return list(seen.values())


def _groups(
    request: Request,
    models: Sequence[Resolved],
    datasets: Sequence[Resolved],
    explainers: Sequence[Resolved],
    metrics: Sequence[Resolved],
) -> tuple[Group, ...]:
    groups: list[Group] = []
    number = 0
    chosen: dict[str, tuple[int, ...]] = {}
    for model in models:
        for dataset in datasets:
            if not dataset.object.fits(model.object.task):
                continue
            if dataset.spec not in chosen:
                items = dataset.object.items()
                if not len(items):
                    raise UsageError(f'dataset "{dataset.spec}" is empty; expected at least one sample')
                chosen[dataset.spec] = choose(items, request.limit, request.seed)
            cells = []
            for explainer in explainers:
                cells.append(_cell(number, model, dataset, explainer, metrics, models))
                number += 1
            groups.append(Group(len(groups), model, dataset, chosen[dataset.spec], tuple(cells)))
    return tuple(groups)


def _cell(
    number: int,
    model: Resolved,
    dataset: Resolved,
    explainer: Resolved,
    metrics: Sequence[Resolved],
    models: Sequence[Resolved],
) -> Cell:
    reason = explainer_misfit(model.object, dataset.object, explainer.object)
    fits: dict[str, Resolved] = {}
    skipped: dict[str, str] = {}
    for metric in metrics:
        why = reason or metric_misfit(model.object, dataset.object, explainer.object, metric.object, models)
        if why:
            skipped[metric.spec] = why
        else:
            fits[metric.spec] = metric
    if not reason and not fits:
        reason = next(iter(skipped.values()))
    return Cell(number, explainer, fits, skipped, reason, fingerprint([explainer, *fits.values()]))


def _families(groups: Sequence[Group], metrics: Sequence[Resolved]) -> tuple[FamilyJob, ...]:
    jobs: dict[tuple[str, str, str, str, str], list[tuple[Group, Cell]]] = {}
    wanted: dict[tuple[str, str, str, str, str], tuple[Resolved, Resolved]] = {}
    for metric in metrics:
        if "family" not in metric.object.needs:
            continue
        for group in groups:
            for cell in group.cells:
                if metric.spec in cell.metrics:
                    card = group.model.object
                    key = (metric.spec, card.task, family_of(card), group.dataset.spec, cell.explainer.spec)
                    jobs.setdefault(key, []).append((group, cell))
                    wanted[key] = (metric, group.dataset)
    return tuple(FamilyJob(*wanted[key], tuple(cells)) for key, cells in jobs.items())


# --- which samples


def choose(items: Sequence[Sample] | Sequence[Pair], limit: int | None, seed: int) -> tuple[int, ...]:
    """Return the positions of the samples to use, in the dataset's order.

    A limit takes samples in turn from each class (of pairs: genuine and impostor in turn, within these each kind in
    turn), so that a small run still holds what metrics and controls need. Within a stratum the order is a
    permutation from the seed and
    the sample ids: a larger limit contains a smaller one, and neither depends on the order of the files.
    """
    if limit is None or limit >= len(items):
        return tuple(range(len(items)))
    strata: dict[str, dict[str, list[int]]] = {}
    order = sorted(range(len(items)), key=lambda i: seed_for(seed, items[i].id, "limit"))
    for i in order:
        item = items[i]
        outer = str(not item.same) if isinstance(item, Pair) else str(item.label)
        inner = item.kind if isinstance(item, Pair) else ""
        strata.setdefault(outer, {}).setdefault(inner, []).append(i)
    turns = [_in_turn([strata[o][k] for k in sorted(strata[o])]) for o in sorted(strata)]
    return tuple(sorted(_in_turn(turns)[:limit]))


def _in_turn(lists: Sequence[Sequence[int]]) -> list[int]:
    longest = max(len(one) for one in lists)
    return [one[i] for i in range(longest) for one in lists if i < len(one)]


# --- what makes a command the same command


def identity(
    request: Request,
    models: Iterable[Resolved],
    datasets: Iterable[Resolved],
    explainers: Iterable[Resolved],
    metrics: Iterable[Resolved],
) -> dict[str, Any]:
    """Return what must agree for a run directory to be gone on with, as JSON values."""
    return {
        "suite": list(request.suite),
        "models": [f"{m.object.name}#{file_hash(m.object.path)[:16]}" for m in models],
        "datasets": [f"{d.spec}#{d.object.revision}" for d in datasets],
        "explainers": [e.spec for e in explainers],
        "metrics": [m.spec for m in metrics],
        "limit": request.limit,
        "seed": request.seed,
        "device": request.device,
        "batch-size": request.batch_size,
        "keep-maps": request.keep_maps,
        "strict": request.strict,
    }


def default_directory(plan: Plan) -> Path:
    """Return ``runs/<suite>-<hash>``: the same command always finds its own directory again."""
    text = json.dumps(plan.identity, sort_keys=True)
    return Path("runs") / f"{plan.request.suite[0]}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def file_hash(path: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); put the model's weights there") from None


def fingerprint(parts: Iterable[Resolved]) -> str:
    """Return a hash of the code behind explainers and metrics, to notice that it changed during an interrupted run."""
    text = json.dumps([[p.spec, source_hash(type(p.object))] for p in parts])
    return hashlib.sha256(text.encode()).hexdigest()


def source_hash(cls: Any) -> str:
    """Return the sha256 of the file that defines a class; "" where there is none (typed at a prompt)."""
    try:
        path = inspect.getsourcefile(cls)
    except TypeError:
        return ""
    return file_hash(Path(path)) if path and Path(path).is_file() else ""
