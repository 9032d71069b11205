"""The documentation against the code: commands and options exist, snippets run, links resolve, nothing is left out."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from pydantic import BaseModel

import faithface
from faithface import hookspecs
from faithface.card import ContributionsCard, ExplainCard, InputCard, ModelCard, OutputCard
from faithface.cli.main import app, main
from faithface.contract import Dataset, Pair, Sample
from faithface.run.suite import Suite
from faithface.specs import parameters, parse_spec
from tests.docs.pages import (
    DOCS,
    ROOT,
    anchors,
    block_after,
    blocks,
    command_lines,
    first_cells,
    is_synopsis,
    links,
    name_of,
    pages,
    sections,
    walk,
)
from tests.support.networks import faces, pair_batch, sample_batch, tiny

PAGES = pages()
EXPLAINER_PAGE = DOCS / "how-to" / "write-an-explainer.md"
METRIC_PAGE = DOCS / "how-to" / "write-a-metric.md"
TUTORIAL = DOCS / "tutorial" / "first-board.md"
REFERENCE = DOCS / "reference"
COMMANDS = dict(walk(typer.main.get_command(app)))
EXAMPLES = {"cell-drop", "mirror-symmetry@1", "mine", "my-method", "nearest"}
"""What the pages themselves show how to write."""


def find_command(arguments: list[str]) -> tuple[Any, list[str]]:
    """Return the command that a line names, and its own arguments."""
    if arguments[0] == "--plugin":  # of the program itself, before the command
        arguments = arguments[2:]
    for size in (2, 1):
        name = " ".join(arguments[:size])
        if name in COMMANDS:
            return COMMANDS[name], arguments[size:]
    raise AssertionError(f"no command: faithface {' '.join(arguments)}")


def option_names(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


LINES = [(path, line) for path in [*PAGES, ROOT / "tox.ini"] for line in command_lines(path)]


@pytest.mark.parametrize(
    ("path", "line"), LINES, ids=[f"{name_of(path)}: {' '.join(line)[:60]}" for path, line in LINES]
)
def test_every_command_line_can_be_typed(path: Path, line: list[str]) -> None:
    if line in (["--version"], ["--help"]) or line[-1:] == ["--help"]:
        return
    command, own = find_command(line)
    known = option_names(command)
    for word in own:
        bare = word.strip("[].").partition("=")[0]
        if bare.startswith("-"):
            assert bare in known, f"{name_of(path)}: faithface {' '.join(line)}: no option {bare}"
    if not is_synopsis(line):
        command.make_context("faithface", list(own))


@pytest.mark.parametrize("kind", ["explainer", "metric"])
def test_names_in_command_lines_are_registered(kind: str) -> None:
    registry = faithface.load_registry(only=["faithface-resnet29"])
    resolve = getattr(registry, kind)
    seen = 0
    for _path, line in LINES:
        for option, value in itertools.pairwise(line):
            if option != f"--{kind}" or value == "all" or parse_spec(value).name in {*EXAMPLES, "maps"}:
                continue
            if any(f"fill={name}" in value for name in EXAMPLES):
                continue
            if re.fullmatch(r"[A-Z]\]?(\.\.\.)?", value):
                continue
            resolve(value)
            seen += 1
    assert seen > 10


SNIPPETS = [(path, block.text) for path in PAGES for block in blocks(path) if block.language == "python"]


@pytest.mark.parametrize(
    ("path", "text"), SNIPPETS, ids=[f"{name_of(path)}-{i}" for i, (path, _) in enumerate(SNIPPETS)]
)
def test_every_python_snippet_compiles(path: Path, text: str) -> None:
    compile(text, str(path), "exec")


@pytest.mark.parametrize(
    ("path", "text"),
    [(path, block.text) for path in PAGES for block in blocks(path) if block.language == "toml"],
    ids=lambda value: name_of(value) if isinstance(value, Path) else None,
)
def test_every_toml_snippet_parses(path: Path, text: str) -> None:
    assert tomllib.loads(text)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_internal_link_resolves(path: Path) -> None:
    for target in links(path):
        name, _, anchor = target.partition("#")
        aim = (path.parent / name).resolve() if name else path
        assert aim.exists(), f"{name_of(path)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(aim), f"{name_of(path)} links to {target}; the page has no such heading"


def test_every_page_is_in_the_site_s_contents() -> None:
    listed = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_every_tox_environment_that_a_page_names_is_there() -> None:
    known = set(re.findall(r"^\[testenv:([\w-]+)\]", (ROOT / "tox.ini").read_text(encoding="utf-8"), re.MULTILINE))
    named = {env for path in PAGES for env in re.findall(r"tox -e ([\w-]+)", path.read_text(encoding="utf-8"))}
    assert {"bench-demo", "tests"} <= named <= known


# --- nothing is left out of the reference


HOOKS = [name for name, member in vars(hookspecs).items() if name.startswith("faithface_") and callable(member)]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_section_with_its_signature(hook: str) -> None:
    section = sections(REFERENCE / "hooks.md")[hook]
    signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "")
    assert f"def {hook}{signature}: ..." in section
    assert f"`{hook}`" in (REFERENCE / "hooks.md").read_text(encoding="utf-8")


def test_the_command_line_page_has_every_command_and_option_and_no_other() -> None:
    parts = sections(REFERENCE / "command-line.md")
    shared = {"explainers", "models", "datasets", "metrics", "fills", "suites"}
    told: dict[str, set[str]] = {}
    for head, body in parts.items():
        if head.startswith("faithface "):
            names = head.removeprefix("faithface ").split(", ")
            for name in names:
                told[name] = {option for option in first_cells(body) if option.startswith("-")}
    assert set(told) == set(COMMANDS)
    for name, command in COMMANDS.items():
        has = {option for option in option_names(command) if option.startswith("-")} - {"--help", "-h"}
        if name in shared:
            assert has <= told[name], name
        else:
            assert has == told[name], name
    union = set().union(*({o for o in option_names(COMMANDS[n]) if o.startswith("-")} for n in shared))
    assert told["models"] == union - {"--help", "-h"}


def test_the_card_page_has_every_key_and_no_other() -> None:
    parts = sections(REFERENCE / "card.md")
    classes: dict[str, type[BaseModel]] = {
        "[model]": ModelCard,
        "[input]": InputCard,
        "[output]": OutputCard,
        "[explain]": ExplainCard,
        "[contributions]": ContributionsCard,
    }
    values = {
        "[output]": {"embedding", "logits", "probabilities", "logit", "probability"},
        "[contributions]": {"similarity", "logit-difference", "logits"},
    }
    for head, model in classes.items():
        keys = set(model.model_fields)
        if head == "[model]":
            keys -= {"root", *(name.strip("[]") for name in classes)}
        assert first_cells(parts[head]) == keys | values.get(head, set())


def test_the_card_page_s_example_is_a_card(tmp_path: Path) -> None:
    (example,) = [b.text for b in blocks(REFERENCE / "card.md") if b.language == "toml"]
    (tmp_path / "my-net.onnx").write_bytes(b"")
    (tmp_path / "my-net.toml").write_text(example)
    assert faithface.load_card(tmp_path / "my-net.toml").name == "my-net"


def test_the_suite_page_has_every_key_and_every_suite_of_the_box(tmp_path: Path) -> None:
    text = (REFERENCE / "suites.md").read_text(encoding="utf-8")
    cells = first_cells(text)
    registry = faithface.load_registry(only=[])
    assert cells == set(Suite.model_fields) | set(registry.suites)
    (example,) = [b.text for b in blocks(REFERENCE / "suites.md") if b.language == "toml"]
    Suite(**tomllib.loads(example)["suite"])


def test_the_dataset_page_has_every_dataset_and_parameter() -> None:
    page = REFERENCE / "datasets.md"
    text, parts = page.read_text(encoding="utf-8"), sections(page)
    for name, entry in faithface.load_registry(only=[]).datasets.items():
        assert f"`{name}" in text, name
        if name.startswith("planted-"):
            continue  # they have a page of their own
        body = parts.get(name, parts["Frames of videos"])
        told = set(re.findall(r"`([^`]+)`", body))
        missing = set(parameters(entry.object)) - told
        assert not missing, f"datasets.md, {name}: {missing}"


def test_the_python_page_names_everything_that_is_public() -> None:
    told = set(re.findall(r"`([A-Za-z_]+)[`(]", (REFERENCE / "python-api.md").read_text(encoding="utf-8")))
    assert set(faithface.__all__) <= told


# --- the examples run


@dataclass(frozen=True)
class Blobs(Dataset):
    """Synthetic images for a tiny network: n samples of two classes, or n pairs."""

    pairs: bool = False
    n: int = 4

    name = "blobs"
    classes = ("bona-fide", "attack")

    @property
    def task(self) -> Any:  # type: ignore[override]
        return "verification" if self.pairs else "pad"

    def items(self) -> Sequence[Sample] | Sequence[Pair]:
        made = faces(2 * self.n, 32)
        if self.pairs:
            # Faces 2k and 2k + 1 are one person's.
            return [
                Pair(f"pair{i}", made[2 * i], made[2 * i + 1 if i % 2 == 0 else 2 * i - 2], same=i % 2 == 0)
                for i in range(self.n)
            ]
        return [Sample(f"sample{i}", made[i], self.classes[i % 2]) for i in range(self.n)]


@pytest.fixture
def cell_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of the how-to page, installed as pip would: its module, and metadata made from its pyproject.toml."""
    site = tmp_path / "site"
    project = tomllib.loads(block_after(EXPLAINER_PAGE, "`pyproject.toml`"))["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["faithface"].items()
    (info / "entry_points.txt").write_text("[faithface]\n" + "".join(f"{k} = {v}\n" for k, v in points))
    (site / "cell_drop.py").write_text(block_after(EXPLAINER_PAGE, "`cell_drop.py`"))
    (site / "test_cell_drop.py").write_text(block_after(EXPLAINER_PAGE, "`tests/test_cell_drop.py`"))
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("cell_drop", None)


def test_the_explainer_of_the_how_to_page_installs_and_is_listed(
    cell_drop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "--json"]) == 0
    (row,) = [r for r in json.loads(capsys.readouterr().out) if r["distribution"] == "cell-drop"]
    assert (row["status"], row["registered"]) == ("ok", {"explainers": ["cell-drop"]})
    assert main(["explainers", "cell-drop(cells=7)"]) == 0
    assert "cells=7" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["pad", "verification"])
