"""``faithface run``, ``export`` and ``leaderboard build``: what is typed, printed, left on disk, and the exit codes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.runs import Interrupts


def ramp(made: Path, *more: object) -> list[object]:
    """The arguments of a small run."""
    return [
        *("run", "--model", made / "pad.toml", "--dataset", f"folder:{made / 'classes'}"),
        *("--explainer", "ramp", "--metric", "mean-relevance@1", *more),
    ]


def test_a_run_prints_a_table_and_says_where_it_lies(faithface: Any, made: Path) -> None:
    said = faithface(*ramp(made, "--explainer", "random"))
    assert said.code == 0
    assert "mean-relevance@1, higher is better" in said.out
    assert max(len(line) for line in said.out.splitlines() if not line.startswith("run: ")) <= 80
    assert "ramp: 20/20" in said.err  # plain lines, as stderr is not a terminal
    (run,) = (Path(line.removeprefix("run: ")) for line in said.out.splitlines() if line.startswith("run: "))
    assert run.parts[0] == "runs"
    assert (run / "run.sqlite").is_file()


def test_the_same_command_goes_on_with_its_own_directory(faithface: Any, made: Path) -> None:
    first, second = faithface(*ramp(made)), faithface(*ramp(made))
    assert first.out == second.out
    assert len(list(Path("runs").iterdir())) == 1
    assert "20/20" not in second.err


def test_an_interrupted_command_says_so_and_is_gone_on_with(
    faithface: Any, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faithface import plugins
    from tests.support.runs import with_extras

    registry = with_extras(plugins.load_registry(), Interrupts(2))
    monkeypatch.setattr("faithface.plugins.load_registry", lambda strict=False: registry)
    command = ramp(made, "--explainer", "interrupts", "--workers", "0", "-o", "r")
    said = faithface(*command)
    assert said.code == 130
    assert said.error == "interrupted; give the same command again to resume"
    assert faithface("leaderboard", "build", "r", "-o", "boards").code == 2
    said = faithface(*command)
    assert said.code == 0
    assert "interrupts: 20/20" in said.err


@pytest.fixture
def interrupted(faithface: Any, made: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The command of a run in ``a run/`` that was interrupted after three of its four shards.

    The explainer's first call is the measurement's.
    """
    from faithface import plugins
    from tests.support.runs import with_extras

    registry = with_extras(plugins.load_registry(), Interrupts(3))
    monkeypatch.setattr("faithface.plugins.load_registry", lambda strict=False: registry)
    command = ramp(made, "--explainer", "interrupts", "--workers", "0", "-o", "a run")
    assert faithface(*command).code == 130
    return command


def command_in(line: str) -> list[str]:
    """The words of the command that a line gives between backquotes."""
    return shlex.split(line.partition("`")[2].partition("`")[0])


def test_export_of_an_unfinished_run_says_how_much_is_there_and_how_to_finish_it(
    faithface: Any, interrupted: list[object]
) -> None:
    said = faithface("export", "a run", "-o", "out", "--json")
    assert said.code == 0
    assert json.loads(said.out)["rows"] == 2 * 16 + 2 * (16 + 4)
    (line,) = said.err.splitlines()
    assert line.startswith("faithface: warning: a run is not finished: 0 of 2 cells and 3 of 4 shards are there; ")
    program, *words = command_in(line)
    assert (program, words) == ("faithface", [str(word) for word in interrupted])
    assert faithface(*words).code == 0
    finished = faithface("export", "a run", "-o", "out", "--json")
    assert (json.loads(finished.out)["rows"], finished.err) == (2 * 2 * 20, "")


def test_from_another_folder_the_command_goes_to_its_own_first(
    faithface: Any, interrupted: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "else where").mkdir()
    monkeypatch.chdir(tmp_path / "else where")
    said = faithface("export", "../a run", "-o", "out")
    assert command_in(said.err)[:4] == ["cd", str(tmp_path), "&&", "faithface"]


