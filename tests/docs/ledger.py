"""Which test runs each code block and command of the documentation, and which of them none can run, with the reason.

Place in the flow: ``test_executed`` runs what is in neither table and fails on entries that the pages no longer have.
A command is named by its page and its words; a block of Python by its page and first line.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from tests.docs.pages import ROOT


class Why(StrEnum):
    """Why a test cannot run a line."""

    CLUSTER = "needs a cluster of machines; tests/run/test_ray.py starts one on this machine"
    GPU = "needs a GPU"
    INSTALLS = "installs packages from an index; tests/testing/test_template.py installs built wheels"
    TOX = "sets up environments; continuous integration runs it"
    MINUTES = "takes minutes to hours; what it calls has tests of its own"
    SET = "needs a published set or network; tests/plugins/datasets opens written folders of each format"
    SERVES = "serves until it is stopped; tests/boards/site opens what it serves"
    SHELL = "is not about faithface"
    PICTURE = "shows what a command prints or how a folder looks"
    FORM = "is the form of a command, with capital letters for what users type"


PROGRAMS = {
    "python -m pip": Why.INSTALLS,
    "python -m venv": Why.INSTALLS,
    "python -m pytest": Why.TOX,
    "python -m training": Why.MINUTES,
    "tox": Why.TOX,
    "ruff": Why.TOX,
    "mypy": Why.TOX,
    ".ci/": Why.TOX,
    "ray": Why.CLUSTER,
    "git": Why.SHELL,
    "mkdir": Why.SHELL,
}
"""Other programs that pages call, by how a line begins."""

PICTURES = {
    ("docs/how-to/find-shortcuts.md", "part                    share  95 % interval   turns  verdict"),
    ("docs/how-to/resume-and-status.md",
     "changed since this run was started: the images and labels; computed again: 1 of 125 shards"),
}  # fmt: skip
"""Blocks without a language that hold no command."""

NOT_RUN: dict[tuple[str, str], Why] = {
    ("docs/explanation/audit.md", "audit --join one"): Why.MINUTES,
    ("docs/explanation/audit.md", "audit --metric gap@1"): Why.MINUTES,
    ("docs/explanation/ladder.md", "check my-plugin"): Why.INSTALLS,
    ("docs/explanation/ladder.md", "leaderboard build"): Why.MINUTES,
    ("docs/explanation/trust.md", "verify leaderboards/demo/latest --sample 20"): Why.MINUTES,
    ("docs/explanation/trust.md", "verify leaderboards/demo/latest --attest"): Why.MINUTES,
    ("docs/how-to/gpu.md", "run verification --device cuda"): Why.GPU,
    ("docs/how-to/look-at-a-board.md", "view"): Why.SERVES,
    ("docs/reference/command-line.md", "view"): Why.SERVES,
    ("docs/how-to/run-on-many-machines.md", "run"): Why.CLUSTER,
    ("docs/how-to/submit-results.md", "verify"): Why.MINUTES,
    ("docs/how-to/use-published-sets.md", "run"): Why.SET,
    ("docs/how-to/use-published-sets.md", "inspect"): Why.SET,
    ("docs/how-to/submit-results.md", "leaderboard check"): Why.MINUTES,
    ("docs/reference/command-line.md", "leaderboard check"): Why.MINUTES,
    ("docs/how-to/publish-a-board.md", "leaderboard check leaderboards/my-board --sample 4"): Why.MINUTES,
}
"""Commands by page and first words."""

ELSEWHERE: dict[tuple[str, str], str] = {
    ("docs/how-to/why-this-face.md", "why"): "tests/answers/test_why.py::test_the_commands_of_the_how_to_page_run",
    ("docs/how-to/find-shortcuts.md", "shortcuts"): "tests/docs/test_recipes.py::test_deepfakebench",
    ("docs/how-to/report-on-a-network.md", "report"): "tests/docs/test_recipes.py::test_minifasnet",
    ("docs/how-to/recipes/adaface.md", ""): "tests/docs/test_recipes.py::test_adaface",
    ("docs/how-to/recipes/deepfakebench.md", ""): "tests/docs/test_recipes.py::test_deepfakebench",
    ("docs/how-to/recipes/insightface-buffalo.md", ""): "tests/docs/test_recipes.py::test_insightface_buffalo",
    ("docs/how-to/recipes/minifasnet.md", ""): "tests/docs/test_recipes.py::test_minifasnet",
    ("docs/how-to/write-a-plugin.md", "new-plugin my-method --update"):
        "tests/testing/test_template.py::test_an_author_takes_later_changes_of_the_template_and_keeps_what_is_his",
    ("docs/how-to/write-a-plugin.md", "new-plugin"):
        "tests/testing/test_template.py::test_the_command_says_what_comes_next",
    ("docs/how-to/write-a-plugin.md", "check"):
        "tests/testing/test_template.py::test_a_plugin_of_each_kind_builds_installs_passes_its_tests_and_leaves_no_trace",
    ("docs/how-to/write-a-plugin.md", "run demo --explainer my-method"):
        "tests/docs/test_plugin_pages.py::test_the_tutorial_s_method_is_on_the_board",
    ("docs/how-to/write-a-plugin.md", "run demo --plugin mine.py"):
        "tests/docs/test_plugin_pages.py::test_the_file_of_the_page_runs_as_the_page_says",
    ("docs/how-to/write-a-plugin.md", "from dataclasses import dataclass"):
        "tests/docs/test_plugin_pages.py::test_the_file_of_the_page_runs_as_the_page_says",
    ("docs/how-to/write-a-plugin.md", 'result = faithface.evaluate("planted-pad-guided-0"'):
        "tests/docs/test_plugin_pages.py::test_the_file_of_the_page_runs_as_the_page_says",
    ("docs/how-to/write-an-explainer.md", ""):
        "tests/docs/test_docs.py::test_the_explainer_of_the_how_to_page_installs_and_is_listed",
    ("docs/how-to/write-a-metric.md", '"""Mirror symmetry'):
        "tests/docs/test_docs.py::test_the_explainer_and_the_metric_of_the_how_to_pages_run_through_evaluate",
    ("docs/tutorial/first-board.md", ""): "tests/docs/test_docs.py::test_the_tutorial_leads_to_a_board",
    ("docs/tutorial/first-explainer.md", "new-plugin"):
        "tests/testing/test_template.py::test_the_command_says_what_comes_next",
    ("docs/tutorial/first-explainer.md", "check"):
        "tests/docs/test_plugin_pages.py::test_the_tutorial_s_method_conforms_and_a_flipped_sign_is_found",
    ("docs/tutorial/first-explainer.md", "from dataclasses import dataclass"):
        "tests/docs/test_plugin_pages.py::test_the_tutorial_s_method_conforms_and_a_flipped_sign_is_found",
    ("docs/tutorial/first-explainer.md", "run"):
        "tests/docs/test_plugin_pages.py::test_the_tutorial_s_method_is_on_the_board",
    ("docs/tutorial/first-explainer.md", "leaderboard"):
        "tests/docs/test_plugin_pages.py::test_the_tutorial_s_method_is_on_the_board",
    ("docs/tutorial/my-onnx-model.md", ""): "tests/docs/test_model_tutorial.py::test_the_tutorial_leads_to_an_answer",
    ("docs/reference/card.md", ""): "tests/docs/test_docs.py::test_the_card_page_s_example_is_a_card",
    ("docs/how-to/use-your-own-faces.md", 'run --model resnet29 --dataset pairs:pairs.csv@faces --explainer "maps:'):
        "tests/plugins/explainers/test_precomputed.py",
}  # fmt: skip
"""What another test runs, by page and first words ("": all of the page), with the test."""


def lookup(table: dict[tuple[str, str], str] | dict[tuple[str, str], Why], page: str, text: str) -> str | None:
    """Return the entry of a table whose page is this one and with whose words the text begins."""
    found = [value for (where, start), value in table.items() if where == page and text.startswith(start)]
    return found[0] if found else None


def exists(test: str) -> bool:
    """Say whether a test is there: its file, and in it the function."""
    file, _, name = test.partition("::")
    path = Path(ROOT / file)
    return path.is_file() and (not name or f"def {name}(" in path.read_text(encoding="utf-8"))
