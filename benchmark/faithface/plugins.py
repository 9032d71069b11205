"""The plugin host: find plugins by entry points, load each one guarded, and record who provided what.

Place in the flow: the command line and the API ask :func:`load_registry` once and look objects up in the
:class:`Registry`. May call ``hookspecs``, ``plugin_files``, ``contract``, ``specs``, ``card``, ``errors``. Never
imports a plugin by name.

A plugin that fails to import, or whose hooks fail, is one row with its error and nothing more, unless strict; a name
given by two providers, or a misspelt hook, is reported with the providers named. Beside installed distributions, files
named by ``--plugin`` and ``faithfacefile.py`` in the working folder are loaded (``plugin_files``). With
``FAITHFACE_TRACE=1`` every import and every call of a hook is a line on stderr, with its time. The environment variable
``FAITHFACE_PLUGINS`` limits the third-party distributions that are loaded (comma-separated; empty: none); what ships
in the ``faithface`` distribution is always loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pluggy

from faithface import hookspecs
from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Fill, Metric
from faithface.contract.fill import RESERVED
from faithface.contract.version import check_contract
from faithface.errors import FaithfaceError, UsageError, nearest
from faithface.plugin_files import plugin_files
from faithface.specs import canonical, configure, parameters, parse_spec, split_argument

GROUP = "faithface"
CORE = "faithface"
ENVIRONMENT = "FAITHFACE_PLUGINS"
TRACE = "FAITHFACE_TRACE"
A_FILE = "(a file)"

T = TypeVar("T")


@dataclass(frozen=True)
class Provenance:
    """Who provided an object: distribution, its version and the entry point."""

    distribution: str
    version: str
    entry_point: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.entry_point})"


@dataclass(frozen=True)
class Registered(Generic[T]):
    """A registered object under its name."""

    name: str
    object: T
    provenance: Provenance


@dataclass(frozen=True)
class Resolved(Generic[T]):
    """An object as a user named it: configured, with the canonical text that identifies it in records.

    Attributes:
        spec: canonical text, such as ``fggb(reading=signed)``.
        object: the configured object.
        provenance: of the registered object.
        parts: by parameter, the provenance of a registered object that is its value, such as a metric's fill.
    """

    spec: str
    object: T
    provenance: Provenance
    parts: Mapping[str, Provenance] = field(default_factory=dict)


@dataclass(frozen=True)
class PluginRow:
    """One line of ``faithface plugins``.

    Attributes:
        status: ``ok``, ``failed`` or ``skipped`` (not among ``FAITHFACE_PLUGINS``).
        registered: names by kind.
        error: the first line of the error; "" for none.
    """

    distribution: str
    version: str
    entry_point: str
    status: str
    registered: dict[str, list[str]] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class _Kind:
    """One kind of object: the hook that gives it, its type, and how it is named."""

    hook: str
    type: type
    name: Callable[[Any], str]
    pattern: str


_NAME = r"[a-z0-9][a-z0-9._+-]*"
_KINDS: dict[str, _Kind] = {
    "explainers": _Kind("faithface_explainers", Explainer, lambda o: o.name, _NAME),
    "models": _Kind("faithface_models", ModelCard, lambda o: o.name, _NAME),
    "datasets": _Kind("faithface_datasets", Dataset, lambda o: o.name, _NAME),
    "metrics": _Kind("faithface_metrics", Metric, lambda o: o.id, _NAME + r"@[1-9][0-9]*"),
    "fills": _Kind("faithface_fills", Fill, lambda o: o.name, _NAME),
    "suites": _Kind("faithface_suites", Path, lambda o: o.stem, _NAME),
}


@dataclass(frozen=True)
class Listener:
    """A plugin with hooks on a run: its module, and its provenance."""

    module: Any
    provenance: Provenance


@dataclass(frozen=True)
class Registry:
    """All that is registered, by kind and name, and one row per plugin.

    Attributes:
        listeners: plugins with hooks that are called later than when they are loaded.
    """

    explainers: dict[str, Registered[Explainer]]
    models: dict[str, Registered[ModelCard]]
    datasets: dict[str, Registered[Dataset]]
    metrics: dict[str, Registered[Metric]]
    suites: dict[str, Registered[Path]]
    rows: tuple[PluginRow, ...]
    listeners: tuple[Listener, ...] = ()
    fills: dict[str, Registered[Fill]] = field(default_factory=dict)

    def explainer(self, text: str) -> Resolved[Explainer]:
        """Resolve ``name``, ``name(parameter=value)`` or ``name:argument``.

        Raises:
            UsageError: unknown name or parameter; the nearest is suggested.
        """
        spec = parse_spec(text)
        found = _lookup(self.explainers, spec.name, "explainer")

        def inner(name: str) -> Explainer:
            return self.explainer(name).object

        what = f'explainer "{spec.name}"'
        if spec.argument is not None:
            opened = found.object.with_argument(spec.argument, inner)
            return Resolved(f"{spec.name}:{spec.argument}", opened, found.provenance)
        made = configure(found.object, spec.params, what)
        return Resolved(canonical(spec.name, made, found.object), made.bind(inner), found.provenance)

    def metric(self, text: str) -> Resolved[Metric]:
        """Resolve ``gap@1``, ``deletion@1(fill=black)`` or ``quantus:NAME``; a name with no version is refused."""
        spec = parse_spec(text)
        if spec.argument is not None:
            # The argument names another library's protocol; the version is that of the bridge to it.
            found = _lookup(self.metrics, spec.name if "@" in spec.name else f"{spec.name}@1", "metric")
            opened = found.object.with_argument(spec.argument)
            return Resolved(f"{spec.name}:{spec.argument}", opened, found.provenance)
        if "@" not in spec.name:
            versions = sorted(m for m in self.metrics if m.partition("@")[0] == spec.name)
            if versions:
                raise UsageError(
                    f'metric "{spec.name}" has no version; a number names its protocol: write {versions[-1]}'
                )
        found = _lookup(self.metrics, spec.name, "metric")
        made = configure(found.object, spec.params, f'metric "{spec.name}"', {Fill: self._fill})
        parts = {
            name: self.fills[value.name].provenance
            for name, value in parameters(made).items()
            if isinstance(value, Fill) and value.name in self.fills
        }
        return Resolved(canonical(spec.name, made, found.object), made, found.provenance, parts)

    def fill(self, text: str) -> Resolved[Fill]:
        """Resolve ``inpainted`` or ``inpainted(steps=20)``: a fill that a plugin brings."""
        spec = parse_spec(text)
        found = _lookup(self.fills, spec.name, "fill")
        made = configure(found.object, spec.params, f'fill "{spec.name}"')
        return Resolved(str(made), made, found.provenance)

    def _fill(self, text: str, words: tuple[str, ...]) -> Fill:
        """Return the fill that a metric's parameter names; ``words`` are the parameter's other values."""
        name = parse_spec(text).name
        if name not in self.fills:
            raise UsageError(f'fill "{name}" is not known; {nearest(name, [*words, *self.fills])}')
        return self.fill(text).object

    def dataset(self, text: str) -> Resolved[Dataset]:
        """Resolve ``planted-pad``, ``planted-pad(n=50)``, ``folder:PATH`` or ``pairs:CSV@ROOT(aligned=false)``."""
        spec = parse_spec(text)
        found = _lookup(self.datasets, spec.name, "dataset")
        what = f'dataset "{spec.name}"'
        if spec.argument is None:
            made = configure(found.object, spec.params, what)
            return Resolved(canonical(spec.name, made, found.object), made, found.provenance)
        path, params = split_argument(spec.argument)
        made = configure(found.object.with_argument(path), params, what)
        return Resolved(f"{spec.name}:{spec.argument}", made, found.provenance)

    def model(self, text: str, allow_outside: bool = False) -> Resolved[ModelCard]:
        """Resolve a registered model's name, or a path of a card (``.toml``; ``allow_outside``: see ``load_card``)."""
        from faithface.card import load_card

        path = Path(text)
        if text.endswith(".toml") or path.is_file():
            if path.suffix == ".onnx":
                raise UsageError(
                    f"{text} is a network without a card; `faithface inspect {text}` prints one to complete"
                )
            return Resolved(str(path), load_card(path, allow_outside), Provenance(A_FILE, "", str(path)))
        if path.suffix == ".onnx":
            raise UsageError(f"{text}: no such file; expected a model card (.toml) or a registered model's name")
        found = _lookup(self.models, text.strip(), "model")
        return Resolved(found.name, found.object, found.provenance)

    def suite(self, text: str) -> Resolved[Path]:
        """Resolve a registered suite's name, or a path of a suite file."""
        path = Path(text)
        if text.endswith(".toml") or path.is_file():
            if not path.is_file():
                raise UsageError(f"{text}: no such suite file")
            return Resolved(path.stem, path, Provenance(A_FILE, "", str(path)))
        found = _lookup(self.suites, text.strip(), "suite")
        return Resolved(found.name, found.object, found.provenance)


