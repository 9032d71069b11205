"""The walls of the house: who may import whom, and that every hook is documented."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from faithface import hookspecs

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "benchmark" / "faithface"

# Lower layers first; a module may import its own layer's other modules and the layers before it.
LAYERS = [
    ["lazy", "reasons", "seeds", "threads", "limits", "digest_cache"],
    ["errors"],
    ["files"],
    ["card", "durable", "specs", "image_checks", "images", "npz", "tables", "toml_files"],
    ["tasks"],
    ["contract"],
    ["applicability", "hashing"],
    ["model"],
    ["loading"],
    ["explaining", "preprocessing"],
    ["hookspecs"],
    ["plugin_files"],
    ["plugins"],
    ["perturb"],
    ["regions"],
    ["metrics"],
    ["run"],
    ["boards"],
    ["figures", "bench", "suites", "guarded"],
    ["answers", "audit", "gallery"],
    ["notebook", "doctor"],
    ["api", "scoring", "testing", "view"],
    ["cli"],
]
ORDER = {name: i for i, layer in enumerate(LAYERS) for name in layer}
MODULES = {
    ".".join(path.relative_to(CORE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(CORE.rglob("*.py"))
}


def imports_of(path: Path) -> set[str]:
    """Return all that a file imports: at the top, inside functions and under TYPE_CHECKING alike."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # ``from package import module`` imports the module, ``from package import name`` the package.
            modules = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= modules or {node.module}
    return found


GRAPH = {name: imports_of(path) & set(MODULES) - {name} for name, path in MODULES.items()}


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda p: str(p.relative_to(CORE)))
def test_the_core_never_imports_the_builtin_plugins(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.split(".")[0] == "faithface_plugins"]


@pytest.mark.parametrize("name", [name for name in MODULES if "." in name and name != "faithface.__main__"])
def test_dependencies_point_one_way(name: str) -> None:
    room = name.split(".")[1]
    assert room in ORDER, f"{name}: give its layer a place in LAYERS"
    for other in GRAPH[name]:
        if "." in other:
            above = other.split(".")[1]
            assert ORDER[above] <= ORDER[room], f"{name} imports {other}, which stands above it"


def test_no_module_imports_itself_by_a_detour() -> None:
    """A package's façade imports its modules; these may import each other, but not in a circle."""
    facades = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    left = {name: GRAPH[name] - facades for name in MODULES if name not in facades}
    while ends := {
        name
        for name, imported in left.items()
        if not imported & set(left) or not any(name in others for others in left.values())
    }:
        left = {name: imported for name, imported in left.items() if name not in ends}
    circles = [f"{name} -> {', '.join(sorted(imported & set(left)))}" for name, imported in sorted(left.items())]
    assert not circles, "import cycles:\n" + "\n".join(circles)


def test_modules_of_a_package_do_not_import_its_facade() -> None:
    for name, imported in GRAPH.items():
        package = name.rpartition(".")[0]
        if package.count(".") == 1 and MODULES[name].name != "__init__.py":
            assert package not in imported, f"{name} imports the façade {package}; import the module that defines it"


def hooks() -> list[str]:
    return [name for name, member in vars(hookspecs).items() if name.startswith("faithface_") and callable(member)]


@pytest.mark.parametrize("hook", hooks())
def test_every_hook_has_an_example_and_a_place_in_the_docs(hook: str) -> None:
    doc = inspect.getdoc(getattr(hookspecs, hook)) or ""
    assert "Example::" in doc
    assert hook in doc.split("Example::")[1]
    pages = "\n".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    assert f"`{hook}`" in pages, f"docs/ has no word on the hook {hook}"


def test_every_hook_has_a_builtin_implementation() -> None:
    import faithface_plugins

    # What is builtin listens to nothing and adds its commands itself; its fills are words of the protocols.
    without = {*hookspecs.LATER, "faithface_fills"}
    assert {name for name in vars(faithface_plugins) if name.startswith("faithface_")} == set(hooks()) - without


@pytest.mark.parametrize("hook", hooks())
def test_every_hook_is_used_by_a_test(hook: str) -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.resolve() != Path(__file__).resolve()]
    assert any(f"def {hook}(" in path.read_text(encoding="utf-8") for path in tests), f"no test implements {hook}"
