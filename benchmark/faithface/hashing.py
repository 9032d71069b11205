"""Fingerprints of code and files: they show that a number may have changed.

Place in the flow: ``run.plan`` puts a fingerprint beside every cell and ``run.driver`` compares it on resume;
``boards`` writes it into records. May call ``card``, ``contract`` and ``errors``. Reads source files and imports
nothing.

The fingerprint of an explainer, metric, dataset or fill is a hash of the modules that can change its numbers: the one
that defines its class, and what that imports, directly or not, from its own distribution or from faithface. Of each
module the syntax tree counts, without comments and docstrings. Imports inside functions count, those under
``TYPE_CHECKING`` do not. A name that is imported from a package counts as the module that defines it, not for
everything that the package's ``__init__`` collects.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Fill, Metric
from faithface.errors import UsageError

OURS = frozenset({"faithface", "faithface_plugins"})
CARD_PARTS = {"task", "input", "output", "explain"}  # of a card, what its file's own hash does not cover


def file_hash(path: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); put the file there, or correct the path") from None


def model_digest(path: Path) -> str:
    """Return the sha256 of a model: of the ``.onnx`` file and of the external data files that its tensors lie in.

    Returns:
        The plain sha256 of the file where it holds all its weights itself; else the sha256 of the list of all its
        files, each with its own sha256.

    Raises:
        UsageError: a file cannot be read, or is not there.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); put the file there, or correct the path") from None
    own = file_hash(path)
    parts = external_files(path, found.st_size, found.st_mtime_ns)
    if not parts:
        return own
    return _digest(json.dumps([["", own], *([name, file_hash(path.parent / name)] for name in parts)]))


@functools.lru_cache(maxsize=64)
def external_files(path: Path, size: int, modified: int) -> tuple[str, ...]:
    """Return the external data files of an ONNX file, relative to it, sorted; () for a file that is no ONNX file.

    Args:
        size, modified: of the file, so that another content under the same path is read again.
    """
    content = path.read_bytes()
    if b"location" not in content:  # the key under which an external tensor names its file
        return ()
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        return ()  # opening the model reports it
    tensors = list(_tensors(model.graph))
    for function in model.functions:
        for node in function.node:
            tensors += _tensors_of(node)
    external = [t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL]
    return tuple(sorted({entry.value for t in external for entry in t.external_data if entry.key == "location"}))


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every tensor of an ONNX graph, those in attributes and inner graphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of(node)


def _tensors_of(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)


def fingerprint_of(thing: Any, distribution: str = "") -> str:
    """Return the fingerprint of a registered object, 64 hex digits.

    Args:
        thing: an explainer, metric, dataset or fill: its class counts, and those of the explainers, metrics, datasets
            and fills among its attributes; a model card: how the network is fed and read counts; or a suite's path:
            its content counts.
        distribution: the package that provided it, whose other modules count too.

    Returns:
        "" for a class whose source cannot be found (typed at a prompt).
    """
    if isinstance(thing, ModelCard):
        return _digest(thing.model_dump_json(include=CARD_PARTS))
    if isinstance(thing, Path):
        return file_hash(thing)
    own = class_fingerprint(type(thing), distribution)
    inner = [fingerprint_of(part, distribution) for part in _parts(thing)]
    return _digest(json.dumps([own, *inner])) if inner else own


def _parts(thing: Any) -> Iterator[Any]:
    """Yield the explainers, metrics, datasets and fills that an object holds."""
    for value in getattr(thing, "__dict__", {}).values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, Explainer | Metric | Dataset | Fill):
                yield one


def class_fingerprint(cls: type, distribution: str = "") -> str:
    """Return the fingerprint of a class; see :func:`fingerprint_of`."""
    top = cls.__module__.partition(".")[0]
    if found := _fingerprint(OURS | {top} | _packages(distribution), cls.__module__):
        return found
    try:
        return _digest(_meaning(ast.parse(textwrap.dedent(inspect.getsource(cls)))))
    except (OSError, TypeError, SyntaxError):
        return ""


def modules_fingerprint(*names: str) -> str:
    """Return the fingerprint of modules of faithface and of what they import."""
    return _fingerprint(OURS, *names)


