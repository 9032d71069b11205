"""The ladder: what each tier needs, and that it is computed from the code that is there now."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from faithface.boards.attest import attestation_of, write_attestation
from faithface.boards.record import RECORDS, read_records, write_records
from faithface.boards.tiers import read_tiers
from faithface.cli.main import main
from faithface.hashing import fingerprint_of
from faithface.plugins import PluginRow, Provenance, Registered, load_registry
from faithface.testing import TinyDataset
from faithface.testing.ladder import Tier, examine, known_tier, publish
from tests.plugins_host.test_plugins import row_of
from tests.support.boards import records
from tests.testing.broken import BrokenDataset

LAB = Provenance("lab", "1.0", "main")


def registry_with(*datasets, status: str = "ok"):
    """A registry in which a distribution "lab" has brought some datasets."""
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


def entry(folder: Path, fingerprint: str, level: str) -> Path:
    """Write a board of one record, of a dataset with this code; attested unless nobody ran it again."""
    (one,) = records(["alpha"], [], ["net-a"], 1, 4, tasks=["pad"])
    origin = one.record.dataset.origin.model_copy(update={"fingerprint": fingerprint})
    data = one.record.dataset.model_copy(update={"name": "tiny-pad", "origin": origin})
    write_records([dataclasses.replace(one, record=one.record.model_copy(update={"dataset": data}))], folder / RECORDS)
    if level != "self-reported":
        (kept,) = read_records(folder / RECORDS)
        compared = {"seed": 1, "samples": ("a",), "protocols": ("m@1",), "values": 1, "largest": 0.1}
        where = {"device": "cpu", "system": "Linux", "versions": {"faithface": "0.1.0"}}
        independent = level == "independent"
        write_attestation(folder, attestation_of(kept.record, independent, "A Laboratory", where, **compared))
    return folder


@pytest.mark.parametrize(
    ("code", "level", "tier", "words"),
    [
        ("same", "re-run", Tier.VALIDATED, ""),
        ("same", "independent", Tier.VALIDATED, ""),
        ("same", "self-reported", Tier.DOCUMENTED, "self-reported"),
        ("other", "re-run", Tier.DOCUMENTED, "no board entry of this code"),
    ],
)
def test_an_entry_that_was_run_again_validates_the_code_that_made_it(
    tmp_path: Path, code: str, level: str, tier: Tier, words: str
) -> None:
    data = TinyDataset("pad")
    fingerprint = fingerprint_of(data, "lab") if code == "same" else "0" * 64
    standing = examine("lab", registry_with(data), boards=[entry(tmp_path / "board", fingerprint, level)])
    assert standing.tier is tier
    assert all(words in m.reason for m in standing.needed)


def test_what_a_record_says_of_itself_validates_nothing(tmp_path: Path) -> None:
    data = TinyDataset("pad")
    board = entry(tmp_path / "board", fingerprint_of(data, "lab"), "self-reported")
    (path,) = (board / RECORDS).rglob("*.json")
    path.write_text(path.read_text().replace('"self-reported"', '"independent"'))
    assert examine("lab", registry_with(data), boards=[board]).tier is Tier.DOCUMENTED


def test_a_tier_is_known_for_the_checked_code_only() -> None:
    registry = registry_with(TinyDataset("pad"))
    assert known_tier(registry, "lab", "ok") == "runs"
    examine("lab", registry)
    assert known_tier(registry, "lab", "ok") == "documented"
    changed = registry_with(TinyDataset("pad"), BrokenDataset("verification", way="bytes"))
    assert known_tier(changed, "lab", "ok") == "runs"
    assert known_tier(changed, "lab", "failed") == "fails"


def test_each_object_has_a_tier_of_its_own_and_what_the_distribution_lacks_counts_against_all(tmp_path: Path) -> None:
    sound, broken = TinyDataset("pad"), BrokenDataset("verification", way="bytes")
    registry = registry_with(sound, broken)
    standing = examine("lab", registry)
    assert standing.tier is Tier.RUNS
    told = read_tiers(publish(standing, tmp_path / "boards"))
    assert (told.distribution, told.version) == ("lab", "1.0")
    assert {(o.kind, o.name): (o.fingerprint, o.tier) for o in told.objects} == {
        ("dataset", sound.name): (fingerprint_of(sound, "lab"), Tier.DOCUMENTED),
        ("dataset", broken.name): (fingerprint_of(broken, "lab"), Tier.RUNS),
    }
    path = tmp_path / "site" / "lab-1.0.dist-info" / "METADATA"
    path.write_text(path.read_text().replace("License-Expression: MIT\n", ""))
    now = {one.name: one.tier for one in examine("lab", registry).objects}
    assert now == {sound.name: Tier.CONFORMS, broken.name: Tier.RUNS}


def test_the_command_writes_the_tiers_beside_the_boards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "faithface-resnet29", "--max-examples", "0", "--tiers", str(tmp_path)]) == 0
    path = tmp_path / "tiers" / "faithface-resnet29.json"
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    assert [(one.kind, one.name) for one in read_tiers(path).objects] == [("model", "resnet29")]


def test_the_command_prints_the_tier_and_exits_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "faithface-resnet29", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tier"] == "documented" or told["missing"]
    assert [(one["kind"], one["name"]) for one in told["objects"]] == [("model", "resnet29")]
    assert main(["check", "faithface-resnet29", "--max-examples", "0"]) == 0
    assert f"rules: reference/ladder/{'validated' if told['tier'] == 'documented' else ''}" in capsys.readouterr().out
    assert main(["check", "faithface-resnet92"]) == 2
    assert 'did you mean "faithface-resnet29"' in capsys.readouterr().err
    assert main(["check", "lab-x", "--path", "nonsense"]) == 2
    assert row_of(load_registry(), "faithface-resnet29").status == "ok"
