"""Fingerprints: what can move a number changes them, and nothing else does."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import faithface
from faithface.card import ModelCard
from faithface.errors import UsageError
from faithface.hashing import OURS, Tree, class_fingerprint, fingerprint_of, installed
from faithface.plugins import Registry, load_registry
from tests.support.networks import tiny

CURVES = re.compile(r"(gap|deletion|insertion)(-.*)?@1")
ALSO_ENGINE = {"inpainting-game@1", "optimum-share@1", "patch-replacement@1", "region-shapley@1", "road@1"}


@pytest.fixture(scope="module")
def builtin() -> Registry:
    return load_registry(only=[])


def copied(tmp_path: Path) -> dict[str, Path]:
    """Copy the core and the builtin plugins; return the places of the copies."""
    import faithface_plugins

    places = {}
    for package in (faithface, faithface_plugins):
        places[package.__name__] = tmp_path / package.__name__
        only = shutil.ignore_patterns("__pycache__", "*.onnx", "*.npz", "*.png", "*.bin")
        shutil.copytree(Path(str(package.__file__)).parent, places[package.__name__], ignore=only)
    return places


def modules(registry: Registry) -> dict[str, str]:
    """The module of each builtin metric and explainer, by name."""
    both = {**registry.metrics, **registry.explainers}
    return {name: type(entry.object).__module__ for name, entry in both.items()}


def all_of(tree: Tree, names: dict[str, str]) -> dict[str, str]:
    by_module = {module: tree.fingerprint(module) for module in set(names.values())}
    return {name: by_module[module] for name, module in names.items()}


def test_an_edit_of_the_engine_changes_every_curve_metric_and_nothing_that_does_not_use_it(
    builtin: Registry, tmp_path: Path
) -> None:
    places, names = copied(tmp_path), modules(builtin)
    before = all_of(Tree(places), names)
    assert before == all_of(installed(OURS), names)
    engine = places["faithface"] / "perturb" / "engine.py"
    engine.write_text(engine.read_text() + "\n\nEDITED = 1\n")
    after = all_of(Tree(places), names)
    changed = {name for name in names if before[name] != after[name]}
    curves = {name for name in builtin.metrics if CURVES.fullmatch(name)}
    assert len(curves) == 16  # the fifteen of the table, and gap-specific
    assert changed == curves | ALSO_ENGINE


def test_comments_docstrings_and_blank_lines_change_nothing(builtin: Registry, tmp_path: Path) -> None:
    places, names = copied(tmp_path), modules(builtin)
    before = all_of(Tree(places), names)
    for place in places.values():
        for file in place.rglob("*.py"):
            text = file.read_text().replace('"""\n', ' Reworded."""\n', 1)
            file.write_text("# A comment.\n\n\n" + text + "\n# Another.\n")
    assert all_of(Tree(places), names) == before


def write(root: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        path = root / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree({"pack": root / "pack"})


FACADE = "from pack.part.a import one\nfrom pack.part import b\nfrom .c import three as drei\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("from pack.part import one", {"part.a"}),
        ("from pack.part import drei", {"part.c"}),
        ("from pack.part import b", {"part.b"}),
        ("from .part import one", {"part.a"}),
        ("import pack.part.a", {"part.a"}),
        ("import pack.part.a as x\nx.one()", {"part.a"}),
        ("import pack\npack.part.drei()", {"part.c"}),
        ("import pack.part\npack.part.b.two()", {"part.b"}),
        ("from pack import part\npart.one()", {"part.a"}),
        ("from pack import part\nuse(part)", {"part", "part.a", "part.b", "part.c"}),
        ("def f():\n    from pack.part import one", {"part.a"}),
        ("def f():\n    import pack.part.b", {"part.b"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.part import one", set()),
        ("import typing\nif typing.TYPE_CHECKING:\n    import pack.part.a\nelse:\n    import pack.part.b", {"part.b"}),
        ("from pack.part.b import *", {"part.b"}),
        ("from elsewhere import one\nimport numpy as np", set()),
    ],
)
def test_a_name_stands_for_the_module_that_defines_it(tmp_path: Path, text: str, wanted: set[str]) -> None:
    tree = write(
        tmp_path,
        {
            "__init__.py": "from pack.part import one, drei\n",
            "part/__init__.py": FACADE,
            "part/a.py": "def one(): ...",
            "part/b.py": "def two(): ...",
            "part/c.py": "def three(): ...",
            "user.py": text,
        },
    )
    assert tree.closure("pack.user") == {"pack.user"} | {f"pack.{name}" for name in wanted}


def test_what_a_packages_own_init_defines_is_that_init(tmp_path: Path) -> None:
    files = {"__init__.py": "", "part/__init__.py": "from pack.part.a import one\nLIMIT = 3\n", "part/a.py": "one = 1"}
    tree = write(tmp_path, {**files, "user.py": "from pack.part import LIMIT"})
    assert tree.closure("pack.user") == {"pack.user", "pack.part", "pack.part.a"}


def test_modules_that_import_each_other_are_both_in(tmp_path: Path) -> None:
    tree = write(tmp_path, {"__init__.py": "", "a.py": "import pack.b", "b.py": "def f():\n    from pack.a import x"})
    assert tree.closure("pack.a") == tree.closure("pack.b") == {"pack.a", "pack.b"}


def test_an_edit_two_imports_away_is_seen(tmp_path: Path) -> None:
    files = {"__init__.py": "", "a.py": "from pack.b import f", "b.py": "from pack.c import g", "c.py": "g = 1"}
    before = write(tmp_path, files).fingerprint("pack.a")
    assert write(tmp_path, {**files, "c.py": "g = 2"}).fingerprint("pack.a") != before
    assert write(tmp_path, {**files, "c.py": '"""Text."""\n\ng = 1  # one\n'}).fingerprint("pack.a") == before


def test_an_explainer_that_wraps_another_has_a_fingerprint_of_both(builtin: Registry) -> None:
    inverted = {name: fingerprint_of(builtin.explainer(f"inverted:{name}").object) for name in ("rise", "oracle")}
    assert inverted["rise"] != inverted["oracle"]
    assert class_fingerprint(type(builtin.explainer("inverted:rise").object)) not in inverted.values()


def test_a_cards_fingerprint_is_of_what_feeds_and_reads_the_network(tmp_path: Path) -> None:
    card = tiny("cnn", "pad", tmp_path)
    same: dict[str, Any] = {"licence": "other", "source": "elsewhere", "file": "moved.onnx"}
    assert fingerprint_of(card.model_copy(update=same)) == fingerprint_of(card)
    brighter = card.input.model_copy(update={"mean": (0.1,)})
    assert fingerprint_of(card.model_copy(update={"input": brighter})) != fingerprint_of(card)
    assert isinstance(card, ModelCard)


def test_a_module_of_another_package_follows_faithface_too(tmp_path: Path) -> None:
    places = {"pack": tmp_path / "pack", "faithface": Path(str(faithface.__file__)).parent}
    write(tmp_path, {"__init__.py": "", "mine.py": "import faithface\n\nclass Mine(faithface.Metric): ..."})
    closure = Tree(places).closure("pack.mine")
    assert "faithface.contract.metric" in closure
    assert not closure & {"faithface", "faithface.perturb.engine", "faithface.run.plan"}


def test_a_class_typed_at_a_prompt_has_none() -> None:
    typed = type("Typed", (), {"__module__": "nowhere_at_all"})
    assert class_fingerprint(typed) == ""


def test_the_digest_of_a_model_covers_its_external_data_and_is_the_files_own_without_any(tmp_path: Path) -> None:
    import hashlib

    import onnx

    from faithface.hashing import model_digest

    def network(folder: Path, weight: float, nested: bool) -> Path:
        """A network whose weights lie in a file beside it: an initializer, or a constant inside a branch."""
        folder.mkdir()
        tensor = onnx.numpy_helper.from_array(np.full((4, 300), weight, np.float32), "w")
        made = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4, 300])
        if nested:
            inner = onnx.helper.make_graph(
                [onnx.helper.make_node("Constant", [], ["y"], value=tensor)], "branch", [], [made]
            )
            nodes = [onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]
            inputs = [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])]
            graph = onnx.helper.make_graph(nodes, "g", inputs, [made])
        else:
            graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["y"])], "g", [], [made], [tensor])
        path = folder / "net.onnx"
        onnx.save_model(
            onnx.helper.make_model(graph), path, save_as_external_data=True, location="net.data", size_threshold=0,
            convert_attribute=True,
        )  # fmt: skip
        return path

    for nested in (False, True):
        one, two = (network(tmp_path / f"{nested}-{w}", w, nested) for w in (1.0, 2.0))
        assert (one.parent / "net.data").is_file()
        assert one.read_bytes() == two.read_bytes()
        assert model_digest(one) != model_digest(two)
        (one.parent / "net.data").write_bytes((two.parent / "net.data").read_bytes())
        assert model_digest(one) == model_digest(two)
        (one.parent / "net.data").unlink()
        with pytest.raises(UsageError, match=r"net\.data cannot be read"):
            model_digest(one)
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(b"no model at all, at no location")
    assert model_digest(alone) == hashlib.sha256(alone.read_bytes()).hexdigest()
