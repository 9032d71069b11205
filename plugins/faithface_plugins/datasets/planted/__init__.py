"""Planted faces: rendered faces and three datasets on them, with ground truth by construction. All from a seed.

Bulk arrays, for training and tests (images uint8 N x 112 x 112 x 3, RGB; other seed = other people)::

    verification_arrays(seed, identities, images_per_identity, *, alignment="aligned", palette="standard",
                        first_identity=0, threads=None) -> (images, identity labels int64)
    pad_arrays(seed, n, *, only=None, unseen=False, palette="standard", alignment="loose", tag="none",
               corner="bottom-right", cue=True, threads=None) -> Planted
    synthetic_arrays(seed, n, ...the same options...) -> Planted

    images, labels, truth, human = pad_arrays(7, 2000)  # or .images .labels .truth .human .kind .twins .tagged .tag
    pad_arrays(7, 2000, tag="class", cue=False)  # only the corner tag shows the class: a shortcut's training set
    pad_arrays(8, 500, unseen=True)  # kinds never trained on; palette="shifted" for other colours

Labels: 0 bona fide / real (even indices), 1 attack / synthetic (odd ones). `truth` bool, `human` float32 in [0, 1].

The renderer itself::

    people = sample_identities(seed, n); conditions = sample_nuisance(keys(seed, "my images", n), alignment="aligned")
    render(people, conditions) -> float32 (n, 112, 112, 3) in [0, 1]; render_levels(...) -> uint8
    part_masks(people, conditions) -> {"eyes": bool (n, 112, 112), ...}; swap_part(people, donors, "nose")

Flow: draws -> identity, nuisance -> render (head, features, hair, scene on geometry) -> attacks, artefacts -> cues ->
arrays, datasets. Imports nothing of the core except `faithface.contract`, in `datasets`.
"""

from .annotate import stamp_tag, tag_mask
from .arrays import Planted, pad_arrays, planted_arrays, synthetic_arrays, verification_arrays
from .cues import kinds
from .draws import keys
from .identity import Identity, sample_identities, swap_part
from .nuisance import Nuisance, sample_nuisance
from .parts import part_masks
from .render import render, render_levels, render_twins

__all__ = [
    "Identity",
    "Nuisance",
    "Planted",
    "keys",
    "kinds",
    "pad_arrays",
    "part_masks",
    "planted_arrays",
    "render",
    "render_levels",
    "render_twins",
    "sample_identities",
    "sample_nuisance",
    "stamp_tag",
    "swap_part",
    "synthetic_arrays",
    "tag_mask",
    "verification_arrays",
]
