"""Datasets of files from anywhere: every path and every script, links, duplicates, and what is told of them."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faithface.errors import UsageError
from faithface.plugins import load_registry
from faithface.run.paths import safe
from faithface.specs import split_argument
from faithface_plugins.datasets.ids import MAX_ID_BYTES, clean_name, safe_id, unique_ids
from faithface_plugins.datasets.pairs import split_paths


@pytest.fixture(scope="module")
def registry():
    return load_registry(only=[])


def put(path: Path, seed: int = 0, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, "PNG")
    return path


# --- ids


def test_ascii_ids_are_what_they_always_were() -> None:
    # All random numbers of a sample come from its id: this rule may never change.
    def before(text: str) -> str:
        return "".join(ch if ch.isascii() and (ch.isalnum() or ch in "._-") else "_" for ch in text)

    rng = np.random.default_rng(0)
    for length in range(1, 60):
        text = "".join(map(chr, rng.integers(32, 127, length)))
        assert safe_id(text) == before(text)
    assert safe_id("a" * 500) == "a" * 500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("张伟/张伟_0001", "张伟_张伟_0001"),
        ("Иван 1", "Иван_1"),
        ("Jose\u0301 Nún\u0303ez", "José_Núñez"),  # composed, as other systems write it
        ("प्रिया.1", "प्रिया.1"),  # vowel signs are part of the word
        ("a:b*c?d", "a_b_c_d"),
        ("face😀1", "face_1"),
        ("bad\udcff1", "bad_1"),  # a byte that is no UTF-8
    ],
)
def test_ids_are_readable_in_every_script(text: str, expected: str) -> None:
    assert safe_id(text) == expected


def test_long_names_of_other_scripts_stay_file_names_and_apart() -> None:
    ids = {safe_id("张" * 100 + str(i)) for i in range(200)}
    assert len(ids) == 200
    assert max(len(one.encode()) for one in ids) <= MAX_ID_BYTES
    assert all(safe(one) == one for one in ids)  # maps lie under the very id


def test_ids_are_unique_by_construction() -> None:
    wanted = ["a_b", "c", "a_b", "a_b"]
    made = unique_ids(wanted, ["a b", "c", "a:b", "a*b"])
    assert made[1] == "c"
    assert len(set(made)) == 4
    assert all(one.startswith("a_b-") and len(one) == 12 for one in made if one != "c")
    assert made == unique_ids(wanted, ["a b", "c", "a:b", "a*b"])
    # An id that happens to look like the longer one of another is no trouble either.
    assert len(set(unique_ids([*wanted, made[0]], ["a b", "c", "a:b", "a*b", "x"]))) == 5


def test_a_name_that_is_no_utf_8_can_be_stored() -> None:
    assert clean_name("张.png") == "张.png"
    clean_name("a\udcff.png").encode("utf-8")


def test_a_folder_of_names_that_differ_in_unsafe_characters_only(tmp_path: Path, registry) -> None:
    for name in ("a b", "a_b", "a+b", "张", "李"):
        put(tmp_path / "live" / f"{name}.png")
    put(tmp_path / "live" / "x.png")
    (tmp_path / "live" / "x.jpg").write_bytes((tmp_path / "live" / "x.png").read_bytes())
    items = registry.dataset(f"folder:{tmp_path}").object.items()
    assert len({item.id for item in items}) == len(items) == 7
    assert len({item.face.id for item in items}) == 7
    assert {"live--张", "live--李"} <= {item.id for item in items}


def test_pairs_of_people_in_three_scripts(tmp_path: Path, registry) -> None:
    people = ["张伟", "李娜", "Иван", "José Núñez", "Ann Lee"]
    for person in people:
        for k in (1, 2):
            put(tmp_path / person / f"{person}_{k:04d}.png")
    rows = [f"{p}/{p}_0001.png,{p}/{p}_0002.png,1" for p in people]
    rows += [f"{p}/{p}_0001.png,{q}/{q}_0002.png,0" for p, q in itertools.pairwise(people)]
    (tmp_path / "pairs.csv").write_text("image_a,image_b,same\n" + "\n".join(rows), encoding="utf-8")
    items = registry.dataset(f"pairs:{tmp_path}/pairs.csv").object.items()
    assert items[0].id == "张伟_0001--张伟_0002"
    assert items[4].id == "Ann_Lee_0001--Ann_Lee_0002"
    assert len({item.id for item in items}) == 9


# --- paths


@pytest.mark.parametrize(
    ("argument", "path", "params"),
    [
        ("faces", "faces", {}),
        ("faces(aligned=false)", "faces", {"aligned": "false"}),
        ("faces (1)", "faces (1)", {}),
        ("faces (1)(aligned=false,size=56)", "faces (1)", {"aligned": "false", "size": "56"}),
        ("a(b)c/d(e)(size=1)", "a(b)c/d(e)", {"size": "1"}),
        ("faces, cropped=1", "faces, cropped=1", {}),
        ('"faces(n=2)"', '"faces(n=2)"', {}),
        ('"faces(n=2)"(size=1)', '"faces(n=2)"', {"size": "1"}),
        ("faces)", "faces)", {}),
        ("faces()", "faces", {}),
        ("x(human=a (1))", "x", {"human": "a (1)"}),
    ],
)
def test_a_path_and_its_parameters_are_told_apart(argument: str, path: str, params: dict[str, str]) -> None:
    assert split_argument(argument) == (path, tuple(params.items()))


ODD = ["faces (1)", "me@home", "faces, cropped", "faces=112", "a(b)", "x(n=2)", "'quoted'", "-", "sp  ace", "#1;2"]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("quoted", [False, True])
def test_every_path_can_be_given(tmp_path: Path, registry, name: str, quoted: bool) -> None:
    root = tmp_path / name / "in"
    for label in ("live", "spoof"):
        put(root / label / "0.png")
    (root / "pairs.csv").write_text("image_a,image_b,same\nlive/0.png,spoof/0.png,1\n")
    marks = '"' if quoted else ""
    assert len(registry.dataset(f"folder:{marks}{root}{marks}(aligned=false)").object.items()) == 2
    for text in (
        f"pairs:{marks}{root}/pairs.csv{marks}",
        f"pairs:{marks}{root}/pairs.csv{marks}@{marks}{root}{marks}(aligned=false)",
    ):
        data = registry.dataset(text).object
        assert data.root == str(root)
        assert [item.a.read().shape for item in data.items()] == [(6, 4, 3)]


def test_a_folder_that_ends_like_parameters_is_quoted(tmp_path: Path, registry) -> None:
    put(tmp_path / "faces(n=2)" / "live" / "0.png")
    assert len(registry.dataset(f'folder:"{tmp_path}/faces(n=2)"').object.items()) == 1
    with pytest.raises(UsageError, match="no such folder"):
        registry.dataset(f"folder:{tmp_path}/faces(n=2)")


def test_two_readings_of_a_pairs_argument_are_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "a@b"):
        (tmp_path / name).write_text("image_a,image_b,same\n")
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match="in 2 ways"):
        split_paths("a@b")
    assert split_paths('"a@b"') == (Path("a@b"), Path("."))
    assert split_paths('"a"@"b"') == (Path("a"), Path("b"))


# --- outside the root


def test_links_out_of_a_folder_need_leave(tmp_path: Path, registry) -> None:
    root = tmp_path / "faces"
    put(root / "live" / "0.png")
    put(root / "spoof" / "0.png")
    other = put(tmp_path / "elsewhere" / "1.png", seed=3)
    (root / "live" / "inside.png").symlink_to(root / "spoof" / "0.png")
    assert len(registry.dataset(f"folder:{root}").object.items()) == 3
    (root / "live" / "1.png").symlink_to(other)
    with pytest.raises(UsageError, match=r"live/1.png leads to .*elsewhere/1.png, outside .*allow-outside=true"):
        registry.dataset(f"folder:{root}").object.items()
    assert len(registry.dataset(f"folder:{root}(allow-outside=true)").object.items()) == 4
    (root / "live" / "1.png").unlink()
    (root / "more").symlink_to(other.parent)
    with pytest.raises(UsageError, match="outside"):
        registry.dataset(f"folder:{root}").object.items()
    assert len(registry.dataset(f"folder:{root}(allow-outside=true)").object.items()) == 4


@pytest.mark.parametrize("form", ["../elsewhere/1.png", "{other}", "link.png"])
def test_pairs_out_of_the_root_need_leave(tmp_path: Path, registry, form: str) -> None:
    root = tmp_path / "faces"
    put(root / "0.png")
    other = put(tmp_path / "elsewhere" / "1.png", seed=3)
    (root / "link.png").symlink_to(other)
    (root / "pairs.csv").write_text(f"image_a,image_b,same\n0.png,{form.format(other=other)},1\n")
    with pytest.raises(UsageError, match=r"outside .*allow-outside=true"):
        registry.dataset(f"pairs:{root}/pairs.csv").object.items()
    (pair,) = registry.dataset(f"pairs:{root}/pairs.csv(allow-outside=true)").object.items()
    assert np.array_equal(pair.b.read(), np.asarray(Image.open(other), dtype=np.float32) / 255)


def test_the_label_file_of_celeba_spoof_cannot_lead_out(tmp_path: Path, registry) -> None:
    root = tmp_path / "set"
    put(root / "Data" / "test" / "1" / "live" / "0.png")
    put(tmp_path / "x" / "secret.png")
    (root / "metas" / "intra_test").mkdir(parents=True)
    table = {"Data/test/../../../x/secret.png": [0] * 44}
    (root / "metas" / "intra_test" / "test_label.json").write_text(json.dumps(table))
    items = registry.dataset(f"celeba-spoof:{root}").object.items()
    assert [item.face.id for item in items] == ["Data/test/1/live/0.png"]
    (root / "Data" / "test" / "1" / "live" / "1.png").symlink_to(tmp_path / "x" / "secret.png")
    with pytest.raises(UsageError, match="outside"):
        registry.dataset(f"celeba-spoof:{root}").object.items()


# --- labels and repeated pairs


@pytest.mark.parametrize(
    ("text", "same"),
    [
        *(("1", True), ("0", False), ("-1", False), ("1.0", True), ("0.0", False), ("TRUE", True), ("No", False)),
        *(("genuine", True), ("Impostor", False), (" 1 ", True), ("+1", True)),
    ],
)
def test_labels_as_people_write_them(tmp_path: Path, registry, text: str, same: bool) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "b.png")
    (tmp_path / "pairs.csv").write_text(f"image_a,image_b,same\na.png,b.png,{text}\n")
    (pair,) = registry.dataset(f"pairs:{tmp_path}/pairs.csv").object.items()
    assert pair.same is same


def test_a_pair_listed_both_ways_round_is_two_samples_and_told(tmp_path: Path, registry) -> None:
    for name in "ab":
        put(tmp_path / f"{name}.png")
    (tmp_path / "pairs.csv").write_text("image_a,image_b,same\na.png,b.png,1\nb.png,a.png,1\na.png,a.png,1\n")
    data = registry.dataset(f"pairs:{tmp_path}/pairs.csv").object
    assert [item.id for item in data.items()] == ["a--b", "b--a", "a--a"]
    turned, alone = data.notes()
    assert turned.startswith("1 pairs are listed in both orders, such as b.png, a.png in lines 2 and 3")
    assert alone == "1 pairs are one image with itself"


def test_windows_paths_and_odd_spellings_name_the_same_image(tmp_path: Path, registry) -> None:
    for name in ("f/a.png", "f/b.png", "f/c.png"):
        put(tmp_path / name)
    rows = ["f\\a.png,./f//b.png,1", "f/b.png,f/../f/c.png,0"]
    (tmp_path / "pairs.csv").write_text("image_a,image_b,same\n" + "\n".join(rows))
    first, second = registry.dataset(f"pairs:{tmp_path}/pairs.csv").object.items()
    assert (first.a.id, first.b.id, second.a.id, second.b.id) == ("f/a.png", "f/b.png", "f/b.png", "f/c.png")
    assert first.a.read().shape == (6, 4, 3)


# --- what is told


def test_what_is_left_out_of_a_folder_is_told(tmp_path: Path, registry) -> None:
    put(tmp_path / "live" / "0.png")
    put(tmp_path / "loose.png")
    for name in ("a.tif", "b.tif", "c.heic"):
        (tmp_path / "live" / name).write_bytes(b"x")
    unread, loose, alone = registry.dataset(f"folder:{tmp_path}").object.notes()
    assert unread.startswith("not read: 1 .heic, 2 .tif")
    assert loose.startswith("1 images lie directly in")
    assert alone.startswith("only one class, live")


def calls_to_list(folder: Path, registry) -> int:
    """How many functions are called while a folder's samples are listed."""
    count = itertools.count()
    dataset = registry.dataset(f"folder:{folder}").object
    sys.setprofile(lambda _frame, event, _argument: next(count) if event in ("call", "c_call") else None)
    try:
        assert dataset.items()
    finally:
        sys.setprofile(None)
    return next(count)