def _lookup(table: dict[str, Registered[T]], name: str, kind: str) -> Registered[T]:
    if name not in table:
        silent = [row.distribution for row in without_entry()]
        hint = f"; {', '.join(silent)}: {NO_ENTRY}" if silent else ""
        raise UsageError(f'no {kind} "{name}"; {nearest(name, table)} (`faithface {kind}s` lists them){hint}')
    return table[name]


def load_registry(strict: bool = False, only: Iterable[str] | None = None) -> Registry:
    """Load all plugins and return what they registered.

    Args:
        strict: a plugin that fails is an error instead of a row.
        only: names of the third-party distributions to load; None: those in ``FAITHFACE_PLUGINS``, else all.

    Raises:
        UsageError: strict and a plugin failed.
    """
    allowed = _allowed(only)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    tables: dict[str, dict[str, Registered[Any]]] = {kind: {} for kind in _KINDS}
    rows: list[PluginRow] = []
    listeners: list[Listener] = []
    for source in _sources(allowed):
        provenance = source.provenance
        row = PluginRow(provenance.distribution, provenance.version, provenance.entry_point, "ok")
        if not source.wanted:
            rows.append(dataclasses.replace(row, status="skipped", error=f"not named in {ENVIRONMENT}"))
            continue
        name = f"{provenance.distribution}:{provenance.entry_point}"
        try:
            with _traced(provenance, "import"):
                module = source.load()
            check_contract(module)
            manager.register(module, name=name)
            _check_spelling(manager, module)
            registered = _collect(manager, module, provenance, tables)
            rows.append(dataclasses.replace(row, registered=registered))
            if any(hasattr(module, hook) for hook in hookspecs.LATER):
                listeners.append(Listener(module, provenance))
        except Exception as error:  # a third party's module must not end the run
            if manager.has_plugin(name):
                manager.unregister(name=name)
            first = (str(error).strip().splitlines() or [""])[0]
            text = first if isinstance(error, FaithfaceError) else f"{type(error).__name__}: {first}"
            if strict or source.named:
                raise UsageError(f"plugin {provenance} failed: {text}") from error
            rows.append(dataclasses.replace(row, status="failed", error=text))
    if allowed is not None:
        missing = allowed - {_normal(row.distribution) for row in rows}
        for name in sorted(missing):
            row = PluginRow(name, "", "", "failed", error=f"named in {ENVIRONMENT}, but not installed")
            if strict:
                raise UsageError(f'{ENVIRONMENT} names "{name}", which is not installed with an entry point "{GROUP}"')
            rows.append(row)
    return Registry(**tables, rows=tuple(rows), listeners=tuple(listeners))


