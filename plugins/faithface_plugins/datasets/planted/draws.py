"""Random numbers by counter: draw `k` of key `s` is a hash of (s, k), so nothing depends on order or on the batch.

Every stochastic part of the planted faces (identities, nuisance, noise, attacks) takes its numbers from here. Calls
numpy only. Source of the hash: SplitMix64 (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

import zlib
from dataclasses import fields
from typing import Any

import numpy as np

Rows = np.ndarray | slice | list[int]  # what picks images out of a batch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def _mix(x: np.ndarray) -> np.ndarray:
    """The SplitMix64 finaliser: uint64 in, well-mixed uint64 out (wraps modulo 2**64 on purpose)."""
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def _label(purpose: str) -> np.ndarray:
    """A uint64 per purpose; as an array, because numpy warns when a scalar wraps."""
    return np.asarray([zlib.crc32(purpose.encode())], dtype=np.uint64) * _GOLDEN


def keys(seed: int, purpose: str, indices: np.ndarray | int) -> np.ndarray:
    """One uint64 key per index, from (seed, purpose, index); an int means `range(int)`. Shape (N,)."""
    index = np.arange(indices) if isinstance(indices, (int, np.integer)) else np.asarray(indices)
    root = np.asarray([seed % 2**64], dtype=np.uint64) + _label(purpose)
    return _mix(_mix(root) + (index.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def derive(key: np.ndarray, purpose: str) -> np.ndarray:
    """New keys from keys, one per purpose: independent streams of the same image. uint64 (N,) -> uint64 (N,)."""
    return _mix(np.asarray(key, dtype=np.uint64) + _label(purpose))


def bits(key: np.ndarray, count: int) -> np.ndarray:
    """`count` uint64 words per key. uint64 (N,) -> uint64 (N, count)."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return _mix(np.asarray(key, dtype=np.uint64)[:, None] + steps[None, :])


def uniform(key: np.ndarray, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) per key. uint64 (N,) -> float32 (N, count)."""
    return (bits(key, count) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


class Stream:
    """Draws columns for a fixed set of keys one after the other; column `k` is the same whatever the other keys are."""

    def __init__(self, key: np.ndarray, capacity: int = 128) -> None:
        self._columns = uniform(key, capacity).T.copy()
        self._next = 0

    def unit(self) -> np.ndarray:
        """The next column, uniform in [0, 1). float32 (N,)."""
        column = self._columns[self._next]
        self._next += 1
        return column

    def between(self, low: float, high: float) -> np.ndarray:
        """Uniform in [low, high). float32 (N,)."""
        return np.float32(low) + np.float32(high - low) * self.unit()

    def bell(self, low: float, high: float) -> np.ndarray:
        """Bell-shaped in [low, high) (the mean of two uniforms): extremes are rarer. float32 (N,)."""
        return np.float32(low) + np.float32(high - low) * np.float32(0.5) * (self.unit() + self.unit())

    def chance(self, probability: float) -> np.ndarray:
        """1.0 with the probability, else 0.0. float32 (N,)."""
        return (self.unit() < probability).astype(np.float32)

    def choice(self, count: int) -> np.ndarray:
        """An integer in [0, count). int64 (N,)."""
        return np.minimum((self.unit() * count).astype(np.int64), count - 1)


def single_precision(record: Any) -> None:
    """Make every float64 field of a new dataclass float32: painting in double precision would be twice as slow."""
    for f in fields(record):
        value = getattr(record, f.name)
        if value.dtype == np.float64:
            object.__setattr__(record, f.name, value.astype(np.float32))
