"""One search of a gallery, answered: what in the probe speaks for the mate rather than for the best other person.

Place in the flow: behind ``faithface why PROBE --gallery FOLDER``. May call its siblings, ``regions``, ``plugins`` and
``model``; the ranking and the values are ``gallery``'s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from faithface.answers.backdrop import check_task
from faithface.answers.gallery import GalleryFaces, gallery_images, gallery_values, mate_of, rank
from faithface.answers.why import FILLS, Answer, check_fills, check_image, place_regions, refuse_empty
from faithface.errors import UsageError
from faithface.images import read_image
from faithface.model import open_model
from faithface.plugins import Registry, load_registry
from faithface.regions.fills import check_kind


def why_among(
    probe: str | Path,
    gallery: str | Path,
    model: str,
    *,
    mate: str | None = None,
    dataset: str | None = None,
    fill: str | None = None,
    fills: int = FILLS,
    partition: str = "paired",
    crop: str | None = None,
    landmarks: np.ndarray | None = None,
    masks: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    registry: Registry | None = None,
) -> Answer:
    """Explain why a probe is taken for one person of a gallery and not for another.

    Args:
        probe: the image whose regions are replaced; it may lie in the gallery, and is not compared with itself.
        gallery: a folder with one folder of aligned images per person.
        model: a registered name, or a card's path; for verification.
        mate: the person whom the values speak for; None: in whose folder the probe lies, else the most similar person.
        dataset: aligned faces from which strangers are drawn; None: the gallery's other people where there are enough,
            else blur.
        fill: ``stranger``, ``partner`` (the best other's pixels) or ``blur``; None: as ``dataset`` says.
        fills, partition, crop, landmarks, masks, seed, device, registry: as for :func:`~faithface.answers.why`.

    Raises:
        UsageError: a gallery without people, an image of the wrong size, an unknown mate.
        RunError: the score does not move under any region, or is not finite.
    """
    registry = registry or load_registry()
    card = registry.model(model).object
    if card.task != "verification":
        raise UsageError(f'a gallery is searched by a verification model; "{card.name}" is for {card.task}')
    check_fills(fills)
    strangers = registry.dataset(dataset).object if dataset else None
    if strangers is not None:
        check_task(strangers, card)
    path, folder = Path(probe), Path(gallery)
    pixels = read_image(path)
    check_image(path, pixels, card, resizable=crop is not None or landmarks is not None or masks is not None)
    for _, other, _ in gallery_images(folder):
        check_image(other, read_image(other), card, resizable=crop is not None)
    regions = place_regions(card, partition, crop, landmarks, masks, pixels.shape[:2])
    opened = open_model(card, device)
    data = GalleryFaces(path, folder, mate_of(path, folder, mate))
    ranking = rank(opened, data)
    cautions = []
    kind = fill
    if kind is None:
        people = len(ranking.candidates) - 2
        kind = "stranger" if strangers is not None or people >= fills else "blur"
        if kind == "blur":
            cautions.append(
                f"Regions were blurred, because the gallery has {max(people, 0)} people besides the two, and {fills} "
                "strangers are needed. A blurred region hides detail only: give a data set of aligned faces."
            )
    check_kind(kind, True, strangers or data)
    values, names, images, seconds = gallery_values(opened, data, strangers, ranking, regions, kind, fills, seed)
    refuse_empty(card, (values,))
    if not ranking.known:
        cautions.append(
            f"Nobody said who the probe is: the values speak for {ranking.mate.person}, the most similar person."
        )
    if ranking.rank > 1:
        cautions.append(f"The mate is not the most similar person but number {ranking.rank} in the gallery.")
    return Answer(
        card=card,
        device=device,
        names=(path.name, ranking.mate.image, ranking.other.image),
        images=images,
        score=ranking.score,
        score_name="margin",
        threshold=None,
        threshold_from="",
        decision="scored",
        predicted="",
        known_same=None,
        regions=regions,
        values=(values,),
        agreements=(),
        maps=(),
        population=None,
        fill_names={kind: names},
        failures=(),
        cautions=tuple(cautions),
        passes=values.passes,
        seconds=seconds,
        ranking=ranking,
    )
