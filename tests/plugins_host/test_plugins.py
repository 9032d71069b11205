"""The plugin host on real fake distributions: files on disk with metadata and entry points, found as pip's are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from faithface.errors import UsageError
from faithface.hashing import fingerprint_of
from faithface.plugins import CORE, ENVIRONMENT, load_registry, without_entry

HEAD = '''
import faithface
import torch
from dataclasses import dataclass

@dataclass(frozen=True)
class Flat(faithface.Explainer):
    """A constant map."""
    level: float = 1.0
    kind: str = "plain"
    method = faithface.Method(name="{name}")

    def explain(self, model, samples):
        shape = (len(samples), *model.size)
        return faithface.Maps(relevance=torch.full(shape, self.level))
'''

WORKING = (
    HEAD
    + """
@faithface.hookimpl
def faithface_explainers():
    return [Flat()]
"""
)

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution: a module and its .dist-info in a folder on sys.path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    modules: list[str] = []

    def put(distribution: str, module: str, code: str, version: str = "1.2.3") -> None:
        (site / f"{module}.py").write_text(code)
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[faithface]\nmain = {module}\n")
        modules.append(module)

    yield put
    for module in modules:
        sys.modules.pop(module, None)


def row_of(registry, distribution: str):
    return next(row for row in registry.rows if row.distribution == distribution)


def test_a_working_plugin_is_found_with_its_provenance(install: Install) -> None:
    install("lab-a", "lab_a_plugin", WORKING.replace("{name}", "lab-flat"))
    registry = load_registry()
    assert row_of(registry, "lab-a").status == "ok"
    assert row_of(registry, "lab-a").registered == {"explainers": ["lab-flat"]}
    entry = registry.explainers["lab-flat"]
    assert (entry.provenance.distribution, entry.provenance.version, entry.provenance.entry_point) == (
        "lab-a",
        "1.2.3",
        "main",
    )
    assert len(fingerprint_of(entry.object, entry.provenance.distribution)) == 64
    assert str(entry.provenance) == "lab-a 1.2.3 (main)"


def test_an_import_error_is_one_row_and_the_rest_goes_on(install: Install) -> None:
    install("lab-broken", "lab_broken", "import a_module_that_is_not_there\n")
    install("lab-a", "lab_a_plugin", WORKING.replace("{name}", "lab-flat"))
    registry = load_registry()
    broken = row_of(registry, "lab-broken")
    assert broken.status == "failed"
    assert "a_module_that_is_not_there" in broken.error
    assert "\n" not in broken.error
    assert "lab-flat" in registry.explainers
    with pytest.raises(UsageError, match=r"lab-broken 1\.2\.3 \(main\) failed"):
        load_registry(strict=True)


def test_a_hook_that_raises_registers_nothing(install: Install) -> None:
    code = WORKING.replace("{name}", "lab-flat") + (
        "\n@faithface.hookimpl\ndef faithface_metrics():\n    raise OSError('no disk')\n"
    )
    install("lab-raise", "lab_raise", code)
    registry = load_registry()
    assert row_of(registry, "lab-raise").status == "failed"
    assert "OSError: no disk" in row_of(registry, "lab-raise").error
    assert "lab-flat" not in registry.explainers


def test_a_duplicate_name_names_both_providers(install: Install) -> None:
    install("lab-a", "lab_a_plugin", WORKING.replace("{name}", "same-name"))
    install("lab-b", "lab_b_plugin", WORKING.replace("{name}", "same-name"), version="9.0")
    registry = load_registry()
    error = row_of(registry, "lab-b").error
    assert "same-name" in error
    assert "lab-a 1.2.3 (main)" in error
    assert "lab-b 9.0 (main)" in error
    assert registry.explainers["same-name"].provenance.distribution == "lab-a"


def test_a_third_party_cannot_take_a_name_of_the_core(install: Install) -> None:
    core = next(iter(load_registry(only=[]).explainers))
    install("aaa-first", "aaa_plugin", WORKING.replace("{name}", core))
    registry = load_registry()
    assert registry.explainers[core].provenance.distribution == CORE
    assert "provided twice" in row_of(registry, "aaa-first").error


def test_a_misspelt_hook_is_an_error_with_the_nearest(install: Install) -> None:
    install(
        "lab-typo",
        "lab_typo",
        WORKING.replace("{name}", "lab-flat").replace("def faithface_explainers", "def faithface_explainer"),
    )
    error = row_of(load_registry(), "lab-typo").error
    assert "faithface_explainer" in error
    assert "faithface_explainers" in error


def test_a_misspelt_hook_does_not_poison_the_next_plugin(install: Install) -> None:
    install(
        "aa-typo",
        "aa_typo",
        WORKING.replace("{name}", "x-flat").replace("def faithface_explainers", "def faithface_xplainers"),
    )
    install("lab-a", "lab_a_plugin", WORKING.replace("{name}", "lab-flat"))
    assert row_of(load_registry(), "lab-a").status == "ok"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import faithface\n", "implements no hook"),
        (
            HEAD.replace("{name}", "n") + "\n@faithface.hookimpl\ndef faithface_explainers():\n    return [Flat]\n",
            "return an instance",
        ),
        (
            HEAD.replace("{name}", "n") + "\n@faithface.hookimpl\ndef faithface_metrics():\n    return [Flat()]\n",
            "expected a Metric",
        ),
        (WORKING.replace("{name}", "Not Lower"), "lower-case"),
    ],
)
def test_wrong_returns_are_named(install: Install, code: str, words: str) -> None:
    install("lab-odd", "lab_odd", code)
    row = row_of(load_registry(), "lab-odd")
    assert row.status == "failed"
    assert words in row.error


def test_the_environment_limits_third_parties(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("lab-a", "lab_a_plugin", WORKING.replace("{name}", "lab-flat"))
    install("lab.B", "lab_b_plugin", WORKING.replace("{name}", "other-flat"))
    monkeypatch.setenv(ENVIRONMENT, "lab-b")
    registry = load_registry()
    assert "other-flat" in registry.explainers
    assert "lab-flat" not in registry.explainers
    assert row_of(registry, "lab-a").status == "skipped"
    monkeypatch.setenv(ENVIRONMENT, "")
    registry = load_registry()
    assert {row.distribution for row in registry.rows if row.status == "ok"} == {CORE}
    monkeypatch.setenv(ENVIRONMENT, "lab-zz")
    assert "not installed" in row_of(load_registry(), "lab-zz").error


def test_a_skipped_plugin_is_not_imported(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("lab-a", "lab_never_imported", "raise SystemError('imported')\n")
    monkeypatch.setenv(ENVIRONMENT, "")
    load_registry()
    assert "lab_never_imported" not in sys.modules


def test_names_resolve_with_parameters_to_one_canonical_text(install: Install) -> None:
    install("lab-a", "lab_a_plugin", WORKING.replace("{name}", "lab-flat"))
    registry = load_registry()
    resolved = registry.explainer("lab-flat( kind=fancy, level=2 )")
    assert resolved.spec == "lab-flat(kind=fancy,level=2.0)"
    assert registry.explainer(resolved.spec) == resolved
    assert registry.explainer("lab-flat(level=1)").spec == "lab-flat"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lab-flt", ['did you mean "lab-flat"']),
        ("lab-flat(lvel=2)", ["lvel", "level"]),
        ("lab-flat(level=two)", ["two", "a number"]),
        ("lab-flat(level=2", ["parenthesis"]),
        ("lab-flat:thing", ["takes no argument"]),
        ("lab-flat(level=1,level=2)", ["twice"]),
    ],
)
def test_a_wrong_name_or_parameter_says_what_was_meant(install: Install, text: str, words: list[str]) -> None:
    install("lab-a", "lab_a_plugin", WORKING.replace("{name}", "lab-flat"))
    with pytest.raises(UsageError) as caught:
        load_registry().explainer(text)
    for word in words:
        assert word in str(caught.value)


def test_a_metric_without_its_version_is_refused_with_the_id() -> None:
    with pytest.raises(UsageError, match=r"entropy@1"):
        load_registry(only=[]).metric("entropy")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("Flat()", "faithface_explainers returned a Flat; expected a list: return [Flat()]"),
        ("Flat", "faithface_explainers returned a Flat; expected a list: return [Flat()]"),
        ("3", "faithface_explainers returned a int; expected a list"),
        ("[Flat]", "returned the class Flat; return an instance: Flat()"),
    ],
)
def test_a_hook_without_a_list_is_told_what_to_return(install: Install, returned: str, said: str) -> None:
    install("lab-a", "lab_a_plugin", WORKING.replace("{name}", "lab-flat").replace("[Flat()]", returned))
    row = row_of(load_registry(), "lab-a")
    assert row.status == "failed"
    assert said in row.error


def test_unknown_needs_name_the_nearest(install: Install) -> None:
    code = WORKING.replace('name="{name}"', 'name="lab-flat", needs=frozenset({"gradient"})')
    install("lab-a", "lab_a_plugin", code)
    assert 'unknown needs "gradient"; did you mean "gradients"?' in row_of(load_registry(), "lab-a").error


def test_a_distribution_without_an_entry_point_is_named_where_its_explainer_is_missed(
    install: Install, tmp_path: Path
) -> None:
    install("lab-a", "lab_a_plugin", WORKING.replace("{name}", "lab-flat"))
    info = next((tmp_path / "site").glob("lab_a-*.dist-info"))
    (info / "entry_points.txt").write_text("[console_scripts]\nlab = lab_a_plugin:main\n")
    with (info / "METADATA").open("a") as file:
        file.write("Requires-Dist: faithface>=0.1\nRequires-Dist: numpy\n")
    assert [row.distribution for row in without_entry()] == ["lab-a"]
    with pytest.raises(
        UsageError, match=r'no explainer "lab-flat".*lab-a: depends on faithface, but has no entry point'
    ):
        load_registry().explainer("lab-flat")
