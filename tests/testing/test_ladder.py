"""The ladder: what each tier needs, and that it is computed from the code that is there now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faithface.cli.main import main
from faithface.hashing import fingerprint_of
from faithface.plugins import PluginRow, Provenance, Registered, load_registry
from faithface.testing import TinyDataset
from faithface.testing.ladder import Tier, examine, known_tier
from tests.plugins_host.test_plugins import row_of
from tests.testing.broken import BrokenDataset

LAB = Provenance("lab", "1.0", "main")


def registry_with(*datasets, status: str = "ok"):
    """A registry in which a distribution "lab" has brought some datasets."""
    import dataclasses

    registry = load_registry(only=[])
    row = PluginRow(
        "lab", "1.0", "main", status, {"datasets": [d.name for d in datasets]}, "" if status == "ok" else "broken"
    )
    tables = dict(registry.datasets) | {d.name: Registered(d.name, d, LAB) for d in datasets}
    return dataclasses.replace(registry, datasets=tables, rows=(*registry.rows, row))


@pytest.fixture(autouse=True)
def _metadata(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installed distribution "lab" with a description, a licence and a README."""
    info = tmp_path / "site" / "lab-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: lab\nVersion: 1.0\nSummary: a lab\nLicense-Expression: MIT\n\n# lab\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("FAITHFACE_CACHE", str(tmp_path / "cache"))


def test_a_plugin_that_does_not_load_is_below_the_ladder() -> None:
    standing = examine("lab", registry_with(status="failed"))
    assert standing.tier is Tier.FAILS
    assert [m.reason for m in standing.needed] == ["broken"]


def test_a_check_of_severity_error_keeps_a_plugin_at_runs() -> None:
    standing = examine("lab", registry_with(BrokenDataset("pad", way="bytes")))
    assert standing.tier is Tier.RUNS
    assert standing.next is Tier.CONFORMS
    assert any("uint8" in m.reason and m.advice for m in standing.needed)


def test_a_sound_plugin_is_documented_and_needs_a_board_entry() -> None:
    standing = examine("lab", registry_with(TinyDataset("pad")))
    assert standing.tier is Tier.DOCUMENTED, standing.missing
    assert [str(m) for m in standing.needed] == [
        "dataset tiny-pad: no board entry of this code was found; publish a run; name its folder with --board"
    ]


def test_without_a_licence_it_only_conforms(tmp_path: Path) -> None:
    path = tmp_path / "site" / "lab-1.0.dist-info" / "METADATA"
    path.write_text(path.read_text().replace("License-Expression: MIT\n", ""))
    standing = examine("lab", registry_with(TinyDataset("pad")))
    assert standing.tier is Tier.CONFORMS
    assert [m.reason for m in standing.needed] == ["names no licence"]


def entry(folder: Path, fingerprint: str, trust: str) -> Path:
    part = {"name": "tiny-pad", "origin": {"fingerprint": fingerprint}}
    other = {"name": "x", "origin": {"fingerprint": ""}}
    told = {"dataset": part, "explainer": other, "model": other, "suite": {"name": "s"}, "trust": trust}
    path = folder / "records" / "m" / "d" / "e.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize(
    ("code", "trust", "tier", "words"),
    [
        ("same", "re-run", Tier.VALIDATED, ""),
        ("same", "independent", Tier.VALIDATED, ""),
        ("same", "self-reported", Tier.DOCUMENTED, "self-reported"),
        ("other", "re-run", Tier.DOCUMENTED, "no board entry of this code"),
    ],
)
def test_an_entry_validates_the_code_that_made_it(
    tmp_path: Path, code: str, trust: str, tier: Tier, words: str
) -> None:
    data = TinyDataset("pad")
    fingerprint = fingerprint_of(data, "lab") if code == "same" else "0" * 64
    standing = examine("lab", registry_with(data), boards=[entry(tmp_path / "board", fingerprint, trust)])
    assert standing.tier is tier
    assert all(words in m.reason for m in standing.needed)


def test_a_tier_is_known_for_the_checked_code_only() -> None:
    registry = registry_with(TinyDataset("pad"))
    assert known_tier(registry, "lab", "ok") == "runs"
    examine("lab", registry)
    assert known_tier(registry, "lab", "ok") == "documented"
    changed = registry_with(TinyDataset("pad"), BrokenDataset("verification", way="bytes"))
    assert known_tier(changed, "lab", "ok") == "runs"
    assert known_tier(changed, "lab", "failed") == "fails"


def test_the_command_prints_the_tier_and_exits_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "faithface-resnet29", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tier"] == "documented" or told["missing"]
    assert main(["check", "faithface-resnet92"]) == 2
    assert 'did you mean "faithface-resnet29"' in capsys.readouterr().err
    assert main(["check", "lab-x", "--path", "nonsense"]) == 2
    assert row_of(load_registry(), "faithface-resnet29").status == "ok"