def test_a_board_refuses_an_unfinished_run_in_the_words_of_export(
    faithface: Any, interrupted: list[object], tmp_path: Path
) -> None:
    warned = faithface("export", "a run", "-o", "out").err.strip()
    refused = faithface("leaderboard", "build", "a run", "-o", "boards")
    assert refused.code == 2
    assert refused.error == warned.removeprefix("faithface: warning: ")
    assert not (tmp_path / "boards").exists()


def test_quiet_says_nothing_on_stderr(faithface: Any, made: Path) -> None:
    said = faithface(*ramp(made, "--quiet"))
    assert (said.code, said.err) == (0, "")
    assert " ramp " in said.out


def test_json_is_all_of_stdout_and_holds_the_records(faithface: Any, made: Path) -> None:
    said = faithface(*ramp(made, "--json", "--explainer", "fails", "--limit", "4"))
    found = json.loads(said.out)
    assert said.code == found["exit_code"] == 1
    assert [r["status"] for r in found["records"]] == ["ok", "failed"]
    assert found["records"][0]["numbers"][0]["number"] == pytest.approx(0.5)
    assert "ZeroDivisionError" in found["failures"][0]


def test_a_failed_explainer_is_one_line_and_exit_code_1_while_the_rest_is_scored(faithface: Any, made: Path) -> None:
    said = faithface(*ramp(made, "--explainer", "fails", "-o", "r"))
    assert said.code == 1
    assert said.error == "1 part of the run failed; everything else is scored and stored; --traceback shows where"
    assert any("ramp" in line and "0.5000" in line for line in said.out.splitlines())
    assert any(line.split()[:1] == ["fails"] and "ZeroDivisionError" in line for line in said.out.splitlines())
    assert "fails: explainer raised ZeroDivisionError: a mistake" in said.err


def test_a_metric_that_does_not_fit_everywhere_is_reported_as_not_applicable(faithface: Any, made: Path) -> None:
    said = faithface(
        *("run", "--model", made / "pad.toml", "--model", made / "verification.toml"),
        *("--dataset", f"folder:{made / 'classes'}", "--dataset", f"pairs:{made / 'pairs.csv'}@{made / 'crops'}"),
        *("--explainer", "ramp", "--metric", "gap@1", "--metric", "entropy@1", "--limit", "4"),
    )
    assert said.code == 0
    assert "not applicable: verification / pairs:" in said.err  # before it starts, and not once more after it
    assert "not applicable" not in said.out
    tables = re.split(r"^\w+ on ", said.out.split("run: ")[0], flags=re.MULTILINE)[1:]
    assert ["gap@1, higher" in table for table in tables] == [True, False]


def test_export_writes_values_and_kept_maps(faithface: Any, made: Path) -> None:
    faithface(*ramp(made, "-o", "r", "--keep-maps", "--limit", "4"))
    said = faithface("export", "r", "-o", "out", "--json")
    assert {k: v for k, v in json.loads(said.out).items() if k in ("values", "rows", "maps")} == {
        "values": "out/values.parquet",
        "rows": 8,
        "maps": 4,
    }
    assert len(pl.read_parquet("out/values.parquet")) == 8
    assert len(list(Path("out/maps/pad").rglob("ramp/*.npz"))) == 4


def test_a_board_is_built_from_runs_and_rebuilt_without_a_difference(faithface: Any, made: Path) -> None:
    faithface(*ramp(made, "-o", "r"))
    said = faithface("leaderboard", "build", "r", "-o", "boards")
    assert said.out.strip() == "boards/adhoc/v0/README.md"
    before = {p: p.read_bytes() for p in Path("boards").rglob("*") if p.is_file()}
    assert faithface("leaderboard", "build", "boards/adhoc/v0").code == 0
    assert before == {p: p.read_bytes() for p in Path("boards").rglob("*") if p.is_file()}