def test_a_folder_of_twice_the_files_takes_twice_the_work(tmp_path: Path, registry) -> None:
    """Of names that are all alike, of which ids are made apart; work that grows as the square would give four."""
    for n in (100, 200):
        for i in range(n):
            put(tmp_path / f"first-{n}" / ("real", "fake")[i % 2] / f"{i // 20}" / f"frame {i}.png")
            put(tmp_path / f"{n}" / ("real", "fake")[i % 2] / f"{i // 20}" / f"frame {i}.png")
        calls_to_list(tmp_path / f"first-{n}", registry)  # what is done once in a process is done
    once, twice = (calls_to_list(tmp_path / f"{n}", registry) for n in (100, 200))
    assert 1.6 < twice / once < 2.2


def test_images_that_a_csv_names_and_are_not_there(tmp_path: Path, registry) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "pairs.csv").write_text("image_a,image_b,same\na.png,b.png,1\n")
    (line,) = registry.dataset(f"pairs:{tmp_path}/pairs.csv").object.absent()
    assert line.startswith("1 of 2 images are not under")
    (tmp_path / "a.png").unlink()
    with pytest.raises(UsageError, match="none of its 2 images"):
        registry.dataset(f"pairs:{tmp_path}/pairs.csv").object.absent()


# --- FaceForensics++