def test_the_explainer_of_the_how_to_page_explains_what_it_says(cell_drop: Path, tiny_folder: Path, task: str) -> None:
    model = faithface.open_model(tiny("cnn", task, tiny_folder))
    explainer = faithface.load_registry().explainer("cell-drop(cells=4)").object
    samples = sample_batch(model, 2) if task == "pad" else pair_batch(model, 2)
    maps = explainer.explain(model, samples)
    views = samples.views()
    # One cell by hand: rows 8..15, columns 24..31 of a 32×32 image in 4×4 cells, grey as the image's mean colour.
    altered = views.images.clone()
    for i, image in enumerate(views.images):
        altered[i, :, 8:16, 24:32] = image.mean(dim=(1, 2))[:, None, None]
    fall = views.target.score(model.card, model.outputs(views.images))
    fall = fall - views.target.score(model.card, model.outputs(altered))
    signed = maps.relevance if task == "pad" else (maps.similarity - maps.dissimilarity).flatten(0, 1)
    assert signed is not None
    torch.testing.assert_close(signed[:, 8:16, 24:32], fall[:, None, None].expand(-1, 8, 8), atol=1e-5, rtol=1e-4)
    assert fall.abs().max() > 1e-4


@pytest.mark.parametrize("pairs", [False, True], ids=["classifier", "pairs"])
def test_the_explainer_and_the_metric_of_the_how_to_pages_run_through_evaluate(
    cell_drop: Path, tiny_folder: Path, pairs: bool
) -> None:
    namespace: dict[str, Any] = {"__name__": "mirror_symmetry"}
    exec(block_after(METRIC_PAGE, METRIC_LINE), namespace)
    task = "verification" if pairs else "pad"
    result = faithface.evaluate(
        model=tiny("cnn", task, tiny_folder),
        dataset=Blobs(pairs=pairs),
        explainers=["cell-drop(cells=4)", "centre-prior"],
        metrics=["entropy@1", namespace["MirrorSymmetry"]()],
    )
    assert result.failures == ()
    got = {(row["explainer"], row["metric"]): row["value"] for row in result.values.iter_rows(named=True)}
    assert len(result.values) == 2 * 2 * 4
    # A hill in the middle is its own mirror image; a map of random falls is not.
    assert got["centre-prior", "mirror-symmetry@1"] == pytest.approx(1.0, abs=1e-6)
    assert 0 <= got["cell-drop(cells=4)", "mirror-symmetry@1"] < 0.999
    assert "cell-drop(cells=4)" in result.table()