SUITE = """
[suite]
name = "mine"
version = 1
models = ["{made}/pad.toml"]
datasets = ["folder:{made}/classes"]
explainers = ["ramp"]
metrics = ["mean-relevance@1"]
limit = 4
"""


def test_a_suite_file_runs_and_its_board_has_its_name_and_version(faithface: Any, made: Path) -> None:
    Path("mine.toml").write_text(SUITE.format(made=made))
    assert faithface("run", "mine.toml", "-o", "r").code == 0
    assert faithface("leaderboard", "build", "r", "-o", "boards").out.strip() == "boards/mine/v1/README.md"


def test_a_suite_that_is_changed_by_an_option_is_no_longer_that_suite(faithface: Any, made: Path) -> None:
    Path("mine.toml").write_text(SUITE.format(made=made))
    for i, change in enumerate((["--limit", "2"], ["--explainer", "random"], ["--seed", "4"])):
        found = json.loads(faithface("run", "mine.toml", "--json", "-o", f"r{i}", *change).out)
        assert found["records"][0]["suite"]["name"] == "adhoc"
    found = json.loads(faithface("run", "mine.toml", "--json", "-o", "r", "--limit", "4", "--seed", "0").out)
    assert found["records"][0]["suite"]["name"] == "mine"


def test_a_suite_on_another_model_says_what_is_not_applicable_there(faithface: Any, made: Path) -> None:
    text = SUITE.replace('["ramp"]', '["fggb", "ramp"]').replace('["mean-', '["gap-similarity-score@1", "mean-')
    Path("mine.toml").write_text(text.replace("pad.toml", "none.toml"))
    other = ("--model", made / "pad.toml", "--dataset", f"folder:{made / 'classes'}")
    said = faithface("run", "mine.toml", *other)
    assert said.code == 0
    where = f"not applicable: pad / folder:{made / 'classes'}"
    assert f"{where} / fggb: for verification only; the model is for pad\n" in said.err
    assert f"{where} / ramp / gap-similarity-score@1: for verification only; the model is for pad\n" in said.err
    assert "not applicable" not in said.out.split("run: ")[1]
    assert any("ramp" in line and "0.5000" in line for line in said.out.splitlines())
    named = faithface("run", "mine.toml", *other, "--explainer", "fggb", "--explainer", "ramp")
    assert named.code == 2
    assert named.error == (
        f'explainer "fggb" is not applicable to pad on folder:{made / "classes"}: for verification only; '
        "the model is for pad"
    )


# --- each bad input: one clear line, the right exit code


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--explainer": "grad-cm"}, 'no explainer "grad-cm"; did you mean "grad-cam'),
        ({"--metric": "deletoin@1"}, 'no metric "deletoin@1"; did you mean "deletion@1"?'),
        ({"--metric": "deletion"}, "has no version"),
        ({"--metric": "deletion@1(fill=blak)"}, 'fill "blak" is not known; did you mean "black"?'),
        ({"--metric": "deletion@1(fil=black)"}, 'did you mean "fill"?'),
        ({"--metric": "gap-similarity@1"}, "for verification only; the model is for pad"),
        ({"--model": "nothing.toml"}, "no such"),
        ({"--model": "resnet28"}, 'no model "resnet28"'),
        ({"--dataset": "folder:nowhere"}, "no such folder"),
        ({"--dataset": "floder:x"}, 'did you mean "folder"?'),
        ({"--executor": "slurm"}, "expected one of: local, ray"),
        ({"--device": "tpu"}, "expected one of: cpu, cuda"),
        ({"--limit": "0"}, "--limit"),
        ({"--batch-size": "many"}, "--batch-size"),
    ],
)
def test_a_wrong_option_is_a_usage_error_of_one_line(
    faithface: Any, made: Path, changes: dict[str, str], words: str
) -> None:
    options = {
        "--model": str(made / "pad.toml"),
        "--dataset": f"folder:{made / 'classes'}",
        "--explainer": "ramp",
        "--metric": "mean-relevance@1",
    }
    said = faithface("run", *(part for pair in {**options, **changes}.items() for part in pair))
    assert said.code == 2
    assert words in said.error
    assert said.out == ""
    assert not Path("runs").exists()