def make_ffpp(root: Path) -> Path:
    for video in ("000", "001"):
        for frame in (0, 10, 20):
            put(root / f"original_sequences/youtube/c23/frames/{video}/{frame:03d}.png")
    for method in ("Deepfakes", "FaceSwap"):
        for frame in (0, 10, 20):
            put(root / f"manipulated_sequences/{method}/c23/frames/000_003/{frame:03d}.png")
    mask = np.zeros((6, 4), dtype=np.uint8)
    mask[2:4] = 255
    path = root / "manipulated_sequences/Deepfakes/c23/masks/000_003/010.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(mask).save(path)
    return root


def test_faceforensics_frames_classes_and_masks(tmp_path: Path, registry) -> None:
    data = registry.dataset(f"faceforensics:{make_ffpp(tmp_path)}(frames=2)").object
    items = data.items()
    assert [item.id for item in items] == [
        "real--youtube_000_000",
        "real--youtube_000_020",
        "real--youtube_001_000",
        "real--youtube_001_020",
        "synthetic--Deepfakes_000_003_000",
        "synthetic--Deepfakes_000_003_020",
        "synthetic--FaceSwap_000_003_000",
        "synthetic--FaceSwap_000_003_020",
    ]
    whole = registry.dataset(f"faceforensics:{tmp_path}").object
    assert whole.truths() == {"relevance"}
    (masked,) = [item for item in whole.items() if item.truth]
    assert masked.id == "synthetic--Deepfakes_000_003_010"
    assert np.array_equal(masked.truth["relevance"]()[:, 0], [False, False, True, True, False, False])


