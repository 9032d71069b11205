"""A model that answers truly for a moment and then repeats its answers, counting passes on: for measurements.

Place in the flow: ``measure`` hands it to explainers and metrics in the model's place. May call the contract and
``tasks``. What it gives after the moment is over is of the right shape and means nothing.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from faithface.contract import Activations, BatchingPolicy, DeviceFeed, FaceModel, HostFeed, Passes
from faithface.tasks import Target, class_probabilities

FORWARD, BACKWARD = 64, 16  # images, or rows of cotangents, between two looks at the clock


class FastForward(FaceModel):
    """See the module.

    Attributes:
        seconds: for how long the network runs.
    """

    def __init__(self, model: FaceModel, seconds: float) -> None:
        self._model = model
        self.card, self.device, self.fixed_batch, self.proto = model.card, model.device, model.fixed_batch, model.proto
        self.sha256, self.provider, self.parity = model.sha256, model.provider, model.parity
        self.batch_given = getattr(model, "batch_given", None)
        self._passes = Passes()
        self._end = time.monotonic() + seconds
        self._ran, self._skipped = Passes(), Passes()
        self._spent = {"forward": 0.0, "backward": 0.0}
        self._first: dict[str, tuple[float, int]] = {}
        self._last: dict[str, Tensor] = {}

    @property
    def ran_all(self) -> bool:
        return self._skipped == Passes()

    @property
    def correction(self) -> float:
        """Seconds to add to what was measured: those of passes that did not run, less what warming up took."""
        total = 0.0
        for kind, (seconds, count) in self._first.items():
            ran = getattr(self._ran, kind)
            per = self._spent[kind] / ran if ran else seconds / count
            total += getattr(self._skipped, kind) * per + min(0.0, per * count - seconds)
        return total

    def _answer(self, kind: str, key: str, count: int, call: Callable[[], Tensor]) -> Tensor:
        """Return ``call()``, or ``count`` rows of its last answer if the time is over."""
        last = self._last.get(key)
        passes = Passes(**{kind: count})
        if time.monotonic() > self._end and last is not None:
            self._skipped += passes
            return last[:1].expand(count, *last.shape[1:]).clone()
        begun = time.monotonic()
        found = call()
        seconds = time.monotonic() - begun
        if kind in self._first:
            self._spent[kind] += seconds
            self._ran += passes
        else:
            # What is set up once (memory, kernels, threads) is no part of what a pass takes.
            self._first[kind] = (seconds, count)
            self._end += seconds
        self._last[key] = found
        return found

    # --- forward

    @property
    def batching(self) -> BatchingPolicy:
        return self._model.batching

    def outputs(self, images: Tensor) -> Tensor:
        return self.outputs_of(len(images), images.__getitem__)

    def outputs_of(self, count: int, make: Callable[[slice], Tensor]) -> Tensor:
        self.count(forward=count)
        parts = []
        for start in range(0, count, FORWARD):
            rows = min(FORWARD, count - start)

            def call(start: int = start, rows: int = rows) -> Tensor:
                return self._model.outputs_of(rows, lambda part: make(slice(start + part.start, start + part.stop)))

            parts.append(self._answer("forward", "outputs", rows, call))
        return torch.cat(parts)

    def scores(self, images: Tensor) -> Tensor:
        return (
            self._model.scores(images)
            if self._refuses("scores")
            else class_probabilities(self.card, self.outputs(images))
        )

    def embeddings(self, images: Tensor) -> Tensor:
        return self._model.embeddings(images) if self._refuses("embeddings") else self.outputs(images)

    def _refuses(self, what: str) -> bool:
        """Whether the model has no such thing, and says so itself."""
        return (self.card.task == "verification") is (what == "scores")

    def feed(self) -> HostFeed | DeviceFeed:
        feed = self._model.feed()
        counts = feed.counts

        def run(rows: Any) -> Tensor:
            if counts:
                self.count(forward=len(rows))
            return self._answer("forward", "feed", len(rows), lambda: feed.run(rows))

        return dataclasses.replace(feed, run=run)

    def with_weights(self, proto: Any) -> FaceModel:
        return self._model.with_weights(proto)

    # --- backward

    def gradient(self, images: Tensor, target: Target) -> Tensor:
        self.count(len(images), len(images))
        parts = []
        for start in range(0, len(images), BACKWARD):
            part = slice(start, min(start + BACKWARD, len(images)))

            def call(part: slice = part) -> Tensor:
                return self._model.gradient(images[part], target.take(part))

            parts.append(self._answer("backward", "gradient", part.stop - part.start, call))
        return torch.cat(parts)

    def vjp(self, images: Tensor, cotangents: Tensor) -> Tensor:
        rows = cotangents.shape[1]
        self.count(len(images), len(images) * rows)
        parts = []
        for start in range(0, rows, BACKWARD):
            part = cotangents[:, start : start + BACKWARD]

            def call(part: Tensor = part) -> Tensor:
                return self._model.vjp(images, part).flatten(0, 1)

            found = self._answer("backward", "vjp", len(images) * part.shape[1], call)
            parts.append(found.unflatten(0, (len(images), part.shape[1])))
        return torch.cat(parts, dim=1)

    def activations(self, images: Tensor, target: Target | None = None, layer: str | None = None) -> Activations:
        self.count(len(images), 0 if target is None else len(images))
        return self._model.activations(images, target, layer)

    @property
    def twin(self) -> torch.nn.Module:
        return self._model.twin

    def twin_for(self, images: Tensor) -> torch.nn.Module:
        return self._model.twin_for(images)

    def explained(self, images: Tensor, target: Target) -> Tensor:
        return self._model.explained(images, target)
