"""The ledger of re-derivations: which test works out each builtin metric's value again, slowly, from its page.

The tests named here compare a metric with code of their own. ``tests/docs/test_from_the_pages.py`` reads every metric
a second time on the example of the pages, where some values are 0 or 1 whatever the formula; the tests here use
networks and maps on which values differ.

Excluded are metrics of other packages, such as the bridge to Quantus: they are compared with the library's own
numbers. A builtin metric is one whose class is defined in ``faithface.metrics``.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from faithface.contract import Metric
from faithface.plugins import load_registry

ROOT = Path(__file__).parents[2]
BUILTIN = "faithface.metrics"
REFERENCE = "tests.reference"

CLASS_CURVES = "tests/metrics/curves/test_curves.py::test_classifier_areas_and_gap_equal_the_slow_loop"
PAIR_CURVES = (
    "tests/metrics/curves/test_curves.py::test_pair_areas_and_gaps_equal_the_slow_loop_with_their_default_fills"
)
TOP_SHARE = "tests/metrics/test_masking.py::test_drops_and_flips_of_mask_and_control_equal_the_slow_version"
DIMMED = "tests/metrics/test_masking.py::test_average_drop_and_increase_equal_the_slow_version"
TRUTH = "tests/metrics/test_localisation.py::test_each_equals_its_slow_version"
CONTRIBUTIONS = "tests/metrics/test_contributions.py::test_both_equal_the_slow_version"

REDERIVED = {
    "gap@1": CLASS_CURVES,
    "insertion@1": CLASS_CURVES,
    "deletion@1": CLASS_CURVES,
    "gap-similarity@1": PAIR_CURVES,
    "insertion-similarity@1": PAIR_CURVES,
    "deletion-similarity@1": PAIR_CURVES,
    "gap-similarity-score@1": PAIR_CURVES,
    "insertion-similarity-score@1": PAIR_CURVES,
    "deletion-similarity-score@1": PAIR_CURVES,
    "gap-dissimilarity@1": PAIR_CURVES,
    "insertion-dissimilarity@1": PAIR_CURVES,
    "deletion-dissimilarity@1": PAIR_CURVES,
    "gap-dissimilarity-score@1": PAIR_CURVES,
    "insertion-dissimilarity-score@1": PAIR_CURVES,
    "deletion-dissimilarity-score@1": PAIR_CURVES,
    "confidence-drop@1": TOP_SHARE,
    "retention@1": TOP_SHARE,
    "average-drop@1": DIMMED,
    "average-increase@1": DIMMED,
    "road@1": "tests/metrics/test_masking.py::test_road_equals_the_slow_version",
    "entropy@1": "tests/metrics/test_concentration.py::test_entropy_equals_its_slow_version",
    "histogram-entropy@1": (
        "tests/metrics/test_concentration.py::test_histogram_entropy_equals_its_slow_version_on_eight_bit_maps"
    ),
    "sparseness@1": (
        "tests/metrics/test_concentration.py::test_sparseness_equals_the_gini_index_over_all_pairs_of_pixels"
    ),
    "pointing-game@1": TRUTH,
    "relevance-mass@1": TRUTH,
    "relevance-rank@1": TRUTH,
    "localisation-auc@1": TRUTH,
    "contribution-correlation@1": CONTRIBUTIONS,
    "contribution-error@1": CONTRIBUTIONS,
    "noise-stability@1": "tests/metrics/test_noise_stability.py::test_it_equals_the_slow_version_sample_by_sample",
    "out-of-set-shift@1": (
        "tests/metrics/test_out_of_set_shift.py::test_it_equals_the_slow_version_pair_of_samples_by_pair"
    ),
    "geometry@1": "tests/metrics/test_geometry.py::test_it_equals_the_slow_version_sample_by_sample",
    "training-stability@1": (
        "tests/metrics/test_training_stability.py::test_it_equals_the_slow_version_over_all_pairs_of_runs"
    ),
    "degradation@1": "tests/metrics/test_degradation.py::test_it_equals_the_slow_version_sample_by_sample",
    "max-sensitivity@1": "tests/metrics/test_max_sensitivity.py::test_it_equals_the_slow_version_sample_by_sample",
    "randomisation@1": (
        "tests/metrics/test_randomisation.py::test_on_a_classifier_it_equals_torchs_network_randomised_by_hand"
    ),
    "patch-replacement@1": "tests/metrics/test_patch_replacement.py::test_it_equals_the_slow_version_pair_by_pair",
    "inpainting-game@1": "tests/metrics/test_inpainting_game.py::test_it_equals_the_slow_version_triplet_by_triplet",
    "region-shapley@1": (
        "tests/metrics/test_region_shapley.py::test_pairs_are_judged_by_the_average_over_all_orders_and_strangers"
    ),
    "gap-specific@1": "tests/metrics/test_gap_specific.py::test_it_equals_the_slow_version",
    "optimum-share@1": "tests/metrics/test_optimum_share.py::test_it_is_the_gap_over_the_best_of_all_24_orders",
    "part-swap@1": "tests/metrics/test_part_swap.py::test_it_equals_the_slow_version_pair_by_pair",
    "disconnected@1": "tests/metrics/gates/test_gates.py::test_disconnected_equals_gradients_of_networks_cut_by_hand",
    "randomised-network@1": (
        "tests/metrics/gates/test_gates.py::test_randomised_network_equals_torchs_network_randomised_by_hand"
    ),
    "own-class@1": (
        "tests/metrics/gates/test_gates.py::test_own_class_is_the_rank_correlation_with_the_other_class_s_map"
    ),
    "completeness@1": "tests/metrics/gates/test_gates.py::test_completeness_is_the_error_of_the_sum_over_the_rise",
    "cost@1": "tests/metrics/test_cost.py::test_it_is_what_the_batch_took_over_its_number_of_samples",
}


# --- reading the tests' source


@dataclass(frozen=True)
class Module:
    """A parsed file: what its own statements define by name, and from where it imports names."""

    defined: dict[str, ast.stmt]
    imported: dict[str, str]  # the name in this file -> the dotted name it stands for


@cache
def module(path: Path) -> Module:
    defined: dict[str, ast.stmt] = {}
    imported: dict[str, str] = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined |= {t.id: node for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined[node.target.id] = node
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imported |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            imported |= {a.asname or a.name: a.name for a in node.names}
    return Module(defined, imported)


def words(node: ast.AST) -> set[str]:
    """Names, attributes and whole string constants: a docstring or comment that mentions a metric does not count."""
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Name):
            found.add(one.id)
        elif isinstance(one, ast.Attribute):
            found.add(one.attr)
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            found.add(one.value)
    return found


def reached(file: Module, start: str) -> dict[str, ast.stmt]:
    """What of a file a function uses, through any number of names, itself included."""
    found: dict[str, ast.stmt] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in file.defined and name not in found:
            found[name] = file.defined[name]
            waiting += words(file.defined[name])
    return found


def slow_code(file: Module, uses: dict[str, ast.stmt]) -> set[str]:
    """Functions of ``tests.reference`` and functions ``slow_…`` of the file itself, among what a test uses."""
    said = set().union(*map(words, uses.values()))
    theirs = {target for name, target in file.imported.items() if name in said and target.startswith(REFERENCE)}
    own = {name for name, node in uses.items() if name.startswith("slow_") and isinstance(node, ast.FunctionDef)}
    return theirs | own


def asks_a_metric(uses: dict[str, ast.stmt]) -> bool:
    """Whether something calls ``….score(…)`` or ``….score_family(…)``, or a helper of ``made`` that does."""
    calls = [n.func for node in uses.values() for n in ast.walk(node) if isinstance(n, ast.Call)]
    return any(
        c.attr in ("score", "score_family") if isinstance(c, ast.Attribute) else words(c) & {"value_of", "score_map"}
        for c in calls
    )


def asserts(node: ast.stmt) -> bool:
    return any(isinstance(n, ast.Assert) for n in ast.walk(node)) or bool(
        words(node) & {"assert_allclose", "assert_array_equal"}
    )


# --- the ledger


@pytest.fixture(scope="module")
def builtin() -> dict[str, Metric]:
    """All registered metrics whose class is defined in the package of builtin ones."""
    found = {name: entry.object for name, entry in load_registry(only=[]).metrics.items()}
    return {name: m for name, m in found.items() if f"{type(m).__module__}.".startswith(f"{BUILTIN}.")}


def test_the_ledger_names_exactly_the_builtin_metrics(builtin: dict[str, Metric]) -> None:
    assert sorted(REDERIVED) == sorted(builtin)


@pytest.mark.parametrize("name", REDERIVED)
def test_its_test_exists_and_holds_the_metric_against_slow_code(name: str, builtin: dict[str, Metric]) -> None:
    path, _, function = REDERIVED[name].partition("::")
    file = module(ROOT / path)
    test = file.defined.get(function)
    assert isinstance(test, ast.FunctionDef), f"{path} has no function {function}"
    assert function.startswith("test_")
    decorators = set().union(*map(words, test.decorator_list))
    assert not decorators & {"skip", "skipif", "xfail"}
    uses = reached(file, function)
    said = set().union(*map(words, uses.values()))
    assert said & {name, type(builtin[name]).__name__}, f"{function} says neither {name} nor its class"
    assert asks_a_metric(uses), f"{function} asks no metric"
    assert asserts(test), f"{function} compares nothing"
    assert slow_code(file, uses), f"{function} has no slow code to compare with"


@pytest.mark.parametrize("path", sorted({entry.partition("::")[0] for entry in REDERIVED.values()}))
def test_slow_code_of_a_test_uses_nothing_of_the_metrics(path: str) -> None:
    file = module(ROOT / path)
    for name in [n for n in file.defined if n.startswith("slow_")]:
        for used, node in reached(file, name).items():
            taken = {file.imported[w] for w in words(node) if w in file.imported}
            assert not {t for t in taken if t.startswith(BUILTIN)}, f"{path}: {name}, by {used}"


@pytest.mark.parametrize("path", sorted((ROOT / "tests/reference").glob("*.py")), ids=lambda p: p.stem)
def test_slow_code_of_the_references_uses_the_contract_and_seeds_alone(path: Path) -> None:
    ours = {t for t in module(path).imported.values() if t.split(".")[0] in ("faithface", "faithface_plugins")}
    assert not {t for t in ours if not t.startswith(("faithface.contract.", "faithface.seeds."))}


def test_the_reading_of_the_source_is_not_satisfied_by_other_tests_and_by_text() -> None:
    file = module(ROOT / "tests/metrics/test_cost.py")
    property_test = reached(file, "test_maps_whose_making_was_not_measured_have_no_value")
    assert asks_a_metric(property_test)
    assert not slow_code(file, property_test)
    assert slow_code(file, reached(file, "test_it_is_what_the_batch_took_over_its_number_of_samples")) == {"slow_cost"}
    made = ast.parse('def f(x):\n    """About gap@1."""\n    # entropy@1\n    return score(METRICS["road@1"])').body[0]
    assert words(made) & {"gap@1", "entropy@1", "road@1"} == {"road@1"}
    assert not asks_a_metric({"f": made})
    assert not asserts(made)