def test_faceforensics_methods_split_and_compressions(tmp_path: Path, registry) -> None:
    make_ffpp(tmp_path)
    (tmp_path / "test.json").write_text('[["001", "002"]]')
    items = registry.dataset(f"faceforensics:{tmp_path}(split=test)").object.items()
    assert {item.face.id.split("/")[1] for item in items} == {"001"}
    items = registry.dataset(f"faceforensics:{tmp_path}(methods=FaceSwap)").object.items()
    assert {item.face.id.split("/")[0] for item in items} == {"youtube", "FaceSwap"}
    with pytest.raises(UsageError, match='no method "Faceswap"; did you mean "FaceSwap"'):
        registry.dataset(f"faceforensics:{tmp_path}(methods=Faceswap)").object.items()
    with pytest.raises(UsageError, match=r"val\.json: no such split"):
        registry.dataset(f"faceforensics:{tmp_path}(split=val)").object.items()
    put(tmp_path / "original_sequences/youtube/c40/frames/000/000.png")
    with pytest.raises(UsageError, match=r"several compressions \(c23, c40\)"):
        registry.dataset(f"faceforensics:{tmp_path}").object.items()
    with pytest.raises(UsageError, match=r"has no compression raw; it holds: c23, c40"):
        registry.dataset(f"faceforensics:{tmp_path}(compression=raw)").object.items()


def test_a_folder_of_faceforensics_is_not_taken_for_classes_with_masks_as_faces(tmp_path: Path, registry) -> None:
    with pytest.raises(UsageError, match=f"write faceforensics:{tmp_path}"):
        registry.dataset(f"folder:{make_ffpp(tmp_path)}")