METRIC_LINE = "docstring of a base class hold for every metric that is built on it."


def test_the_test_of_the_how_to_page_passes(cell_drop: Path) -> None:
    runpy.run_path(str(cell_drop / "test_cell_drop.py"))["test_cell_drop_is_registered_and_finds_more_than_noise"]()


def test_the_tutorial_leads_to_a_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (borrow,) = [b.text for b in blocks(TUTORIAL) if b.language == "python"]
    exec(compile(borrow, "borrow.py", "exec"), {"__name__": "__main__"})
    told = [line for line in command_lines(TUTORIAL) if line[0] not in ("plugins", "metrics")]

    def step(name: str) -> str:
        """Do the tutorial's next command, which must be this one, and return what it prints."""
        line = told.pop(0)
        assert line[0] == name
        if name == "run":
            line = [*line, "--limit", "2"]  # the last one wins
        assert main(line) == 0
        return capsys.readouterr().out

    assert "genuine=36, impostor=57" in step("datasets")
    draft = step("inspect")
    card = draft[draft.index("[model]") :]
    assert card.strip() in TUTORIAL.read_text(encoding="utf-8")
    Path("my-net.toml").write_text(card)
    assert "dynamic, rows independent" in step("inspect")
    # The threshold comes from all pairs, so it is the page's, also with a limit.
    (threshold,) = set(re.findall(r"decision threshold [0-9.]+", TUTORIAL.read_text(encoding="utf-8")))
    out = step("run")
    assert threshold in out
    assert "clean accuracy 100.0 %" in out
    step("explain")
    assert Path("pair.png").is_file()
    assert " fggb " in step("run")
    step("leaderboard")
    assert "gap-similarity-score@1" in Path("leaderboards/adhoc/v0/README.md").read_text(encoding="utf-8")
    assert not told
