"""Maps per second of every explainer, beside pytorch-grad-cam and captum: ``bench``'s second table.

Place in the flow: called by ``suite``; explainers come from the plugin registry. pytorch-grad-cam is a development
dependency; where it is missing the rows show it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from faithface.bench.rivals import Logits, quiet
from faithface.bench.subjects import Subject, fresh, random_samples
from faithface.bench.timing import paired, seconds
from faithface.bench.work import bare_run
from faithface.contract import Explainer, Samples
from faithface.errors import FaithfaceError
from faithface.model.twin import preprocess
from faithface.plugins import load_registry

BARE = 256  # passes whose time gives that of a bare one
GRADIENT_CAMS = {
    "grad-cam": "GradCAM",
    "grad-cam++": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "xgrad-cam": "XGradCAM",
    "layer-cam": "LayerCAM",
    "eigen-cam": "EigenCAM",
}
CAPTUM = {"saliency": "Saliency", "input-x-gradient": "InputXGradient", "integrated-gradients": "IntegratedGradients"}


def maps_per_second(subject: Subject, images: int) -> list[dict[str, Any]]:
    """Time every registered explainer once (after one run to warm up, if it took less than a second).

    A row holds the passes per map, and for explainers with forward passes only their ``efficiency``: the time of as
    many bare passes / the time taken.
    """
    model = subject.model
    samples = random_samples(model, images)
    bare = bare_run(model, BARE, model.batching.batch)
    bare()
    rows = []
    registered_explainers = sorted(load_registry().explainers.items())
    if "saliency" in dict(registered_explainers):
        # The twin is built, and compared with the file on its first images, once a model: no explainer pays for it.
        with contextlib.suppress(FaithfaceError):
            _explain_all(subject, [dict(registered_explainers)["saliency"].object], samples)
    for name, registered in registered_explainers:
        explainer = registered.object
        if model.card.task not in explainer.info.tasks:
            continue
        row: dict[str, Any] = {"explainer": name, "network": subject.name}
        try:
            run = partial(_explain_all, subject, [explainer], samples)
            before = model.passes
            taken = seconds(run)
            spent = model.passes - before
            if taken < 1:
                taken = seconds(run)
            row |= {"forward": spent.forward // images, "backward": spent.backward // images}
            row["maps_per_second"] = round(images / taken, 2)
            if spent.forward > images and not spent.backward:
                row["efficiency"] = round(spent.forward * min(seconds(bare) for _ in range(3)) / BARE / taken, 3)
        except FaithfaceError as error:
            row["skipped"] = str(error)
        rows.append(row)
    return rows


def against_gradcam(subject: Subject, images: int, repeats: int, singly: bool = True) -> dict[str, Any]:
    """Return time(six separate pytorch-grad-cam runs) / time(the same six CAMs of one batch).

    With ``singly``, the ratio of each CAM alone as well.
    """
    registry = load_registry()
    missing = [name for name in GRADIENT_CAMS if name not in registry.explainers]
    if missing or subject.network is None or subject.layer is None:
        return {"skipped": f"explainers not installed: {', '.join(missing)}" if missing else "no torch layer is known"}
    try:
        cams = _import_gradcam()
    except Exception as error:  # an optional library may fail to import in any way
        return {"skipped": f"pytorch-grad-cam cannot be imported ({type(error).__name__})"}
    samples = random_samples(subject.model, images)
    ours = [registry.explainers[name].object for name in GRADIENT_CAMS]
    x = preprocess(samples.images, subject.model.card.input)

    def theirs_of(names: list[str]) -> Callable[[], None]:
        def run() -> None:
            for name in names:
                cams(subject, name, x, samples)

        return run

    def ours_of(explainers: list[Explainer]) -> Callable[[], None]:
        return lambda: _explain_all(subject, explainers, samples)

    both = paired(theirs_of(list(GRADIENT_CAMS.values())), ours_of(ours), repeats)
    singles = {
        name: round(paired(theirs_of([theirs]), ours_of([explainer]), 1).median, 3)
        for (name, theirs), explainer in zip(GRADIENT_CAMS.items(), ours, strict=True)
        if singly
    }
    return {"network": subject.name, "images": images, "six": both.as_dict(), "one_by_one": singles}


def against_captum(subject: Subject, images: int, repeats: int) -> dict[str, Any]:
    """Return time(captum on the torch network) / time(the registered explainer), for the classic attributions."""
    if subject.network is None:
        return {"skipped": "no torch network"}
    import captum.attr

    samples = random_samples(subject.model, images)
    x = preprocess(samples.images, subject.model.card.input)
    network = Logits(subject.network)
    registry = load_registry()
    ratios: dict[str, Any] = {"network": subject.name, "images": images}
    for name, theirs in CAPTUM.items():
        if name not in registry.explainers:
            continue
        explainer = registry.explainers[name].object
        steps = {"n_steps": getattr(explainer, "steps", 50)} if theirs == "IntegratedGradients" else {}
        method = getattr(captum.attr, theirs)(network)

        def run(method: Any = method, steps: dict[str, int] = steps) -> None:
            with quiet():
                method.attribute(x.clone().requires_grad_(True), target=samples.clean.predicted, **steps)

        ours = partial(_explain_all, subject, [explainer], samples)
        ratios[name] = round(paired(run, ours, repeats).median, 3)
    return ratios


def _explain_all(subject: Subject, explainers: list[Explainer], samples: Samples) -> None:
    batch = fresh(samples)
    # New tensors: the model's cache of the last batch must not serve this one.
    batch = type(batch)(batch.items, batch.images.clone(), batch.clean, batch.seed, batch.dataset)
    subject.model.forget()
    for explainer in explainers:
        explainer.explain(subject.model, batch)


def _import_gradcam() -> Callable[[Subject, str, Tensor, Samples], None]:
    from faithface.model._torchvision import import_onnx2pytorch

    import_onnx2pytorch()
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def run(subject: Subject, name: str, x: Tensor, samples: Samples) -> None:
        assert subject.network is not None
        targets = [ClassifierOutputTarget(int(c)) for c in samples.clean.predicted]
        with quiet(), getattr(pytorch_grad_cam, name)(model=subject.network, target_layers=[subject.layer]) as cam:
            cam(input_tensor=x, targets=targets)

    return run