def test_a_bad_file_is_a_usage_error_of_one_line(faithface: Any, made: Path) -> None:
    card = (made / "pad.toml").read_text()
    (onnx,) = (p for p in made.glob("*.onnx") if "pad" in p.name)
    Path("cut.onnx").write_bytes(onnx.read_bytes()[:1000])
    Path("text.onnx").write_text("hello")
    cases = {
        "cut": (card.replace(onnx.name, "cut.onnx"), "not an ONNX file"),
        "text": (card.replace(onnx.name, "text.onnx"), "not an ONNX file"),
        "missing": (card.replace(onnx.name, "missing.onnx"), "is not there"),
        "key": (card.replace("[input]", "[input]\nscale = 1"), "unknown key 'scale' in [input]"),
    }
    for name, (text, words) in cases.items():
        Path(f"{name}.toml").write_text(text.replace(f'"{onnx.name}"', f'"{onnx}"'))
        said = faithface("run", "--model", f"{name}.toml", *map(str, ramp(made)[3:]))
        assert said.code == 2, name
        assert words in said.error, name


def test_a_bad_dataset_is_a_usage_error_of_one_line(faithface: Any, made: Path) -> None:
    Path("columns.csv").write_text("image_a,image_b\nx.png,y.png\n")
    Path("empty.csv").write_text("image_a,image_b,same\n")
    Path("none/a").mkdir(parents=True)
    cases = {
        "pairs:columns.csv": "column 'same' is missing",
        "pairs:empty.csv": "no pairs",
        "folder:none": "expected class sub-folders with images",
    }
    for spec, words in cases.items():
        card = made / ("verification.toml" if spec.startswith("pairs") else "pad.toml")
        said = faithface(
            "run", "--model", card, "--dataset", spec, "--explainer", "ramp", "--metric", "mean-relevance@1"
        )
        assert said.code == 2, spec
        assert words in said.error, spec


def test_an_unreadable_image_is_named_and_skipped_or_an_error_in_strict_mode(faithface: Any, made: Path) -> None:
    import shutil

    shutil.copytree(made / "classes", "spoilt")
    Path("spoilt/attack/im01.png").write_text("not an image")
    command = ["run", "--model", made / "pad.toml", "--dataset", "folder:spoilt", *ramp(made)[5:]]
    said = faithface(*command)
    assert said.code == 0
    assert "skipped: spoilt/attack/im01.png is not an image" in said.err
    said = faithface(*command, "--quiet", "--out", "quiet")
    assert said.code == 0
    assert said.err.count("spoilt/attack/im01.png is not an image") == 1  # a sample less is never silent
    said = faithface(*command, "--strict")
    assert said.code == 2
    assert "im01.png is not an image" in said.error


def test_a_folder_of_one_class_is_scored_by_what_needs_no_other(faithface: Any, made: Path) -> None:
    import shutil

    shutil.copytree(made / "classes" / "attack", "alone/attack")
    command = ["run", "--model", made / "pad.toml", "--dataset", "folder:alone", *ramp(made)[5:]]
    said = faithface(*command, "--metric", "deletion@1(grid=4,points=3)")
    assert said.code == 0
    assert "only one class, attack" in said.err
    assert said.out.count("n = 10") >= 2  # both metrics, of all images
    assert "10 of 10 samples" in said.out