@functools.cache
def _fingerprint(packages: frozenset[str], *names: str) -> str:
    """Return the fingerprint of modules of some packages; "" if one of them is not there."""
    tree = installed(packages)
    return tree.fingerprint(*names) if all(tree.module(name) for name in names) else ""


@functools.cache
def _packages(distribution: str) -> frozenset[str]:
    """Return the top-level packages of an installed distribution, as far as it lists its files."""
    try:
        files = importlib.metadata.files(distribution) if distribution else None
    except importlib.metadata.PackageNotFoundError:
        files = None
    tops = {file.parts[0].removesuffix(".py") for file in files or () if file.suffix == ".py"}
    return frozenset(top for top in tops if top.isidentifier())


@functools.cache
def installed(packages: frozenset[str]) -> Tree:
    """Return the source of packages as they are installed; those that cannot be found are omitted."""
    return Tree({name: place for name in packages if (place := _place(name)) is not None})


def _place(top: str) -> Path | None:
    """Return the folder of a top-level package, or the file of a module, without importing it."""
    loaded = sys.modules.get(top)
    if loaded is not None:
        paths = list(getattr(loaded, "__path__", ()))
        file = getattr(loaded, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        paths = list(spec.submodule_search_locations or ()) if spec else []
        file = spec.origin if spec else None
    if paths:
        return Path(paths[0])
    return Path(file) if file and Path(file).suffix == ".py" else None


# --- source


@dataclass(frozen=True)
class Module:
    """What the source of a module shows.

    Attributes:
        package: whether it is a package's ``__init__``.
        meaning: hash of its syntax tree, without comments and docstrings.
        bound: by local name, what an import binds there: a module and a name in it, or a module and None.
        typed: the same for what it imports under ``TYPE_CHECKING`` only; of a package these may be names that it loads
            on first use.
        stars: modules of which it imports everything.
        used: the dotted names that it uses, such as ``("faithface", "contract", "Maps")``.
    """

    name: str
    package: bool
    meaning: str
    bound: Mapping[str, tuple[str, str | None]]
    typed: Mapping[str, tuple[str, str | None]]
    plain: tuple[str, ...]
    stars: tuple[str, ...]
    used: frozenset[tuple[str, ...]]


class Tree:
    """The source of some top-level packages: who imports what, each file read once.

    Args:
        places: by package name, its folder; or by module name, its file.
    """

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = dict(places)
        self._modules: dict[str, Module | None] = {}

    def fingerprint(self, *names: str) -> str:
        """Return the hash of modules and of all that they import within the tree."""
        closure = [self.module(name) for name in sorted(self.closure(*names))]
        return _digest(json.dumps([[one.name, one.meaning] for one in closure if one is not None]))

    def closure(self, *names: str) -> frozenset[str]:
        """Return the modules of the tree that some modules import, directly or not, and these themselves."""
        found: set[str] = set()
        todo = [name for name in names if self.module(name) is not None]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo.extend(self.imports(name) - found)
        return frozenset(found)

    def imports(self, name: str) -> frozenset[str]:
        """Return the modules of the tree that a module imports itself, packages resolved to what is used of them."""
        module = self.module(name)
        if module is None:
            return frozenset()
        found: set[str] = set()
        for local, (source, attribute) in module.bound.items():
            # What is bound may be a package, of which only what is used of it counts.
            place = f"{source}.{attribute}" if attribute and self.module(f"{source}.{attribute}") else ""
            if attribute is None or (place and self._exported(source, attribute) is None):
                found |= self._used(module, local, place or source)
            else:
                found |= self._defining(source, attribute)
        for path in module.plain:
            # "import a.b.c" binds a; a module that it names counts even where nothing of it is used.
            target, top = self.module(path), path.partition(".")[0]
            used = any(chain[0] == top for chain in module.used)
            found |= self._used(module, top, top) if target is not None and used else set()
            if target is not None and not (target.package and used):
                found.add(path)
        found.update(star for star in module.stars if self.module(star))
        return frozenset(found - {name})

    def module(self, name: str) -> Module | None:
        """Return a module by its dotted name; None if it is not in the tree."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> Module | None:
        top, *rest = name.split(".")
        place = self._places.get(top)
        if place is None:
            return None
        if place.suffix == ".py":
            return _module(name, place, False) if not rest else None
        folder = place.joinpath(*rest)
        if (folder / "__init__.py").is_file():
            return _module(name, folder / "__init__.py", True)
        file = folder.with_suffix(".py") if rest and "." not in rest[-1] else None
        return _module(name, file, False) if file is not None and file.is_file() else None

    def _used(self, module: Module, local: str, path: str) -> set[str]:
        """Return the modules behind what ``module`` uses of the module or package that it knows as ``local``."""
        chains = [chain for chain in module.used if chain[0] == local] or [(local,)]
        found: set[str] = set()
        for chain in chains:
            at, rest = path, list(chain[1:])
            while rest and self.module(f"{at}.{rest[0]}") and self._exported(at, rest[0]) is None:
                at = f"{at}.{rest.pop(0)}"
            found |= self._defining(at, rest[0]) if rest else {at} if self.module(at) else set()
        return found

    def _exported(self, package: str, name: str) -> tuple[str, str | None] | None:
        """Return what the ``__init__`` of a package imports under a name, unless it is its submodule of that name."""
        module = self.module(package)
        if module is None:
            return None
        bound = module.bound.get(name) or (module.typed.get(name) if module.package else None)
        return None if bound in ((package, name), (f"{package}.{name}", None)) else bound

    def _defining(self, source: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> set[str]:
        """Return the modules that ``from source import name`` needs: the one that defines the name."""
        module = self.module(source)
        if module is None or (source, name) in seen:
            return {f"{source}.{name}"} if self.module(f"{source}.{name}") else set()
        bound = self._exported(source, name)
        if module.package and bound is not None:
            onward, attribute = bound
            if self.module(onward) is not None:
                return {onward} if attribute is None else self._defining(onward, attribute, seen | {(source, name)})
        if module.package and self.module(f"{source}.{name}") is not None:
            return {f"{source}.{name}"}
        return {source}


def _module(name: str, path: Path, package: bool) -> Module:
    tree = ast.parse(path.read_bytes(), str(path))
    reader = _Reader(name if package else name.rpartition(".")[0])
    reader.visit(tree)
    return Module(
        name, package, _digest(_meaning(tree)), reader.bound, reader.typed, tuple(reader.plain), tuple(reader.stars),
        frozenset(reader.used),
    )  # fmt: skip


class _Reader(ast.NodeVisitor):
    """Collects what a module imports and which dotted names it uses, outside ``if TYPE_CHECKING``."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.bound: dict[str, tuple[str, str | None]] = {}
        self.typed: dict[str, tuple[str, str | None]] = {}
        self.plain: list[str] = []
        self.stars: list[str] = []
        self.used: set[tuple[str, ...]] = set()

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            # Nothing is imported here, but a package that loads its names on first use declares here where they are
            # defined.
            typed = _Reader(self.package)
            for child in node.body:
                typed.visit(child)
            self.typed.update(typed.bound)
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.asname:
                self.bound[alias.asname] = (alias.name, None)
            else:
                self.plain.append(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        source = node.module or ""
        if node.level:
            parts = self.package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1])
            source = f"{base}.{source}" if source else base
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(source)
            else:
                self.bound[alias.asname or alias.name] = (source, alias.name)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts: list[str] = []
        at: ast.expr = node
        while isinstance(at, ast.Attribute):
            parts.append(at.attr)
            at = at.value
        if isinstance(at, ast.Name):
            self.used.add((at.id, *reversed(parts)))
        else:
            self.visit(at)

    def visit_Name(self, node: ast.Name) -> None:
        self.used.add((node.id,))


class _Meaning(ast.NodeTransformer):
    """Drops docstrings, and other strings that are statements of their own."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return node


def _meaning(tree: ast.AST) -> str:
    """Return the source of a syntax tree in one spelling, without comments and docstrings. The tree is altered."""
    for node in ast.walk(_Meaning().visit(tree)):
        if (
            isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.If | ast.With)
            and not node.body
        ):
            node.body = [ast.Pass()]
    return ast.unparse(tree)


def _digest(text: str | Iterable[str]) -> str:
    return hashlib.sha256("\n".join([text] if isinstance(text, str) else text).encode()).hexdigest()
