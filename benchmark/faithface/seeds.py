"""Seeds that depend on what is seeded, never on order, batch or worker (protocol rule 7).

Place in the flow: below everything; imports only numpy.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(suite_seed: int, sample_id: str, purpose: str) -> int:
    """Return a 63-bit seed from the suite's seed, the sample and the purpose.

    Args:
        suite_seed: the seed of the run or suite.
        sample_id: the sample's id; "" for something shared by all samples (one mask set for all pairs).
        purpose: what the numbers are for, such as ``"rise"`` or ``"stranger"``.

    Examples:
        >>> seed_for(0, "a", "ties") == seed_for(0, "a", "ties")
        True
        >>> seed_for(0, "a", "ties") == seed_for(0, "b", "ties")
        False
    """
    text = f"{int(suite_seed)}\x1f{sample_id}\x1f{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def rng_for(suite_seed: int, sample_id: str, purpose: str) -> np.random.Generator:
    """Return a numpy generator seeded by :func:`seed_for`."""
    return np.random.default_rng(seed_for(suite_seed, sample_id, purpose))