@dataclass(frozen=True)
class _Source:
    """Where a plugin's module comes from.

    Attributes:
        wanted: whether it is to be loaded.
        named: whether the user named it in this command; then it must load.
    """

    provenance: Provenance
    load: Callable[[], Any]
    wanted: bool = True
    named: bool = False


def _sources(allowed: set[str] | None) -> Iterator[_Source]:
    """Yield the plugins in the order in which they are loaded.

    The core comes first, so that a third party that takes one of its names is the one refused; then distributions by
    name; then files.
    """
    for distribution, point in sorted(_entry_points(), key=lambda e: (e[0].name != CORE, e[0].name, e[1].name)):
        provenance = Provenance(distribution.name, distribution.version, point.name)
        wanted = distribution.name == CORE or allowed is None or _normal(distribution.name) in allowed
        yield _Source(provenance, point.load, wanted)
    for file in plugin_files(beside=allowed is None):
        yield _Source(Provenance(A_FILE, "", file.path.name), file.load, named=file.named)


@contextlib.contextmanager
def _traced(provenance: Provenance, what: str) -> Iterator[None]:
    """Print a line with the time that something of a plugin took, if that is asked for."""
    start = time.perf_counter()
    try:
        yield
    finally:
        if os.environ.get(TRACE):
            seconds = time.perf_counter() - start
            print(f"faithface: trace: {provenance}: {what} in {seconds:.3f} s", file=sys.stderr)


def notify(listeners: Iterable[Listener], hook: str, *arguments: Any) -> list[str]:
    """Call a hook of all plugins that have it; return one line for each that failed.

    A plugin that only listens cannot end what it listens to.
    """
    problems = []
    for listener in listeners:
        function = getattr(listener.module, hook, None)
        if function is None:
            continue
        try:
            with _traced(listener.provenance, hook):
                function(*arguments)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            problems.append(f"plugin {listener.provenance}: {hook} raised {type(error).__name__}: {first}")
    return problems


def _allowed(only: Iterable[str] | None) -> set[str] | None:
    if only is not None:
        return {_normal(name) for name in only}
    text = os.environ.get(ENVIRONMENT)
    return None if text is None else {_normal(name) for name in text.split(",") if name.strip()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip().lower())