def test_cuda_asked_for_and_absent_is_a_usage_error(
    faithface: Any, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = faithface(*ramp(made, "--device", "cuda"))
    assert said.code == 2
    assert "cuda was requested" in said.error


def test_nothing_to_run_says_what_to_give(faithface: Any, made: Path) -> None:
    assert "give a suite" in faithface("run").error
    assert "--metric" in faithface("run", *map(str, ramp(made)[1:-2])).error


def test_a_fault_of_our_own_is_one_line_too(faithface: Any, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("who would have thought")

    monkeypatch.setattr("faithface.run.plan.make_plan", broken)
    said = faithface(*ramp(made))
    assert said.code == 1
    assert said.error.startswith("internal error: KeyError: 'who would have thought'")


@pytest.mark.parametrize(
    "arguments", [["export", "nowhere", "-o", "out"], ["leaderboard", "build", "nowhere"], ["export"], ["frobnicate"]]
)
def test_a_wrong_path_or_command_is_exit_code_2(faithface: Any, arguments: list[str]) -> None:
    said = faithface(*arguments)
    assert said.code == 2
    assert said.error


OPEN_SUITE = """
[suite]
name = "open"
version = 3
explainers = ["random", "edges"]
metrics = ["entropy@1"]
[[suite.published]]
explainer = "Theirs"
protocol = "entropy@1"
value = 0.4242
source = "a paper | of theirs"
"""


def test_a_suite_may_leave_models_and_data_to_the_user(faithface: Any, made: Path, tmp_path: Path) -> None:
    path = tmp_path / "open.toml"
    path.write_text(OPEN_SUITE)
    said = faithface("run", path)
    assert said.code == 2
    assert "leaves its models to you: give at least one --model" in said.err
    model, data = ("--model", made / "pad.toml"), ("--dataset", f"folder:{made / 'classes'}")
    assert "leaves its datasets to you" in faithface("run", path, *model).err
    assert faithface("run", path, *model, *data, "--limit", 4, "-o", "run").code == 0
    # A filled slot is still the suite; --limit, which the suite left open too, changes it.
    assert faithface("run", path, *model, *data, "-o", "full").code == 0
    assert faithface("leaderboard", "build", "full", "-o", "boards").code == 0
    page = (tmp_path / "boards" / "open" / "v3" / "README.md").read_text()
    section = page.split("## Published figures, for comparison")[1]
    assert "not measured here, not ranked" in section
    assert "0.4242" in section
    assert "a paper \\| of theirs" in section
    assert "Theirs" not in page.split("## Published figures")[0]


def test_many_parts_for_another_task_are_one_line(faithface: Any, made: Path) -> None:
    said = faithface(
        *("run", "--model", made / "pad.toml", "--model", made / "verification.toml"),
        *("--dataset", f"folder:{made / 'classes'}", "--dataset", f"pairs:{made / 'pairs.csv'}@{made / 'crops'}"),
        *("--explainer", "ramp", "--metric", "entropy@1", "--limit", "4"),
        *(f"--metric={name}-similarity-score@1" for name in ("gap", "deletion", "insertion")),
        *(f"--metric={name}-dissimilarity-score@1" for name in ("gap", "deletion", "insertion")),
        *("--metric", "gap@1"),
    )
    assert said.code == 0
    assert "not applicable: 7 protocols and explainers for other tasks" in said.err
    assert (said.out + said.err).count("not applicable:") == 1


def test_metrics_not_applicable_for_one_reason_are_one_line_and_all_of_them_in_json(faithface: Any, made: Path) -> None:
    names = [f"{name}-dissimilarity-score@1" for name in ("gap", "deletion", "insertion")]
    command = [
        *("run", "--model", made / "verification.toml", "--dataset", f"pairs:{made / 'pairs.csv'}@{made / 'crops'}"),
        *("--explainer", "ramp", "--metric", "entropy@1", *(f"--metric={name}" for name in names), "--limit", "1"),
    ]
    (line,) = (line for line in faithface(*command).out.splitlines() if line.startswith("not applicable: "))
    assert line.endswith(f" / ramp / {', '.join(names)}: no impostor pairs among the samples")
    listed = json.loads(faithface(*command, "--json").out)["not_applicable"]
    assert [text.rpartition(" / ")[2].partition(": ")[0] for text in listed] == names
