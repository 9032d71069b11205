"""The checks of explainers, with what each asks and what to do.

Place in the flow: ``check_explainer`` is what plugin authors call, through ``faithface.testing``. What a check does is
in ``asked_of_explainers``. May call ``findings`` and the core.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from faithface.contract import Cache, Explainer
from faithface.errors import NotApplicable
from faithface.tasks import Task
from faithface.testing import asked_of_explainers as ask
from faithface.testing.findings import Check, Finding, Outcome, Report, Severity, expect, run_checks
from faithface.testing.shelf import borrowing
from faithface.testing.watching import restored

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
VALID = ("returns-maps", "shape", "dtype", "finite")
COPY = "work on a clone: samples.images.clone()"
CHECKS: tuple[Check[ask.Trial], ...] = (
    Check(
        "documented",
        "Has the class a docstring that explains its parameters?",
        "write it: the first line says what a map shows",
        ask.declares,
        WARNING,
        once=True,
    ),
    Check(
        "cites-source",
        "Does `method.source` name the paper?",
        "name the paper, or say that there is none",
        ask.cites,
        WARNING,
        once=True,
    ),
    Check(
        "pickles",
        "Can it be sent to a worker process?",
        "define the class at the top of an importable module, and hold plain values",
        ask.pickles,
        once=True,
    ),
    Check(
        "returns-maps",
        "Does `explain` return the maps that the task wants?",
        "return faithface.Maps; Maps.from_views builds them for every task",
        ask.returns_maps,
    ),
    Check(
        "shape",
        "Have the maps the shape of the model's input, also where it is not square?",
        "resize to model.size, height first",
        ask.shape,
        after=("returns-maps",),
    ),
    Check("dtype", "Are the maps float32?", "end with .to(torch.float32)", ask.dtype, after=("returns-maps",)),
    Check("detached", "Are the maps free of the graph?", "end with .detach()", ask.detached, after=("returns-maps",)),
    Check(
        "finite",
        "Are all values finite?",
        "guard divisions and logarithms: a map may be all zero",
        ask.finite,
        after=("returns-maps",),
    ),
    Check(
        "not-negative",
        "Are similarity and dissimilarity at least 0?",
        "clamp at 0, or let Maps.from_views split a signed map",
        ask.not_negative,
        after=("returns-maps",),
    ),
    Check(
        "any-image",
        "Does any image get a valid map: black, white, constant, noise?",
        "guard divisions by a range or a norm that may be 0",
        ask.any_image,
        after=(*VALID, "detached"),
    ),
    Check(
        "deterministic",
        "Do two calls on one batch give the same maps?",
        "draw from samples.rng(index, purpose), and keep no state between calls",
        ask.deterministic,
        after=VALID,
    ),
    Check(
        "seeded-as-declared",
        "Do maps follow the seed if, and only if, `method.seeded` says so?",
        "set method.seeded, and draw from samples.rng",
        ask.seeded,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "global-random",
        "Is it free of the global random generators?",
        "draw from samples.rng(index, purpose); never call manual_seed or np.random.seed",
        ask.global_random,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "batch-independent",
        "Is a sample's map the same alone and in a batch?",
        "normalise each map by itself, and draw per sample",
        ask.batch_independent,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "order-independent",
        "Is a sample's map the same at another place of the batch?",
        "draw per sample: samples.rng(index, purpose)",
        ask.order_independent,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "company-independent",
        "Is a sample's map the same beside other samples?",
        "use nothing of the other samples, such as the batch's mean or maximum",
        ask.company_independent,
        after=(*VALID, "deterministic", "batch-independent"),
    ),
    Check(
        "inputs-untouched",
        "Are images, scores and items as they were?",
        COPY,
        ask.inputs_untouched,
        after=("returns-maps",),
    ),
    Check(
        "model-untouched",
        "Has the twin the same weights, hooks and modes as before?",
        "remove hooks in a `finally`, and change no weight",
        ask.model_untouched,
        after=("returns-maps",),
    ),
    Check(
        "process-untouched",
        "Are default dtype, gradient mode and the like as they were?",
        "use the context managers of torch, such as torch.enable_grad()",
        ask.process_untouched,
        after=("returns-maps",),
    ),
    Check(
        "memory-released",
        "Is nothing kept from call to call?",
        "keep no tensors in attributes, module variables or closures",
        ask.memory_released,
        after=VALID,
    ),
    Check(
        "on-a-device",
        "Would it run where the model is on a GPU?",
        "make tensors with device=samples.images.device",
        ask.on_a_device,
        after=VALID,
    ),
    Check(
        "informative",
        "Do maps of images with clear evidence have any structure?",
        "look at a picture: `faithface explain`",
        ask.informative,
        after=VALID,
    ),
    Check(
        "right-sign",
        "Is the sign the right way round?",
        "larger must mean: speaks more for the decision",
        ask.right_sign,
        after=(*VALID, "informative"),
    ),
    Check(
        "right-way-round",
        "Is the map neither mirrored, turned nor transposed?",
        "check the order of height and width",
        ask.right_way_round,
        after=(*VALID, "informative", "right-sign"),
    ),
    Check(
        "in-place",
        "Does the map lie where the evidence lies?",
        "check padding and the grid that masks are drawn on; resize with align_corners=False",
        ask.in_place,
        after=(*VALID, "informative", "right-sign", "right-way-round"),
    ),
    Check(
        "beats-random",
        "Does it find known evidence better than a random map?",
        "look at a picture; a map that shows no evidence by design is a control: Method(control=True)",
        ask.beats_random,
        after=(*VALID, "informative", "right-sign", "right-way-round"),
    ),
    Check(
        "of-this-sample",
        "Do different images get different maps?",
        "the map must depend on the image",
        ask.each_its_own,
        after=(*VALID, "informative"),
    ),
    Check(
        "completeness",
        "Do maps sum up to differences of the score, where that is promised?",
        "more steps, or do not promise it",
        ask.completeness,
        after=VALID,
    ),
    Check(
        "translation",
        "Does the map move with the image, where that is promised?",
        "look at borders and strides, or do not promise it",
        ask.translation,
        after=VALID,
    ),
    Check(
        "flip",
        "Is the map of a mirrored image the mirrored map?",
        "not an error: grids, segments and random masks are not symmetric",
        ask.flip,
        NOTE,
        after=VALID,
    ),
)


def check_explainer(
    explainer: Explainer,
    *,
    expected_failures: Mapping[str, str] | None = None,
    max_examples: int = 10,
    only: Sequence[str] | None = None,
    tasks: Sequence[Task] | None = None,
) -> Report:
    """Try an explainer on networks whose evidence is known, for every task that it declares.

    Args:
        explainer: as it would be registered.
        expected_failures: checks that cannot pass, each with the reason; one that passes all the same is a failure.
        max_examples: how many images Hypothesis makes up for each task; 0: none.
        only: names of checks; None: all.
        tasks: the tasks to try; None: all that it declares.

    Returns:
        One finding per check and task. The classifier tasks are the same to an explainer; the second is tried with
        the first checks only.
    """
    chosen = [check for check in CHECKS if only is None or check.name in only]
    found: list[Finding] = []
    chosen_tasks = sorted(explainer.info.tasks if tasks is None else set(tasks) & explainer.info.tasks)
    found += run_checks([c for c in chosen if c.once], ask.Trial(explainer, chosen_tasks[0], max_examples))
    for task in chosen_tasks:
        again = task == "synthetic-detection" and "pad" in chosen_tasks
        some = [c for c in chosen if not c.once and (not again or c.name in (*VALID, "not-negative"))]
        trial = ask.Trial(explainer, task, max_examples)
        with borrowing():
            refusal = refused(trial)
            found += [Finding("applies", task, *refusal)] if refusal else run_checks(some, trial, task)
    return Report("explainer", explainer.name, expect(found, expected_failures or {}, [c.name for c in CHECKS]))


def refused(trial: ask.Trial) -> tuple[Any, Severity, str] | None:
    """Return why the explainer cannot be tried on the tiny network at all; None if it can."""
    from faithface.applicability import explainer_applies

    dataset = trial.samples.dataset
    assert dataset is not None
    if reason := explainer_applies(trial.model.card, dataset, trial.explainer):
        return Outcome.SKIPPED, NOTE, reason.detail
    try:
        with restored(trial.traces):
            trial.explainer.explain(trial.model, dataclasses.replace(trial.samples.take([0]), cache=Cache()))
    except NotApplicable as error:
        return Outcome.SKIPPED, NOTE, str(error)
    except Exception:
        return None  # the checks say so
    return None
