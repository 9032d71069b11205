"""A card and its ``.onnx`` file as a :class:`~faithface.contract.FaceModel`.

Place in the flow: opened once per model and device by ``run``; everything above sees only the contract. May call
``session``, ``autotune``, ``feeding``, ``derive``, ``batches``, ``beginnings``, ``endings``, ``explained``,
``products``, ``target``, ``tasks``, ``card``, ``errors``.

Forward passes go through ONNX Runtime. Gradients and activations go through the torch twin, which is compared with
ONNX Runtime before its first use, and again on the first real images (``parity.py``); a twin that differs is refused,
and only black-box explainers run.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from faithface.card import ModelCard
from faithface.contract import Activations, BatchingPolicy, DeviceFeed, FaceModel, HostFeed
from faithface.errors import NotApplicable, UsageError
from faithface.hashing import model_digest
from faithface.model.autotune import ALONE, autotune, fastest_batch, most_rows
from faithface.model.batches import find_batches
from faithface.model.beginnings import problem_with_range
from faithface.model.derive import Derived, Source, confirm, derive_twin, not_applicable, same_operators
from faithface.model.endings import ending, problem_with_kind
from faithface.model.engines import choose_engine
from faithface.model.explained import explained_scalar, needs_before
from faithface.model.feeding import session_feed
from faithface.model.parity import Parity
from faithface.model.prepare import Arithmetic, arithmetic_of
from faithface.model.products import vector_jacobian_products
from faithface.model.session import Session, load_proto
from faithface.model.target import execution_target
from faithface.model.twin import Twin, preprocess
from faithface.reasons import ReasonCode
from faithface.tasks import Target, class_probabilities
from faithface.threads import one_thread

DEFAULT_BATCH = 32
FEW = 8  # images for which no batching policy is measured


def open_model(card: ModelCard, device: str = "cpu", batch_size: int | None = None) -> OnnxModel:
    """Open a model on a device and check it against its card.

    Args:
        card: the model's card.
        device: an execution target's name, ``"cpu"`` or ``"cuda"`` for instance (:mod:`faithface.model.target`).
        batch_size: the largest number of images in one pass; default 32.

    Raises:
        UsageError: the file cannot be opened, does not fit its card, or the device is not available.
    """
    model = OnnxModel(card, device, batch_size or DEFAULT_BATCH)
    model.batch_given = batch_size
    return model


class OnnxModel(FaceModel):
    """See the module.

    Attributes:
        execution_target: where it runs; ``device`` is its torch device.
        session: the open ONNX Runtime session.
        batch_size: images per pass; 1 (or the file's own number) for files with a fixed batch axis.
        batch_given: the batch size that the user set; None: the batching policy is measured.

    Args:
        like: a model with the same operators and other weights, whose checks are not repeated.
    """

    notes: list[str]

    def __init__(self, card: ModelCard, device: str, batch_size: int, like: OnnxModel | None = None) -> None:
        if batch_size < 1:
            raise UsageError(f"batch size is {batch_size}; expected at least 1")
        self.execution_target = execution_target(device)
        self.card, self.device = card, self.execution_target.torch
        self.batch_given: int | None = None
        self.notes = []
        self._proto = load_proto(card.path)
        self._lent: onnx.ModelProto | None = None
        self.sha256 = model_digest(card.path)
        if card.sha256 and card.sha256 != self.sha256:
            raise UsageError(f"{card.path}: sha256 is {self.sha256}, but the card says {card.sha256}: another file")
        self.session = Session(card.path, card.output.name, device, what=str(card.path))
        self.provider = self.session.provider
        self._check_input()
        self._check_contributions()
        self.fixed_batch = like.fixed_batch if like else self._find_batches()
        self.batch_size = self.fixed_batch or batch_size
        self._like = like
        self._last: dict[Any, Any] = {}

    @property
    def proto(self) -> onnx.ModelProto:  # type: ignore[override]
        """A copy of the graph, for those who change weights; the model itself does not see what becomes of it."""
        if self._lent is None:
            self._lent = onnx.ModelProto()
            self._lent.CopyFrom(self._proto)
        return self._lent

    def take_back_proto(self) -> bool:
        """Say whether the copy that was lent has been changed; who asks for one from now on gets another."""
        lent, self._lent = self._lent, None
        if lent is None or lent == self._proto:
            return False
        # A number that is NaN differs from itself; its bytes do not.
        return lent.SerializeToString(deterministic=True) != self._proto.SerializeToString(deterministic=True)

    # --- checks on opening

    def _check_input(self) -> None:
        card, port = self.card.input, self.session.inputs[0]
        shape = port.shape[1:] if card.layout == "NCHW" else (port.shape[3], *port.shape[1:3])
        expected = (card.channels, *card.size)
        for key, got, want in zip(("channels", "height", "width"), shape, expected, strict=True):
            if got is not None and got != want:
                raise UsageError(
                    f"{self.card.path}: the input has {key} {got}, but the card's [input] says {want} "
                    f"(size = {list(card.size)}, color = {card.color}, layout = {card.layout})"
                )
        if problem := problem_with_range(self._proto.graph, card):
            self.notes.append(f'model "{self.card.name}": {problem}')

    def _check_contributions(self) -> None:
        declared = self.card.contributions
        if declared is None:
            return
        shapes = {port.name: port.shape for port in self.session.outputs}
        if declared.output not in shapes or declared.output == self.session.output:
            others = [name for name in shapes if name != self.session.output]
            raise UsageError(
                f"{self.card.path}: [contributions] names output '{declared.output}'; outputs beside "
                f"'{self.session.output}': {', '.join(others) or 'none'}"
            )
        got = shapes[declared.output][1:2]
        if got and got[0] not in (None, declared.patches):
            raise UsageError(
                f"{self.card.path}: output '{declared.output}' has {got[0]} patches, but the card's [contributions] "
                f"says grid {list(declared.grid)}, which is {declared.patches}"
            )

    def _find_batches(self) -> int | None:
        """Return the only batch size that works, or None for any; note what is odd, check outputs against the card."""
        generator = np.random.default_rng(0)

        def images(count: int) -> Tensor:
            return torch.as_tensor(generator.random((count, 3, *self.card.input.size)), dtype=torch.float32)

        half = arithmetic_of(self._proto) is Arithmetic.HALF
        tolerance = max(self.execution_target.tolerance, Arithmetic.HALF.tolerance if half else 0.0)
        what = f'model "{self.card.name}"'
        declared = self.session.fixed_batch
        found = find_batches(self._forward_chunk, images, self._proto, what, declared, tolerance)
        self._check_output(found.width)
        end = ending(self._proto.graph, self.session.output)
        problem = problem_with_kind(self.card.output.kind, end, found.outputs.cpu().numpy())
        if problem and self.card.output.kind != "embedding":
            raise UsageError(
                f"{self.card.path}: the card's [output] says {self.card.output.kind} for output "
                f"'{self.session.output}', but {problem}"
            )
        if found.note:
            self.notes.append(found.note)
        return found.fixed

    def _check_output(self, width: int) -> None:
        out = self.card.output
        expected = {"logits": len(out.classes), "probabilities": len(out.classes), "logit": 1, "probability": 1}
        if out.kind in expected and width != expected[out.kind]:
            raise UsageError(
                f"{self.card.path}: output '{self.session.output}' has {width} units, but the card's [output] says "
                f"{out.kind} with classes {list(out.classes)}, which is {expected[out.kind]}"
            )

    # --- forward, by ONNX Runtime

    def _forward_chunk(self, images: Tensor) -> Tensor:
        batch = preprocess(images.to(self.device, torch.float32), self.card.input)
        out = self.session.run_tensor(batch)
        if out.shape[0] != len(images):
            out = out.reshape(len(images), -1) if out.numel() % len(images) == 0 else out
        return out.reshape(out.shape[0], -1)

    def use_batching(self, policy: BatchingPolicy) -> None:
        self.session.use(policy)
        super().use_batching(policy)

    def _choose_batching(self) -> BatchingPolicy:
        if self.batch_given and not self.fixed_batch:
            return BatchingPolicy(self.batch_given)
        count = self.fixed_batch or most_rows(self.size, self.device)
        rows = np.random.default_rng(0).random((count, 3, *self.size), dtype=np.float32)
        ready = preprocess(torch.from_numpy(rows), self.card.input).contiguous().to(self.device)
        if self.fixed_batch:
            whole = BatchingPolicy(self.fixed_batch)
            alone: tuple[int, ...] = (self.fixed_batch,)
        else:
            alone = ALONE
            whole = fastest_batch(lambda n: self.session.run_tensor(ready[:n]).cpu(), self.size, self.device)
        if self.device != "cpu":
            return whole
        policy = autotune(self.session, ready.numpy(), whole, alone)
        return choose_engine(self.session, ready.numpy(), policy, self.sha256)

    def feed(self) -> HostFeed | DeviceFeed:
        return session_feed(self.session, self.card.input, self.fixed_batch)

    def with_weights(self, proto: onnx.ModelProto) -> OnnxModel:
        with tempfile.TemporaryDirectory() as folder:
            onnx.save(proto, Path(folder) / "other-weights.onnx")
            changes = {"root": Path(folder), "file": "other-weights.onnx", "sha256": ""}
            card = self.card.model_copy(update=changes)
            like = self if same_operators(self._proto, proto) else None
            opened = OnnxModel(card, self.execution_target.name, self.batch_given or DEFAULT_BATCH, like)
            opened.batch_given = self.batch_given
            opened.use_batching(self.batching)  # now, while the file exists: more threads reopen the session
        return opened

    def outputs(self, images: Tensor) -> Tensor:
        self._check_images(images)
        return self.outputs_of(len(images), images.__getitem__)

    def outputs_of(self, count: int, make: Callable[[slice], Tensor]) -> Tensor:
        if count < 1:
            raise UsageError(f"count is {count}; expected at least 1 image")
        self.count(forward=count)
        few = BatchingPolicy(self.fixed_batch or self.batch_size, self.session.workers, self.session.engine)
        # A few images are not worth the measurement; a caller with more images usually has many.
        policy = self.batching if count > FEW else few
        while True:
            try:
                return self._forward_by(policy, count, make)
            except Exception as error:  # ONNX Runtime and torch raise unrelated classes when memory runs out
                policy = self.reduce_batch(policy, error)

    def _forward_by(self, policy: BatchingPolicy, count: int, make: Callable[[slice], Tensor]) -> Tensor:
        rows = self.fixed_batch or min(policy.batch, -(-count // policy.workers))
        slices = [slice(start, min(start + rows, count)) for start in range(0, count, rows)]
        if policy.workers == 1 or len(slices) == 1:
            return torch.cat([self._forward_rows(make(part)) for part in slices])

        def alone(part: slice) -> Tensor:
            with one_thread():  # the other cores run passes of their own
                return self._forward_rows(make(part))

        return torch.cat(list(self.session.pool.map(alone, slices)))

    def _forward_rows(self, part: Tensor) -> Tensor:
        self._check_images(part)
        short = self.fixed_batch - len(part) if self.fixed_batch else 0
        padded = torch.cat([part, part[-1:].expand(short, *part.shape[1:])]) if short else part
        return self._forward_chunk(padded)[: len(part)]

    def _check_images(self, images: Tensor) -> None:
        expected = (3, *self.card.input.size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected or not len(images):
            raise UsageError(
                f"images have shape {tuple(images.shape)}; expected N×{'×'.join(map(str, expected))} with N >= 1 for "
                f'model "{self.card.name}"'
            )

    def scores(self, images: Tensor) -> Tensor:
        if self.card.task == "verification":
            raise NotApplicable(f'model "{self.card.name}" gives embeddings, not class scores; use embeddings()')
        return class_probabilities(self.card, self.outputs(images))

    def embeddings(self, images: Tensor) -> Tensor:
        if self.card.task != "verification":
            raise NotApplicable(f'model "{self.card.name}" gives class scores, not embeddings; use scores()')
        return self.outputs(images)

    # --- gradients, by the twin

    @cached_property
    def _source(self) -> Source:
        def outputs(batch: Tensor) -> Tensor:
            rows = self.fixed_batch or len(batch)
            return torch.cat([self._forward_rows(batch[i : i + rows]) for i in range(0, len(batch), rows)])

        card, output, fixed = self.card, self.session.output, self.fixed_batch
        proven = self._like is not None and self._like.derived.twin is not None
        return Source(self._proto, card, output, fixed, self.execution_target, outputs, proven)

    @cached_property
    def derived(self) -> Derived:
        """The twin and its comparison with the file, or why there is none."""
        with torch.enable_grad():  # whoever asks first may have switched gradients off
            return derive_twin(self._source)

    @property
    def comparison(self) -> Parity:
        """How the twin compares with the file, beyond ``parity``."""
        return self.derived.parity

    @cached_property
    def twin(self) -> Twin:  # type: ignore[override]
        derived = self.derived
        if derived.twin is None:
            raise not_applicable(derived.refusal)
        self.parity = derived.parity.outputs
        self.notes.extend(derived.notes)
        return derived.twin

    def twin_for(self, images: Tensor) -> Twin:
        twin = self.twin
        if self.derived.reference is not None:
            refusal = confirm(self._source, self.derived, images)
            # Dropped, the session of the reference with it.
            self.derived = dataclasses.replace(self.derived, reference=None, refusal=refusal)
        if self.derived.refusal is not None:
            raise not_applicable(self.derived.refusal)
        return twin

    def _explained(self, twin: Twin, target: Target, outputs: Tensor, before: Tensor | None) -> Tensor:
        return explained_scalar(target, self.card, outputs, before, twin.squashing, self.parity or 0.0)

    def explained(self, images: Tensor, target: Target) -> Tensor:
        names = self._before(target)
        values = self.twin.values(images, names)
        before = values[names[0]][: len(images)] if names else None
        return self._explained(self.twin, target, values[""], before)

    def _before(self, target: Target | None) -> list[str]:
        return [self.twin.before] if self.twin.before and needs_before(target) else []

    def gradient(self, images: Tensor, target: Target) -> Tensor:
        self._check_images(images)
        self.twin_for(images)

        def one(start: int, part: Tensor) -> Tensor:
            pixels = part.detach().to(self.device).requires_grad_(True)
            score = self.explained(pixels, target.take(slice(start, start + len(part))))
            (gradient,) = torch.autograd.grad(score.sum(), pixels)
            return gradient

        self.count(len(images), len(images))
        return self._in_chunks(images, one)

    def vjp(self, images: Tensor, cotangents: Tensor) -> Tensor:
        self._check_images(images)
        if cotangents.ndim != 3 or len(cotangents) != len(images):
            raise UsageError(f"cotangents have shape {tuple(cotangents.shape)}; expected N×M×K with N = {len(images)}")
        twin = self.twin_for(images)
        self.count(len(images), len(images) * cotangents.shape[1])
        limit = self.fixed_batch or self.batch_given
        return vector_jacobian_products(twin, images.to(self.device), cotangents.to(self.device), limit)

    def activations(self, images: Tensor, target: Target | None = None, layer: str | None = None) -> Activations:
        self._check_images(images)
        twin = self.twin_for(images)
        found = twin.find_layer(layer or self.card.explain.layer)
        self.count(len(images), 0 if target is None else len(images))
        remembered = self._last.get(found.name)
        if remembered is not None and _same_target(remembered[0], target) and _equal(remembered[1], images):
            return remembered[2]  # type: ignore[no-any-return]
        values, gradients = [], []
        for start in range(0, len(images), self.batch_size):
            part = images[start : start + self.batch_size].detach().to(self.device)
            goal = None if target is None else target.take(slice(start, start + len(part)))
            value, gradient = self._one_layer(twin, found, part, goal)
            values.append(value)
            gradients.append(gradient)
        result = Activations(
            torch.cat(values),
            None if target is None else torch.cat([g for g in gradients if g is not None]),
            found.name,
        )
        # One batch is remembered, not more: the CAMs of a shard come one after another on the same images.
        self._last = {found.name: (target, images, result)}
        return result

    def _one_layer(self, twin: Twin, found: Any, part: Tensor, goal: Target | None) -> tuple[Tensor, Tensor | None]:
        caught: list[Tensor] = []
        names = self._before(goal)

        def see(_name: str, value: Tensor) -> Tensor:
            # A leaf in the layer's place: the backward pass then stops here instead of running to the pixels.
            leaf = value.detach().requires_grad_(goal is not None)
            caught.append(leaf)
            return leaf

        with twin.hooks(see, only=found.name), torch.set_grad_enabled(goal is not None):
            values = twin.values(part, names)
        if not caught:
            raise NotApplicable(
                f"model \"{self.card.name}\": layer '{found.name}' cannot be observed in the twin", ReasonCode.NO_LAYER
            )
        gradients: list[Tensor] | None = None
        if goal is not None:
            before = values[twin.before][: len(part)] if names else None
            score = self._explained(twin, goal, values[""], before)
            got = torch.autograd.grad(score.sum(), caught, allow_unused=True)
            gradients = [torch.zeros_like(v) if g is None else g for g, v in zip(got, caught, strict=True)]
        n = len(part)
        value = torch.cat([twin.grid(v.detach(), found) for v in caught])[:n]
        return value, None if gradients is None else torch.cat([twin.grid(g, found) for g in gradients])[:n]

    def _in_chunks(self, images: Tensor, one: Callable[[int, Tensor], Tensor]) -> Tensor:
        starts = range(0, len(images), self.batch_size)
        return torch.cat([one(start, images[start : start + self.batch_size]) for start in starts])

    def forget(self) -> None:
        """Remove the activations of the last batch, which otherwise serve all CAMs of the same images."""
        self._last = {}


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or (a.shape == b.shape and a.device == b.device and torch.equal(a, b))


def _same_target(a: Target | None, b: Target | None) -> bool:
    if a is b:
        return True
    if type(a) is not type(b) or not dataclasses.is_dataclass(a) or not dataclasses.is_dataclass(b):
        return False
    return all(_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
