"""Every code block and command of the documentation runs: here, in another test, or it has a reason why not.

The pages share one folder, in which their networks, faces, runs and boards lie under the names that the pages use.
Commands run in this process, with fewer samples (``small``). ``ledger`` says what runs elsewhere and what cannot run.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faithface.cli.main import main
from faithface.contract import Face
from faithface.plugin_files import VARIABLE
from faithface.testing.subjects import TinyDataset, tiny_card
from tests.docs.ledger import ELSEWHERE, NOT_RUN, PICTURES, PROGRAMS, Why, exists, lookup
from tests.docs.pages import ROOT, Block, blocks, command_lines, is_synopsis, name_of, pages

PAGES = [page for page in pages() if "docs/protocols/" not in page.as_posix()]
SHELL = ("", "console", "bash", "sh", "shell")
SIZE = 112
OWN_FOLDER = {"docs/how-to/bring-a-model.md"}
"""Pages whose Python writes a network over the one that other pages use."""
SLOW = ("fggb", "rise")
QUICK = ["--explainer", "centre-prior", "--metric", "entropy@1", "--limit", "2", "--workers", "0", "--quiet"]
BUILTIN = ["--model", "planted-pad-guided-0", "--dataset", "planted-pad"]


# --- the folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a reader of the pages works, after the steps that come before."""
    home = tmp_path_factory.mktemp("reader")
    for task, name in (("verification", "my-net"), ("pad", "my-pad")):
        write_network(home, task, name)
    write_faces(home)
    (home / "mine.py").write_text(
        "import faithface\nimport torch\nfrom dataclasses import dataclass\n\n\n@dataclass(frozen=True)\n"
        "class Mine(faithface.Explainer):\n    '''Mine: a constant.'''\n\n    method = faithface.Method('mine')\n\n"
        "    def explain(self, model, samples):\n        views = samples.views()\n"
        "        return faithface.Maps.from_views(torch.ones_like(views.images[:, 0]), samples)\n\n\n"
        "@faithface.hookimpl\ndef faithface_explainers():\n    return [Mine()]\n"
    )
    with working_in(home):
        for name, version in (("my-board", 1), ("demo", 0), ("demo", 1), ("verification", 1)):
            file = Path("my-board.toml" if name == "my-board" else f"suite-{name}-{version}.toml")
            file.write_text(suite(name, version))
            run = f"runs/{name}" if version else "runs/adhoc-0123456789"
            assert main(["run", str(file), "--workers", "0", "--quiet", "--out", run]) == 0
            assert main(["leaderboard", "build", run, "--out", "leaderboards"]) == 0
    return home


def write_network(home: Path, task: Any, name: str) -> None:
    card = tiny_card(task, (SIZE, SIZE))
    shutil.copy(card.path, home / f"{name}.onnx")
    kind = (
        'kind = "embedding"\nthreshold = 0.5\n'
        if task == "verification"
        else f'kind = "logits"\nclasses = {json.dumps(card.output.classes)}\npositive = "{card.output.positive}"\n'
    )
    (home / f"{name}.toml").write_text(
        f'[model]\nname = "{name}"\ntask = "{task}"\nfile = "{name}.onnx"\nlicence = "CC0-1.0"\nsource = "a test"\n\n'
        f"[input]\nsize = [{SIZE}, {SIZE}]\nmean = [0.5]\nstd = [0.5]\n\n[output]\n{kind}"
    )


def write_faces(home: Path) -> None:
    """Write pairs, with a file of pairs beside them and among them, and a folder for each class."""
    rows = ["image_a,image_b,same"]
    (home / "faces").mkdir()
    for p, pair in enumerate(TinyDataset("verification", 8, size=(SIZE, SIZE)).items()):
        for face, name in ((pair.a, f"p{p}_0.png"), (pair.b, f"p{p}_1.png")):  # type: ignore[union-attr]
            save(face, home / "faces" / name)
        rows.append(f"p{p}_0.png,p{p}_1.png,{int(pair.same)}")  # type: ignore[union-attr]
    for place in (home / "pairs.csv", home / "faces" / "pairs.csv"):
        place.write_text("\n".join(rows) + "\n")
    for name, wanted in (("a.png", "p0_0.png"), ("b.png", "p0_1.png")):
        shutil.copy(home / "faces" / wanted, home / "faces" / name)
    for i, sample in enumerate(TinyDataset("pad", 8, size=(SIZE, SIZE)).items()):
        (home / "faces" / sample.label).mkdir(exist_ok=True)  # type: ignore[union-attr]
        save(sample.face, home / "faces" / sample.label / f"a{i}.png")  # type: ignore[union-attr]


