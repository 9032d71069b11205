"""The checks of fills, with what each asks and what to do.

Place in the flow: ``check_fill`` is what plugin authors call, through ``faithface.testing``. What a check does is in
``asked_of_fills``, or where it is the same for explainers in ``asked_of_explainers``. May call ``findings``, ``shelf``
and the core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from faithface.contract import Fill
from faithface.tasks import TASKS, Task
from faithface.testing import asked_of_explainers as common
from faithface.testing import asked_of_fills as ask
from faithface.testing.findings import Check, Finding, Report, Severity, expect, run_checks
from faithface.testing.shelf import borrowing

WARNING = Severity.WARNING
VALID = ("returns-images", "shape", "dtype", "finite", "in-range")
DRAW = "draw from removal.rng(index, purpose), and keep no state between calls"
CHECKS: tuple[Check[Any], ...] = (
    Check(
        "documented",
        "Has the class a docstring that explains its parameters?",
        "write it: the first line says what replaces removed pixels",
        common.declares,
        WARNING,
        once=True,
    ),
    Check(
        "cites-source",
        "Does `filling.source` name the paper or the generator?",
        "name it, or say that there is none",
        ask.cites,
        WARNING,
        once=True,
    ),
    Check(
        "pickles",
        "Can it be sent to a worker process?",
        "define the class at the top of an importable module, and load weights on first use",
        common.pickles,
        once=True,
    ),
    Check("returns-images", "Does `fill` return a tensor?", "return a torch tensor", ask.returns_images),
    Check(
        "shape",
        "Have the images the shape of the faces, also where they are not square?",
        "resize to the size of removal.images",
        ask.shape,
        after=("returns-images",),
    ),
    Check("dtype", "Are the images float32?", "end with .to(torch.float32)", ask.dtype, after=("returns-images",)),
    Check("finite", "Are all values finite?", "guard divisions and logarithms", ask.finite, after=("returns-images",)),
    Check(
        "in-range",
        "Do all values lie in [0, 1]?",
        "end with .clamp(0, 1); the card's normalisation comes later",
        ask.in_range,
        after=("returns-images", "finite"),
    ),
    Check(
        "any-image",
        "Is any image filled: black, white, constant, noise?",
        "guard divisions by a range or a norm that may be 0",
        ask.any_image,
        after=VALID,
    ),
    Check("deterministic", "Do two calls on one batch give the same images?", DRAW, common.deterministic, after=VALID),
    Check(
        "seeded-as-declared",
        "Do the images follow the seed if, and only if, `filling.seeded` says so?",
        "set filling.seeded, and draw from removal.rng",
        common.seeded,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "global-random",
        "Is it free of the global random generators?",
        "draw from removal.rng(index, purpose); give a generator of torch a seed drawn from it",
        common.global_random,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "batch-independent",
        "Is a face's fill the same alone and in a batch?",
        "fill each face by itself, and draw per face",
        common.batch_independent,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "order-independent",
        "Is a face's fill the same at another place of the batch?",
        "draw per face: removal.rng(index, purpose)",
        common.order_independent,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "company-independent",
        "Is a face's fill the same beside other faces?",
        "use nothing of the other faces of the batch",
        common.company_independent,
        after=(*VALID, "deterministic", "batch-independent"),
    ),
    Check(
        "inputs-untouched",
        "Are images, scores and items as they were?",
        "work on a clone: removal.images.clone()",
        common.inputs_untouched,
        after=VALID,
    ),
    Check(
        "model-untouched",
        "Has the twin the same weights, hooks and modes as before?",
        "remove hooks in a `finally`, and change no weight",
        common.model_untouched,
        after=VALID,
    ),
    Check(
        "process-untouched",
        "Are default dtype, gradient mode and the like as they were?",
        "use the context managers of torch, such as torch.no_grad()",
        common.process_untouched,
        after=VALID,
    ),
    Check(
        "memory-released",
        "Is nothing kept from call to call?",
        "keep a generator's weights, but none of its results",
        ask.memory_released,
        after=VALID,
    ),
    Check(
        "on-a-device",
        "Would it run where the model is on a GPU?",
        "make tensors with device=removal.images.device",
        ask.on_a_device,
        after=VALID,
    ),
    Check(
        "ignores-removed",
        "Is a fill that sees the mask free of what lies under it?",
        "set removed pixels to a constant before anything reads the image",
        ask.ignores_removed,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "removes-evidence",
        "Does the score fall where the fill replaces the evidence?",
        "look at a picture: the fill must show something else than the face",
        ask.removes_evidence,
        after=VALID,
    ),
)


def check_fill(
    fill: Fill,
    *,
    expected_failures: Mapping[str, str] | None = None,
    only: Sequence[str] | None = None,
    tasks: Sequence[Task] | None = None,
) -> Report:
    """Try a fill on images whose evidence is known, for every task that it declares.

    Args: as of :func:`~faithface.testing.check_explainer`.

    Returns:
        One finding per check and task. The classifier tasks are the same to a fill; one of them is tried.
    """
    chosen = [check for check in CHECKS if only is None or check.name in only]
    declared = [task for task in TASKS if task in fill.filling.tasks and (tasks is None or task in tasks)]
    if "pad" in declared and "synthetic-detection" in declared:
        declared.remove("synthetic-detection")
    found: list[Finding] = []
    if declared:
        found += run_checks([c for c in chosen if c.once], ask.Trial(fill, declared[0]))
    for task in declared:
        with borrowing():
            found += run_checks([c for c in chosen if not c.once], ask.Trial(fill, task), task)
    return Report("fill", fill.name, expect(found, expected_failures or {}, [c.name for c in CHECKS]))
