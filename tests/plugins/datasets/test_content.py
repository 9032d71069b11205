"""Digests of samples and revisions of sets: by content, so that an image replaced by another is always noticed."""

from __future__ import annotations

import csv
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faithface.contract import Dataset, Face, Pair, Sample
from faithface.errors import UsageError
from faithface.plugins import load_registry
from faithface_plugins.datasets.align import COLUMNS, TEMPLATE


@pytest.fixture(scope="module")
def registry():
    return load_registry(only=[])


def picture(seed: int, side: int = 12) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def put(path: Path, seed: int = 0, side: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, side).save(path, "BMP" if path.suffix == ".bmp" else None)
    return path


def folder(root: Path) -> str:
    for i in range(4):
        put(root / ("bona-fide" if i % 2 else "attack") / f"{i}.bmp", i)
    return f"folder:{root}"


def pairs(root: Path) -> str:
    for i in range(4):
        put(root / f"{i}.bmp", i)
    (root / "pairs.csv").write_text("image_a,image_b,same\n0.bmp,1.bmp,1\n2.bmp,3.bmp,0\n")
    return f"pairs:{root / 'pairs.csv'}"


def generators(root: Path) -> str:
    for i in range(4):
        put(root / ("real" if i % 2 else "gan") / f"{i}.bmp", i)
    return f"generators:{root}"


def oulu(root: Path) -> str:
    for i in range(4):
        put(root / f"1_1_01_{i + 1}" / "0001.bmp", i)
    return f"oulu-npu:{root}"


def celeba_spoof(root: Path) -> str:
    for i in range(4):
        put(root / "Data" / "test" / str(i) / ("live" if i % 2 else "spoof") / f"{i}.bmp", i)
    return f"celeba-spoof:{root}"


def forensics(root: Path) -> str:
    for i in range(4):
        kind = "original_sequences/youtube" if i % 2 else "manipulated_sequences/Deepfakes"
        put(root / kind / "c23" / "frames" / f"00{i}" / "000.bmp", i)
    return f"faceforensics:{root}"


SETS = [folder, pairs, generators, oulu, celeba_spoof, forensics]


def faces_of(data: Dataset) -> dict[str, Face]:
    return {face.id: face for item in data.items() for face in item.faces}


def digests(data: Dataset) -> dict[str, str | None]:
    return {face.id: face.digest and face.digest() for face in faces_of(data).values()}


@pytest.mark.parametrize("make", SETS, ids=lambda make: make.__name__)
def test_an_image_replaced_by_one_of_the_same_size_and_time_is_noticed(
    tmp_path: Path, registry, make: Callable[[Path], str]
) -> None:
    data = registry.dataset(make(tmp_path / "set")).object
    images = sorted((tmp_path / "set").rglob("*.bmp"))
    before, revision = digests(data), data.revision
    items = {item.id: item.digest() for item in data.items()}
    assert sorted(before.values()) == sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in images)
    assert len(set(items.values())) == len(items)

    was, content = images[1].stat(), images[1].read_bytes()
    put(images[1], 99)
    os.utime(images[1], ns=(was.st_atime_ns, was.st_mtime_ns))
    assert images[1].stat().st_size == was.st_size
    after = digests(data)
    (changed,) = [name for name in before if before[name] != after[name]]
    assert after[changed] == hashlib.sha256(images[1].read_bytes()).hexdigest()
    assert data.revision != revision
    touched = {item.id for item in data.items() if changed in {face.id for face in item.faces}}
    assert {item.id for item in data.items() if item.digest() != items[item.id]} == touched

    images[1].write_bytes(content)
    assert data.revision == revision  # the content is what it was, whatever the times say


@pytest.mark.parametrize("make", SETS, ids=lambda make: make.__name__)
def test_a_copy_elsewhere_has_the_same_revision(tmp_path: Path, registry, make: Callable[[Path], str]) -> None:
    spec = make(tmp_path / "first-copy")
    shutil.copytree(tmp_path / "first-copy", tmp_path / "second-copy")
    first, second = (registry.dataset(text).object for text in (spec, spec.replace("first-copy", "second-copy")))
    assert first.revision == second.revision
    assert digests(first) == digests(second)