def save(face: Face, path: Path) -> None:
    Image.fromarray(np.rint(face.read() * 255).astype(np.uint8)).save(path)


def suite(name: str, version: int) -> str:
    return (
        f'[suite]\nname = "{name}"\nversion = {version}\ndescription = "a test"\nlimit = 2\nmodels = ["my-net.toml"]\n'
        'datasets = ["pairs:pairs.csv@faces"]\nexplainers = ["random", "centre-prior", "edges", "rise(masks=8)"]\n'
        'metrics = ["gap-similarity-score@1(grid=4,points=3)", "entropy@1"]\n'
    )


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "")
        yield


# --- commands


def small(words: list[str]) -> list[str]:
    """Return a command with fewer samples; the cheapest explainer and metric where it names none."""
    if words[:2] == ["leaderboard", "show"]:
        return ["entropy@1" if word == "gap@1(grid=14)" else word for word in words]
    if words[0] == "optimum":
        return [*words, "--grid", "2", "--limit", "1"]
    if words[0] != "run" or "--help" in words:
        return words
    if "--retry-failed" in words:
        return ["run", "--retry-failed", "--out", "runs/my-board", "--quiet"]
    more = ["--limit", "2", "--workers", "0", "--quiet", *(BUILTIN if "demo" in words else [])]
    for option, cheap in (("--explainer", "centre-prior"), ("--metric", "entropy@1")):
        more += [] if option in words else [option, cheap]
    return [*cheaper(words), *more]


def cheaper(words: list[str]) -> list[str]:
    """Drop explainers that take long, where there are others."""
    slow = [
        i for i, (option, value) in enumerate(itertools.pairwise(words)) if option == "--explainer" and value in SLOW
    ]
    if len(slow) == words.count("--explainer"):
        return words
    return [word for i, word in enumerate(words) if i not in slow and i - 1 not in slow]


def shell_lines(block: Block) -> list[str]:
    """Return the lines of a shell block, comments and prompts cut off."""
    lines = [line.strip().removeprefix("$ ") for line in block.text.splitlines()]
    return [re.sub(r"\s+#.*$", "", line) for line in lines if line and not line.startswith("#")]


def parts_of(line: str) -> tuple[dict[str, str], str]:
    """Return the variables that a line sets, and the rest."""
    found = dict(re.findall(r"([A-Z_]+)=(\S*)\s", line[: len(line) - len(re.sub(r"^(?:[A-Z_]+=\S*\s+)+", "", line))]))
    return found, re.sub(r"^(?:[A-Z_]+=\S*\s+)+", "", line)


COMMANDS: list[tuple[str, str]] = []
UNKNOWN: list[str] = []
for _page in PAGES:
    for _block in blocks(_page):
        if _block.language not in SHELL:
            continue
        _lines = shell_lines(_block)
        if (name_of(_page), _lines[0]) in PICTURES:
            continue
        for _line in _lines:
            for _part in _line.split(" && "):
                if parts_of(_part)[1].startswith("faithface "):
                    COMMANDS.append((name_of(_page), _part))
                elif not _part.startswith((*PROGRAMS, ". .venv", "cd ")):
                    UNKNOWN.append(f"{name_of(_page)}: {_part}")


def why_not(page: str, line: str) -> str | None:
    """Return the test that runs a command elsewhere, or the reason why none does; None: it runs here."""
    _, text = parts_of(line)
    words = text.removeprefix("faithface ")
    arguments = shlex.split(re.sub(r"\s[>|].*$", "", words), comments=True)
    if is_synopsis(arguments) or any(re.fullmatch(r"[A-Z]+(\|[A-Z]+)+", word) for word in arguments):
        return Why.FORM
    return lookup(ELSEWHERE, page, words) or lookup(NOT_RUN, page, words)


HERE = [(page, line) for page, line in COMMANDS if why_not(page, line) is None]


def test_every_line_is_a_command_that_is_known() -> None:
    assert not UNKNOWN, "neither faithface nor a program of tests/docs/ledger.py"
    assert len(HERE) > 40


def test_commands_are_found_as_the_other_tests_find_them() -> None:
    for page in PAGES:
        mine = [line for name, line in COMMANDS if name == name_of(page)]
        assert len(mine) == len(list(command_lines(page))), name_of(page)