def _entry_points() -> list[tuple[importlib.metadata.Distribution, importlib.metadata.EntryPoint]]:
    """Return (distribution, entry point) for each entry point of the group, each distribution once."""
    found: dict[tuple[str, str], tuple[importlib.metadata.Distribution, importlib.metadata.EntryPoint]] = {}
    for distribution in importlib.metadata.distributions():
        for point in distribution.entry_points:
            if point.group == GROUP:
                # The first on the path wins, as for imports: an editable checkout may shadow an installed copy.
                found.setdefault((_normal(distribution.name), point.name), (distribution, point))
    return list(found.values())


NO_ENTRY = f'depends on faithface, but has no entry point in the group "{GROUP}", so it registers nothing'


def without_entry() -> list[PluginRow]:
    """Return a row for each distribution that depends on faithface and has no entry point in the group."""
    found: dict[str, PluginRow] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.name or ""
        needs = {
            _normal(re.split(r"[^A-Za-z0-9._-]", text.strip(), maxsplit=1)[0]) for text in distribution.requires or ()
        }
        if CORE in needs and not any(point.group == GROUP for point in distribution.entry_points):
            found.setdefault(_normal(name), PluginRow(name, distribution.version, "", "no entry", error=NO_ENTRY))
    return list(found.values())


def _check_spelling(manager: pluggy.PluginManager, module: Any) -> None:
    """Refuse a plugin whose hook is misspelt: pluggy's check_pending, with the nearest hook suggested."""
    known = [*(kind.hook for kind in _KINDS.values()), *hookspecs.LATER]
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        wrong = re.search(r"unknown hook '([^']+)'", str(error))
        name = wrong.group(1) if wrong else "?"
        raise UsageError(f'unknown hook "{name}" in {module.__name__}; {nearest(name, known)}') from None
    if not manager.get_hookcallers(module):
        raise UsageError(
            f"{module.__name__} implements no hook; mark a function with @faithface.hookimpl: {', '.join(known)}"
        )


def _collect(
    manager: pluggy.PluginManager, module: Any, provenance: Provenance, tables: dict[str, dict[str, Registered[Any]]]
) -> dict[str, list[str]]:
    """Call the hooks of one plugin and register what they return: everything or nothing."""
    new: dict[str, dict[str, Registered[Any]]] = {kind: {} for kind in _KINDS}
    others = [plugin for plugin in manager.get_plugins() if plugin is not module]
    for kind, spec in _KINDS.items():
        if not hasattr(module, spec.hook):
            continue
        with _traced(provenance, spec.hook):
            answers = manager.subset_hook_caller(spec.hook, others)()
        for returned in answers:
            if isinstance(returned, (spec.type, type, str)) or not isinstance(returned, Iterable | None):
                what = returned.__name__ if isinstance(returned, type) else type(returned).__name__
                raise UsageError(f"{spec.hook} returned a {what}; expected a list: return [{what}()]")
            for made in returned or ():
                entry = _checked(made, spec, kind, provenance)
                before = tables[kind].get(entry.name) or new[kind].get(entry.name)
                if before is not None:
                    raise UsageError(
                        f'{kind[:-1]} "{entry.name}" is provided twice: by {before.provenance} and by {provenance}; '
                        "rename one of them, or uninstall one"
                    )
                new[kind][entry.name] = entry
    for kind, table in new.items():
        tables[kind].update(table)
    return {kind: sorted(table) for kind, table in new.items() if table}


def _checked(made: Any, spec: _Kind, kind: str, provenance: Provenance) -> Registered[Any]:
    if isinstance(made, type):
        raise UsageError(f"{spec.hook} returned the class {made.__name__}; return an instance: {made.__name__}()")
    if not isinstance(made, spec.type):
        raise UsageError(f"{spec.hook} returned a {type(made).__name__}; expected a {spec.type.__name__}")
    name = spec.name(made)
    if not re.fullmatch(spec.pattern, name):
        shape = (
            "lower-case name@version, such as deletion@1" if kind == "metrics" else "a lower-case name such as grad-cam"
        )
        raise UsageError(f"{spec.hook} returned a {kind[:-1]} named '{name}'; expected {shape}")
    if isinstance(made, Fill):
        _check_fill(made, provenance)
    return Registered(name, made, provenance)


def _check_fill(fill: Fill, provenance: Provenance) -> None:
    """Refuse a fill whose name means something else, or that records could not name."""
    if fill.name in RESERVED:
        raise UsageError(f'fill "{fill.name}" of {provenance} has the name of a builtin fill; give it another one')
    cls = type(fill).__name__
    try:
        default = type(fill)()
    except TypeError as error:
        raise UsageError(f'fill "{fill.name}": {error}; give each parameter of {cls} a default') from None
    if default != fill:
        raise UsageError(
            f'fill "{fill.name}" is registered with parameters that are not the defaults of {cls}; records name a fill '
            f"by what differs from the defaults: return {cls}(), or write a subclass with other defaults"
        )
