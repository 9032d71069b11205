"""The walls of the house: who may import whom, and that every hook is documented."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from faithface import hookspecs

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "benchmark" / "faithface"

# Lower layers first; a module may import its own layer and the ones before it.
LAYERS = [
    ["errors", "seeds", "limits"],
    ["files"],
    ["card", "specs", "image_checks", "images", "npz", "tables", "toml_files"],
    ["tasks"],
    ["contract"],
    ["loading", "model"],
    ["hookspecs"],
    ["plugins"],
    ["perturb"],
    ["metrics"],
    ["run", "boards", "figures", "bench", "suites", "guarded"],
    ["api", "testing"],
    ["cli"],
]
ORDER = {name: i for i, layer in enumerate(LAYERS) for name in layer}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            if node.module == "faithface":
                found |= {f"faithface.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda p: str(p.relative_to(CORE)))
def test_the_core_never_imports_the_plugins_in_the_box(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.split(".")[0] == "faithface_plugins"]


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda p: str(p.relative_to(CORE)))
def test_dependencies_point_one_way(path: Path) -> None:
    parts = path.relative_to(CORE).with_suffix("").parts
    here = "cli" if parts[0].startswith("cli") else parts[0]
    if here in ("__init__", "__main__"):
        return
    assert here in ORDER, f"{path.name}: give its layer a place in LAYERS"
    for name in imports_of(path):
        pieces = name.split(".")
        if pieces[0] == "faithface" and len(pieces) > 1 and pieces[1] in ORDER:
            assert ORDER[pieces[1]] <= ORDER[here], f"{here} imports {name}, which stands above it"


def hooks() -> list[str]:
    return [name for name, member in vars(hookspecs).items() if name.startswith("faithface_") and callable(member)]


@pytest.mark.parametrize("hook", hooks())
def test_every_hook_has_an_example_and_a_place_in_the_docs(hook: str) -> None:
    doc = inspect.getdoc(getattr(hookspecs, hook)) or ""
    assert "Example::" in doc
    assert hook in doc.split("Example::")[1]
    pages = "\n".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    assert f"`{hook}`" in pages, f"docs/ has no word on the hook {hook}"


def test_every_hook_is_implemented_in_the_box() -> None:
    import faithface_plugins

    assert {name for name in vars(faithface_plugins) if name.startswith("faithface_")} == set(hooks())