def test_labels_and_identities_are_part_of_the_revision(tmp_path: Path, registry) -> None:
    data = registry.dataset(pairs(tmp_path)).object
    table = tmp_path / "pairs.csv"
    seen = set()
    for text in (
        table.read_text(),
        table.read_text().replace("3.bmp,0", "3.bmp,1"),
        "image_a,image_b,same,identity_a,identity_b\n0.bmp,1.bmp,1,x,x\n2.bmp,3.bmp,0,y,z\n",
        "image_a,image_b,same\n2.bmp,3.bmp,0\n0.bmp,1.bmp,1\n",
    ):
        table.write_text(text)
        seen.add(data.revision)
    assert len(seen) == 4
    before = data.revision
    put(tmp_path / "unused.bmp", 5)
    assert data.revision == before  # no pair names it


def landmarks(path: Path, rows: dict[str, np.ndarray]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *COLUMNS])
        writer.writerows([name, *points.ravel()] for name, points in rows.items())
    return path


def test_landmarks_are_part_of_a_face(tmp_path: Path, registry) -> None:
    spec = pairs(tmp_path)
    rows = {f"{i}.bmp": TEMPLATE + i for i in range(4)}
    path = landmarks(tmp_path / "points.csv", rows)
    data = registry.dataset(f"{spec}(landmarks={path})").object
    before, revision = digests(data), data.revision
    assert not set(before.values()) & set(digests(registry.dataset(spec).object).values())
    landmarks(path, {**rows, "2.bmp": TEMPLATE + 9})
    after = digests(data)
    assert [name for name in before if before[name] != after[name]] == ["2.bmp"]
    assert data.revision != revision
    other = registry.dataset(f"{spec}(landmarks={path},size=64)").object
    assert not set(digests(other).values()) & set(after.values())


def test_masks_are_part_of_a_sample(tmp_path: Path, registry) -> None:
    spec = folder(tmp_path / "images")
    mask = put(tmp_path / "masks" / "attack" / "0.png", 7)
    data = registry.dataset(f"{spec}(human={tmp_path / 'masks'})").object
    before, revision, faces = {item.id: item.digest() for item in data.items()}, data.revision, digests(data)
    put(mask, 8)
    assert [item.id for item in data.items() if item.digest() != before[item.id]] == ["attack--0"]
    assert digests(data) == faces
    assert data.revision != revision
    mask.unlink()
    assert [item.id for item in data.items() if item.digest() != before[item.id]] == ["attack--0"]


def test_the_altered_pixels_of_faceforensics_are_part_of_a_sample(tmp_path: Path, registry) -> None:
    data = registry.dataset(forensics(tmp_path)).object
    before = {item.id: item.digest() for item in data.items()}
    put(tmp_path / "manipulated_sequences/Deepfakes/c23/masks/000/000.png", 7)
    (changed,) = [item.id for item in data.items() if item.digest() != before[item.id]]
    assert changed == "synthetic--Deepfakes_000_000"


def test_bounding_boxes_are_part_of_a_face(tmp_path: Path, registry) -> None:
    spec = celeba_spoof(tmp_path)
    data, whole = registry.dataset(spec).object, registry.dataset(f"{spec}(crop=false)").object
    before, revision = digests(data), whole.revision
    (tmp_path / "Data/test/0/spoof/0_BB.txt").write_text("10 10 100 100 0.9")
    changed = [name for name, digest in digests(data).items() if digest != before[name]]
    assert changed == ["Data/test/0/spoof/0.bmp"]
    assert whole.revision == revision


def test_a_packed_set_has_a_digest_for_each_image(tmp_path: Path, registry) -> None:
    encoded = [put(tmp_path / f"{i}.bmp", i, 112).read_bytes() for i in range(4)]
    (tmp_path / "set.bin").write_bytes(pickle.dumps((encoded, [True, False])))
    data = registry.dataset(f"bin:{tmp_path / 'set.bin'}").object
    assert list(digests(data).values()) == [hashlib.sha256(one).hexdigest() for one in encoded]
    assert data.revision == hashlib.sha256((tmp_path / "set.bin").read_bytes()).hexdigest()[:12]


def test_lfw_by_content(tmp_path: Path, registry) -> None:
    images = tmp_path / "lfw_home" / "lfw_funneled"
    for name, number in (("Ann", 1), ("Ann", 2), ("Bob", 1)):
        path = images / name / f"{name}_{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, 250).save(path)
    (tmp_path / "lfw_home" / "pairsDevTest.txt").write_text("1\nAnn\t1\t2\nAnn\t1\tBob\t1\n")
    data = registry.dataset(f"lfw(subset=test,data-home={tmp_path})").object
    before = data.revision
    assert before.startswith("funneled-1-")
    picture(9, 250).save(images / "Bob" / "Bob_0001.jpg")
    assert data.revision != before
    assert registry.dataset(f"lfw(subset=test,data-home={tmp_path / 'none'})").object.revision == "funneled-1"


