"""Suite files: what they say, and each mistake as one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from faithface.errors import UsageError
from faithface.run.request import from_suite
from faithface.run.suite import load_suite

GOOD = """
[suite]
name = "demo"
version = 2
description = "words"
seed = 5
limit = 10
models = ["a"]
datasets = ["b", "c(n=2)"]
explainers = ["random"]
metrics = ["entropy@1"]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "demo.toml"
    path.write_text(text)
    return path


def test_a_suite_becomes_the_request_that_its_names_would_make_when_typed(tmp_path: Path) -> None:
    request = from_suite(load_suite(write(tmp_path, GOOD)), limit=None, seed=7, device="cpu")
    assert (request.suite, request.seed, request.limit) == (("demo", 2), 7, 10)
    assert (request.models, request.datasets) == (("a",), ("b", "c(n=2)"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed = 5", "sed = 5", r"unknown key 'sed' in \[suite\]; did you mean \"seed\"\?"),
        ("[suite]", "[suit]", "unknown section or key 'suit'"),
        ('explainers = ["random"]', "explainers = []", "suite.explainers"),
        ("version = 2", 'version = "two"', "suite.version"),
        ('name = "demo"', "", "suite.name: Field required"),
        ('name = "demo"', 'name = "My Demo"', "suite.name"),
        ("limit = 10", "limit = 0", "suite.limit"),
        ("[suite]", "[suite", "not a TOML file"),
    ],
)
def test_a_mistake_in_a_suite_is_one_line_that_names_the_file_and_the_key(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        load_suite(write(tmp_path, GOOD.replace(old, new)))
    assert "demo.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_suite_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such suite file"):
        load_suite(tmp_path / "none.toml")


def test_the_builtin_suites_can_be_planned() -> None:
    import faithface.suites
    from faithface.plugins import load_registry
    from faithface.run.plan import make_plan

    registry = load_registry()
    for path in sorted(Path(faithface.suites.__file__).parent.glob("*.toml")):
        suite = load_suite(path)
        assert suite.name == path.stem
        # What a suite leaves to the user is filled here with what is built in.
        ours = {} if suite.models else {"models": ("planted-mobile-0",), "datasets": ("planted-verification",)}
        assert make_plan(from_suite(suite, **ours), registry).cells


PUBLISHED = """
[[suite.published]]
explainer = "FGGB"
protocol = "deletion-similarity@1"
value = 0.25
source = "a paper"
"""


def test_published_figures_go_with_the_request(tmp_path: Path) -> None:
    request = from_suite(load_suite(write(tmp_path, GOOD + PUBLISHED)))
    assert [(entry.explainer, entry.value) for entry in request.published] == [("FGGB", 0.25)]
    with pytest.raises(UsageError, match=r"suite\.published\.0\.valu"):
        load_suite(write(tmp_path, GOOD + PUBLISHED.replace("value =", "valu =")))


def test_the_layers_of_the_suite_of_layers_are_those_of_its_network() -> None:
    """An unknown name fails only after the run has begun, so that a suite may be wrong for long."""
    import onnx

    root = Path(__file__).resolve().parents[2]
    network = onnx.load(root / "plugins" / "resnet29" / "faithface_resnet29" / "resnet29-dlib.onnx")
    graph = onnx.shape_inference.infer_shapes(network).graph
    sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][2:] for v in graph.value_info}
    suite = load_suite(root / "benchmark" / "faithface" / "suites" / "cam-layers.toml")
    asked = [one.partition("layer=")[2].rstrip(")") for one in suite.explainers if "layer=" in one]
    assert [sizes[layer][0] for layer in asked] == 2 * [17, 8, 4, 2]
    last = [max((v for v in sizes if sizes[v][:1] == [n]), key=lambda v: int(v[1:])) for n in (17, 8, 4, 2)]
    assert asked == 2 * last
