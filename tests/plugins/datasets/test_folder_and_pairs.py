"""A user's own images, without code: folders of classes, CSVs of pairs, and every odd file they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faithface.errors import UsageError
from faithface.images import read_image
from faithface.loading import read_face
from faithface.plugins import load_registry


@pytest.fixture(scope="module")
def registry():
    return load_registry(only=[])


def picture(size: tuple[int, int] = (6, 4), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_png_is_read_exactly(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels, picture().astype(np.float32) / 255)


@pytest.mark.parametrize("suffix", ["bmp", "webp", "jpg", "jpeg"])
def test_other_formats_are_read(tmp_path: Path, suffix: str) -> None:
    flat = np.full((8, 8, 3), (200, 100, 50), dtype=np.uint8)
    options = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix != "bmp" else {}
    Image.fromarray(flat).save(tmp_path / f"a.{suffix}", **options)
    assert np.abs(read_image(tmp_path / f"a.{suffix}") * 255 - flat).max() <= 3


def test_greyscale_rgba_palette_and_16_bit(tmp_path: Path) -> None:
    grey = picture()[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None] / np.float32(255), 3, axis=2))
    rgba = np.dstack([picture(), np.full((6, 4), 0, dtype=np.uint8)])
    rgba[:3, :, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    got = read_image(tmp_path / "rgba.png")
    assert np.array_equal(got[:3], picture()[:3].astype(np.float32) / 255)
    assert got[3:].max() == 0
    deep = (np.arange(24, dtype=np.uint16).reshape(6, 4) * 2700).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.allclose(read_image(tmp_path / "deep.png")[..., 1], deep / 65535, atol=1e-6)
    Image.fromarray(picture()).convert("P").save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").shape == (6, 4, 3)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((4, 8, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # "rotate 90° clockwise to view"
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (8, 4, 3)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_an_image_that_is_not_one_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.png"
    if content is None:
        Image.fromarray(picture((64, 64))).save(path)
        content = path.read_bytes()[:200]
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"bad\.png") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def make_folder(root: Path) -> Path:
    for label, n in (("bona-fide", 2), ("attack", 3)):
        for i in range(n):
            path = root / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(seed=i)).save(path)
    return root


def test_a_folder_gives_classes_and_safe_ids(tmp_path: Path, registry) -> None:
    data = registry.dataset(f"folder:{make_folder(tmp_path)}").object
    assert data.classes == ("attack", "bona-fide")
    assert [item.id for item in data.items()] == ["attack--0", "attack--1", "attack--2", "bona-fide--0", "bona-fide--1"]
    assert [item.label for item in data.items()] == ["attack"] * 3 + ["bona-fide"] * 2
    assert data.fits("pad")
    assert data.fits("synthetic-detection")
    assert not data.fits("verification")
    face = data.items()[0].face
    assert read_face(face, (12, 8)).shape == (3, 12, 8)


def test_equal_stems_in_inner_folders_stay_apart(tmp_path: Path, registry) -> None:
    make_folder(tmp_path)
    for inner in ("s1", "s2"):
        (tmp_path / "attack" / inner).mkdir()
        Image.fromarray(picture()).save(tmp_path / "attack" / inner / "frame 1.png")
    ids = [item.id for item in registry.dataset(f"folder:{tmp_path}").object.items()]
    assert "attack--s1_frame_1" in ids
    assert "attack--s2_frame_1" in ids


def test_revision_follows_the_files(tmp_path: Path, registry) -> None:
    data = registry.dataset(f"folder:{make_folder(tmp_path)}").object
    before = data.revision
    Image.fromarray(picture((9, 9))).save(tmp_path / "attack" / "new.png")
    assert data.revision != before


def test_human_masks_beside_the_images(tmp_path: Path, registry) -> None:
    root, masks = make_folder(tmp_path / "images"), tmp_path / "masks" / "attack"
    masks.mkdir(parents=True)
    Image.fromarray(np.full((6, 4), 128, dtype=np.uint8)).save(masks / "1.png")
    data = registry.dataset(f"folder:{root}(human={tmp_path / 'masks'})").object
    assert data.truths() == {"human"}
    with_mask = [item for item in data.items() if "human" in item.truth]
    assert [item.id for item in with_mask] == ["attack--1"]
    assert np.allclose(with_mask[0].truth["human"](), 128 / 255)


def test_a_folder_without_classes_is_refused(tmp_path: Path, registry) -> None:
    (tmp_path / "empty").mkdir()
    Image.fromarray(picture()).save(tmp_path / "loose.png")
    with pytest.raises(UsageError, match="expected class sub-folders"):
        registry.dataset(f"folder:{tmp_path}")
    with pytest.raises(UsageError, match="no such folder"):
        registry.dataset(f"folder:{tmp_path}/nowhere")


def make_pairs(root: Path, text: str) -> str:
    for name in ("a1", "a2", "b1"):
        Image.fromarray(picture(seed=ord(name[0]))).save(root / f"{name}.png")
    (root / "pairs.csv").write_text(text)
    return f"pairs:{root / 'pairs.csv'}@{root}"


def test_pairs_are_read_with_and_without_identities(tmp_path: Path, registry) -> None:
    text = "image_a,image_b,same\na1.png,a2.png,1\na1.png,b1.png,0\n"
    items = registry.dataset(make_pairs(tmp_path, text)).object.items()
    assert [(p.id, p.same) for p in items] == [("a1--a2", True), ("a1--b1", False)]
    assert items[0].a.identity is None
    text = "image_a,image_b,same,identity_a,identity_b\na1.png,a2.png,true,anna,anna\na1.png,b1.png,no,anna,ben\n"
    spec = make_pairs(tmp_path, "\ufeff" + text)
    pairs = registry.dataset(spec + "(aligned=false)").object
    assert not pairs.aligned
    assert pairs.items()[1].b.identity == "ben"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_a,image_b\na1.png,a2.png\n", ["same", "missing"]),
        ("", ["image_a", "empty"]),
        ("image_a,image_b,same\n", ["no pairs"]),
        ("image_a,image_b,same\na1.png,a2.png,maybe\n", ["line 2", "maybe", "1 or 0"]),
        ("image_a,image_b,same\na1.png,,1\n", ["line 2", "image_b"]),
        ("image_a,image_b,same,identitya,identity_b\na1.png,a2.png,1,x,x\n", ["identitya", "identity_a"]),
        ("image_a,image_b,same\na1.png,a2.png,1\na1.png,a2.png,1\n", ["line 3", "repeats line 2"]),
        ("image_a,image_b,same\na1.png,a2.png,1\n./a1.png,a2.png,1\n", ["line 3", "repeats line 2"]),
        ("image_a,image_b,same\na1.png,a2.png,1\na1.png,a2.png,0\n", ["line 3", "impostor", "line 2 says genuine"]),
        ("image_a,image_b,same\na1.png,a2.png,1\na2.png,a1.png,0\n", ["line 3", "impostor", "line 2 says genuine"]),
        ("image_a,image_b,same\na1.png,a2.png,2\n", ["line 2", "'2'", "1 or 0"]),
        ("image_a,image_b,same\na1.png,a2.png,\n", ["line 2", "''", "1 or 0"]),
    ],
)
def test_a_bad_csv_is_one_line(tmp_path: Path, registry, text: str, words: list[str]) -> None:
    spec = make_pairs(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        registry.dataset(spec).object.items()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_csv_or_root_is_named(tmp_path: Path, registry) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        registry.dataset(f"pairs:{tmp_path}/nowhere.csv@{tmp_path}")
    spec = make_pairs(tmp_path, "image_a,image_b,same\na1.png,a2.png,1\n")
    with pytest.raises(UsageError, match="not a folder"):
        registry.dataset(spec + "/nowhere")