@pytest.mark.parametrize("page", sorted({page for page, _ in HERE}))
def test_the_commands_of_a_page_run(folder: Path, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    with working_in(folder), pytest.MonkeyPatch.context() as patch:
        if page in FILES:  # what the page shows is saved as it says
            (first, *_) = [text for name, text in PYTHON if name == page]
            Path(FILES[page]).write_text(first)
            patch.setenv(VARIABLE, str(folder / FILES[page]))
        for line in [line for name, line in HERE if name == page]:
            variables, text = parts_of(line)
            command, _, target = text.partition(" > ")
            words = shlex.split(command.removeprefix("faithface "), comments=True)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in variables.items():
                    patch.setenv(name, value)
                try:
                    code = main(small(words))
                except SystemExit as stop:  # --help and --version
                    code = int(stop.code or 0)
            said = capsys.readouterr()
            assert code == 0, f"{page}: {line}\n{said.err[-1500:]}"
            if target:
                Path(target.strip()).write_text(said.out)


# --- Python

NAMES: dict[str, str] = {
    "docs/reference/hooks.md": "import faithface\nfrom pathlib import Path\n",
    "docs/reference/testing.md": "import dataclasses\nimport faithface\nMyExplainer = lambda: faithface.load_registry()"
    ".explainer('saliency').object\n",
    "docs/reference/python-api.md": "import torch\nmodule = torch.nn.Sequential(torch.nn.Flatten(), "
    "torch.nn.Linear(3 * 16 * 16, 2)).eval()\nimages, maps = torch.rand(2, 3, 16, 16), torch.rand(2, 16, 16)\n",
}
"""What the text of a page has introduced before its blocks use it."""
FILES = {"docs/how-to/write-a-fill.md": "nearest.py", "docs/how-to/write-a-metric.md": "mirror_symmetry.py"}
"""Under which name the first block of a page is saved before its commands."""
SMALLER: dict[str, tuple[tuple[str, str], ...]] = {
    "docs/datasets/planted.md": (("identities=200", "identities=2"), ("n=2000", "n=4")),
    "docs/how-to/find-shortcuts.md": (("limit=30", "limit=4, fills=1"),),
    "docs/how-to/report-on-a-network.md": (("judged=0", "judged=0, samples=2, fills=1, compare=0"),),
    "docs/how-to/why-this-face.md": (('pairs.csv@faces"', 'pairs.csv@faces", fill="blur", fills=1'),),
    "docs/how-to/write-a-fill.md": (("check_fill(Nearest())", "check_fill(Nearest(), tasks=['pad'])"),),
    "docs/reference/python-api.md": (("limit=8", "limit=2"), ('"--limit", "4"', json.dumps([*BUILTIN, *QUICK])[1:-1]),
                                     ("gap@1(grid=14)", "gap@1(grid=4)")),
    "docs/reference/testing.md": (("my-package", "faithface"), ("MyExplainer())", "MyExplainer(), max_examples=0)")),
    "README.md": ((")\nprint", "    limit=2,\n)\nprint"), ('"fggb"', '"saliency"')),
}  # fmt: skip
"""What costs less and shows the same."""

PYTHON = [
    (name_of(page), block.text) for page in PAGES for block in blocks(page) if block.language == "python"
]  # fmt: skip
PYTHON_HERE = [(page, text) for page, text in PYTHON if lookup(ELSEWHERE, page, text) is None]


@pytest.mark.parametrize("page", sorted({page for page, _ in PYTHON_HERE}))
def test_the_python_of_a_page_runs(folder: Path, tmp_path: Path, page: str) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(NAMES.get(page, ""), names)
    with working_in(tmp_path if page in OWN_FOLDER else folder):
        for text in [text for name, text in PYTHON_HERE if name == page]:
            for old, new in SMALLER.get(page, ()):
                text = text.replace(old, new)
            # Signatures name types that only a reader needs.
            exec(compile("from __future__ import annotations\n" + text, page, "exec"), names)
    if page == "docs/how-to/write-a-fill.md":
        assert not names["result"].failures


# --- the ledger


def test_what_runs_elsewhere_is_there_and_every_entry_still_names_something() -> None:
    texts = [(page, parts_of(line)[1].removeprefix("faithface ")) for page, line in COMMANDS] + PYTHON
    texts += [(name_of(page), block.text) for page in PAGES for block in blocks(page) if block.language == "toml"]
    for table in (ELSEWHERE, NOT_RUN):
        for (page, start), what in table.items():
            assert any(where == page and text.startswith(start) for where, text in texts), f"{page}: {start}"
            assert isinstance(what, Why) or exists(what), what
    for page, line in PICTURES:
        assert line in (ROOT / page).read_text(encoding="utf-8")
    for why in (*NOT_RUN.values(), *PROGRAMS.values()):
        for file in re.findall(r"tests/[\w/]+(?:\.py)?", why):
            assert (ROOT / file).exists(), why