def test_a_missing_image_is_named_by_its_digest_and_does_not_hinder_the_revision(tmp_path: Path, registry) -> None:
    data = registry.dataset(pairs(tmp_path)).object
    before = data.revision
    (tmp_path / "3.bmp").unlink()
    assert data.revision != before
    with pytest.raises(UsageError, match=r"3\.bmp: no such file"):
        data.items()[1].digest()


@pytest.mark.parametrize("name", ["planted-pad", "planted-synthetic", "planted-verification"])
def test_a_rendered_face_is_known_by_its_parameters(registry, name: str) -> None:
    def all_digests(spec: str) -> list[str | None]:
        return [item.digest() for item in registry.dataset(spec).object.items()]

    one = all_digests(f"{name}(n=6,seed=3)")
    assert one == all_digests(f"{name}(n=6,seed=3)")
    assert len(set(one)) == 6
    assert None not in one
    assert not set(one) & set(all_digests(f"{name}(n=6,seed=4)"))


def test_a_sample_with_a_part_of_unknown_content_has_no_digest() -> None:
    known = Face("a", lambda: np.zeros((2, 2, 3), np.float32), digest=lambda: "0" * 64)
    unknown = Face("b", lambda: np.zeros((2, 2, 3), np.float32))
    assert Pair("p", known, unknown, True).digest() is None
    assert Sample("s", known, others={"twin": unknown}).digest() is None
    assert Sample("s", known, truth={"human": lambda: np.zeros((2, 2))}).digest() is None
    both = [Pair("p", known, known, same).digest() for same in (True, False)]
    assert None not in both
    assert both[0] != both[1]


def test_every_spelling_of_an_image_is_one_face(tmp_path: Path, registry) -> None:
    """The same image named in a CSV by a relative path, an absolute one, and round about."""
    for i, name in enumerate(("a", "b", "c")):
        put(tmp_path / "set" / "in" / f"{name}.bmp", i)
    put(tmp_path / "elsewhere" / "d.bmp", 3)
    root = tmp_path / "set"
    lines = [
        "in/a.bmp,in/b.bmp,1",
        f"{root}/in/a.bmp,../set/in/c.bmp,0",
        f"./in//b.bmp,{root}/other/../in/c.bmp,0",
        "../elsewhere/d.bmp,in/b.bmp,0",
        f"{tmp_path}/elsewhere/d.bmp,in/c.bmp,0",
    ]
    (root / "pairs.csv").write_text("image_a,image_b,same\n" + "\n".join(lines) + "\n")
    spec = f"pairs:{root / 'pairs.csv'}(allow-outside=true)"
    made = registry.dataset(spec).object.items()
    assert [(item.a.id, item.b.id) for item in made] == [
        ("in/a.bmp", "in/b.bmp"),
        ("in/a.bmp", "in/c.bmp"),
        ("in/b.bmp", "in/c.bmp"),
        ("../elsewhere/d.bmp", "in/b.bmp"),
        ("../elsewhere/d.bmp", "in/c.bmp"),
    ]
    assert [item.id for item in made] == ["a--b", "a--c", "b--c", "d--b", "d--c"]

    (tmp_path / "link").symlink_to(root)
    linked = registry.dataset(f"pairs:{root / 'pairs.csv'}@{tmp_path / 'link'}(allow-outside=true)").object
    assert [item.a.id for item in linked.items()][:3] == ["in/a.bmp", "in/a.bmp", "in/b.bmp"]

    (root / "pairs.csv").write_text(f"image_a,image_b,same\nin/a.bmp,in/b.bmp,1\n{root}/in/a.bmp,in/b.bmp,1\n")
    with pytest.raises(UsageError, match=r"line 3: in/a.bmp, in/b.bmp repeats line 2"):
        registry.dataset(spec).object.items()


def test_absolute_paths_of_landmarks_are_understood_too(tmp_path: Path, registry) -> None:
    pairs(tmp_path)
    path = landmarks(tmp_path / "points.csv", {str(tmp_path / f"{i}.bmp"): TEMPLATE for i in range(4)})
    for item in registry.dataset(f"pairs:{tmp_path / 'pairs.csv'}(landmarks={path})").object.items():
        assert item.a.read().shape == (112, 112, 3)
