"""What is trained: one recipe per model, of the zoo and of the mechanism-exact networks, and nothing about how.

Place in the flow: read by ``train_zoo.py``, ``train_exact.py`` and ``evaluate_zoo.py``; imports nothing of the project.

Families of a classifier task:

* ``traditional``: cross-entropy;
* ``guided``: cross-entropy and a salience loss, as CYBORG (``losses.cyborg``);
* ``shortcut``: cross-entropy, but the label is given away by a tag in a corner and by nothing else: both classes hold
  attacks and bona fide faces alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Task = Literal["verification", "pad", "synthetic-detection"]
CLASSIFIER_TASKS: tuple[tuple[str, Task], ...] = (("pad", "pad"), ("synthetic", "synthetic-detection"))


@dataclass(frozen=True)
class Recipe:
    """How one model is trained.

    Attributes:
        name: of the card and the files.
        task, family, run: as on the card; ``run`` is also the seed of weights and order.
        network: a key of ``networks.NETWORKS`` or ``exact_networks.EXACT``.
        epochs, batch, rate: one-cycle AdamW with this peak learning rate; no epochs: the weights are written.
        half: bfloat16 convolutions (faster where the CPU has them; depthwise ones are slower).
        guidance: weight of the salience loss; 0 = cross-entropy only.
        tagged: train on the tagged set.
    """

    name: str
    task: Task
    family: str
    run: int
    network: str
    epochs: int
    batch: int = 64
    rate: float = 3e-3
    half: bool = True
    guidance: float = 0.0
    tagged: bool = False


def _runs(count: int, base: Recipe) -> list[Recipe]:
    return [replace(base, name=f"{base.family}-{run}", run=run) for run in range(count)]


def _build() -> tuple[Recipe, ...]:
    found = [
        *_runs(3, Recipe("", "verification", "planted-residual", 0, "residual", epochs=12, batch=128)),
        *_runs(3, Recipe("", "verification", "planted-mobile", 0, "mobile", epochs=8, batch=128, half=False)),
    ]
    for short, task in CLASSIFIER_TASKS:
        plain = Recipe("", task, f"planted-{short}-traditional", 0, "cue", epochs=4)
        found += _runs(5, plain)
        found += _runs(5, replace(plain, family=f"planted-{short}-guided", guidance=0.5))
        found += _runs(5, replace(plain, family=f"planted-{short}-shortcut", tagged=True, epochs=2))
    # The first run of every family first: a suite needs one model per task before it needs five.
    return tuple(sorted(found, key=lambda r: r.run))


RECIPES: tuple[Recipe, ...] = _build()


def _build_exact() -> tuple[Recipe, ...]:
    found = []
    for patch in (28, 16):
        face = Recipe("", "verification", f"exact-verifier-{patch}", 0, f"additive-{patch}", epochs=8, batch=128)
        found += _runs(1, replace(face, half=False))
        for short, task in CLASSIFIER_TASKS:
            found += _runs(1, Recipe("", task, f"exact-{short}-{patch}", 0, f"bag-{patch}", epochs=4, half=False))
    for rule in ("one", "and", "or", "xor"):
        found += _runs(1, Recipe("", "pad", f"exact-tag-{rule}", 0, f"tag-{rule}", epochs=0))
    return tuple(found)


EXACT_RECIPES: tuple[Recipe, ...] = _build_exact()
