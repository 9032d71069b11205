"""Loaders of the field's own data, on small files made in the real formats with their quirks."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faithface.errors import UsageError
from faithface.loading import read_face
from faithface.plugins import load_registry
from faithface_plugins.datasets.align import COLUMNS, TEMPLATE, align_face
from faithface_plugins.datasets.bins import read_bin


@pytest.fixture(scope="module")
def registry():
    return load_registry(only=[])


def encoded(seed: int, size: tuple[int, int] = (112, 112), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def put(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(seed, size, {".jpg": "JPEG", ".png": "PNG"}[path.suffix]))
    return path


# --- packed verification sets


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", ["bytes", "arrays"])
def test_a_packed_set_is_read_in_every_pickle_protocol(tmp_path: Path, registry, protocol: int, form: str) -> None:
    raw = [encoded(seed) for seed in (0, 1, 2, 0)]
    images = raw if form == "bytes" else [np.frombuffer(data, dtype=np.uint8) for data in raw]
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((images, [True, False]), protocol=protocol))
    items = registry.dataset(f"bin:{path}").object.items()
    assert [pair.same for pair in items] == [True, False]
    assert items[0].a.id == items[1].b.id  # the same bytes are one face
    expected = np.asarray(Image.open(io.BytesIO(raw[1])), dtype=np.float32) / 255
    assert np.array_equal(items[0].b.read(), expected)


def test_labels_as_a_numpy_array(tmp_path: Path) -> None:
    path = tmp_path / "cfp_fp.bin"
    path.write_bytes(pickle.dumps(([encoded(0), encoded(1)], np.array([True])), protocol=4))
    assert read_bin(path)[1] == [True]


def test_a_set_written_by_python_2(tmp_path: Path) -> None:
    # Protocol 2 of Python 2 writes byte strings with the opcodes T/U, which Python 3 never writes.
    data = [encoded(0, (4, 4)), encoded(1, (4, 4))]
    body = b"\x80\x02]q\x00(" + b"".join(b"T" + len(d).to_bytes(4, "little") + d for d in data) + b"e]q\x01(\x88e\x86."
    path = tmp_path / "agedb_30.bin"
    path.write_bytes(body)
    assert read_bin(path) == (data, [True])


class Evil:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self):
        return (Path.touch, (self.flag,))


@pytest.mark.parametrize("where", ["image", "label", "whole"])
def test_a_pickle_with_a_function_call_is_refused_and_not_run(tmp_path: Path, where: str) -> None:
    flag = tmp_path / "ran"
    content = {
        "image": ([Evil(flag), encoded(0)], [True]),
        "label": ([encoded(0), encoded(1)], [Evil(flag)]),
        "whole": Evil(flag),
    }[where]
    path = tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UsageError, match="refused and was not run"):
        read_bin(path)
    assert not flag.exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cbuiltins\nbytes\n(L1000000000000L\ntR.",  # a terabyte of zeros
        b"cnumpy\nndarray\n((L1000000000000L\nttR.",
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L1000000000000L\ntS'b'\ntR.",
        b"\x80\x04Nr\xff\xff\xff\x7f0].",  # note number two billion: the unpickler would take 32 GB for it
        b"\x80\x05\x96\x00\x00\x00\x00\xff\x00\x00\x00.",  # a bytearray of a terabyte that is not there
        b"\x80\x02P0\n.",
    ],
)
def test_other_globals_are_refused_too(tmp_path: Path, payload: bytes) -> None:
    path = tmp_path / "evil.bin"
    path.write_bytes(payload)
    with pytest.raises(UsageError):
        read_bin(path)


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "objects.bin"
    path.write_bytes(pickle.dumps((np.array([b"a", [1]], dtype=object), [True])))
    with pytest.raises(UsageError, match="refused"):
        read_bin(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(([encoded(0), encoded(1)], [True]))[:500], "truncated"),
        (b"", "truncated"),
        (pickle.dumps(([encoded(0)], [True])), "two images per label"),
        (pickle.dumps([1, 2, 3]), "expected (images, same)"),
        (pickle.dumps((["text", "text"], [True])), "bytes"),
        (pickle.dumps(([], [])), "two images per label"),
        (pickle.dumps(([encoded(0), encoded(1)], [2])), "a label is 2"),
        (pickle.dumps(([encoded(0), encoded(1)], ["yes"])), "a label is yes"),
        (pickle.dumps((5, [True])), "bytes"),
    ],
)
def test_a_damaged_packed_set_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.bin"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_bin(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_image_size_is_named_when_read(tmp_path: Path, registry) -> None:
    path = tmp_path / "small.bin"
    path.write_bytes(pickle.dumps(([encoded(0, (96, 112)), encoded(1)], [True])))
    pair = registry.dataset(f"bin:{path}").object.items()[0]
    with pytest.raises(UsageError, match=r"image 0 is 96×112; expected aligned crops of 112×112"):
        pair.a.read()


# --- LFW


@pytest.fixture
def lfw_home(tmp_path: Path) -> Path:
    home = tmp_path / "lfw_home"
    for name, count in (("Ann_A", 2), ("Bob_B", 1)):
        for i in range(1, count + 1):
            put(home / "lfw_funneled" / name / f"{name}_{i:04d}.jpg", i, (250, 250))
    (home / "pairsDevTest.txt").write_text("1\nAnn_A\t1\t2\nAnn_A\t1\tBob_B\t1\n")
    (home / "pairsDevTrain.txt").write_text("1\nAnn_A\t1\t2\nAnn_A\t2\tBob_B\t1\n")
    (home / "pairs.txt").write_text("10\t1\nAnn_A\t1\t2\nAnn_A\t2\tBob_B\t1\n")
    return tmp_path


@pytest.mark.parametrize("given", ["parent", "home"])
def test_lfw_from_a_local_copy_without_download(lfw_home: Path, registry, given: str) -> None:
    home = lfw_home if given == "parent" else lfw_home / "lfw_home"
    data = registry.dataset(f"lfw(data-home={home},subset=test)").object
    items = data.items()
    assert [(p.id, p.same) for p in items] == [("Ann_A_0001--Ann_A_0002", True), ("Ann_A_0001--Bob_B_0001", False)]
    assert items[1].b.identity == "Bob_B"
    assert items[0].a.read().shape == (125, 94, 3)
    assert [p.id for p in registry.dataset(f"lfw(data-home={home})").object.items()][1] == "Ann_A_0002--Bob_B_0001"


def test_lfw_is_what_scikit_learn_gives(lfw_home: Path, registry) -> None:
    from sklearn.datasets import fetch_lfw_pairs

    items = registry.dataset(f"lfw(data-home={lfw_home},subset=test)").object.items()
    theirs = fetch_lfw_pairs(subset="test", data_home=str(lfw_home), color=True, resize=None, download_if_missing=False)
    for i, pair in enumerate(items):
        assert np.allclose(pair.a.read(), theirs.pairs[i, 0], atol=1 / 255)
        assert np.allclose(pair.b.read(), theirs.pairs[i, 1], atol=1 / 255)


def test_lfw_that_is_not_there_and_cannot_be_downloaded(
    tmp_path: Path, registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sklearn.datasets

    asked = {}

    def offline(**options: object) -> None:
        asked.update(options)
        raise OSError("no network")

    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_pairs", offline)
    from faithface.errors import RunError

    with pytest.raises(RunError, match="download it by hand"):
        registry.dataset(f"lfw(data-home={tmp_path},subset=train)").object.items()
    assert asked["data_home"] == str(tmp_path)
    assert asked["subset"] == "train"


def test_lfw_of_a_wrong_size_is_named(lfw_home: Path, registry) -> None:
    put(lfw_home / "lfw_home" / "lfw_funneled" / "Ann_A" / "Ann_A_0001.jpg", 0, (100, 100))
    pair = registry.dataset(f"lfw(data-home={lfw_home},subset=test)").object.items()[0]
    with pytest.raises(UsageError, match="100×100; expected LFW's 250×250"):
        pair.a.read()


# --- presentation attacks


def test_oulu_npu_with_its_protocol_list(tmp_path: Path, registry) -> None:
    for video in ("1_3_36_1", "1_3_36_2", "6_3_40_5", "1_3_36_3"):
        for frame in range(8):
            put(tmp_path / "Test_files" / video / f"{frame:04d}.png", frame)
    (tmp_path / "Test.txt").write_text("+1,1_3_36_1\n-1,1_3_36_2\n-2,6_3_40_5\n")
    data = registry.dataset(f"oulu-npu:{tmp_path}(protocol={tmp_path / 'Test.txt'},frames=3)").object
    items = data.items()
    assert len(items) == 9
    assert {item.label for item in items if "_1_3_36_1_" in item.id} == {"bona-fide"}
    assert {item.label for item in items if "_6_3_40_5_" in item.id} == {"attack"}
    assert not any("1_3_36_3" in item.id for item in items)
    assert [item.face.id[-8:-4] for item in items[:3]] == ["0000", "0004", "0007"]


def test_replay_attack_folders(tmp_path: Path, registry) -> None:
    put(tmp_path / "test/real/client009_session01_webcam_authenticate_adverse_1/1.jpg")
    put(tmp_path / "test/attack/fixed/attack_print_client009_session01_highdef_photo_adverse/1.jpg")
    put(tmp_path / "test/attack/hand/attack_mobile_client009_session01_mobile_video_adverse/1.jpg")
    labels = [item.label for item in registry.dataset(f"replay-attack:{tmp_path}").object.items()]
    assert sorted(labels) == ["attack", "attack", "bona-fide"]


def test_casia_fasd_numbers(tmp_path: Path, registry) -> None:
    for video in ("1", "2", "HR_1", "3", "5", "7", "HR_4"):
        put(tmp_path / "test_release" / "12" / video / "f1.jpg")
    items = registry.dataset(f"casia-fasd:{tmp_path}").object.items()
    assert sum(item.label == "bona-fide" for item in items) == 3
    assert sum(item.label == "attack" for item in items) == 4


def test_celeba_spoof_labels_and_boxes(tmp_path: Path, registry) -> None:
    live = put(tmp_path / "Data/test/10001/live/494405.png", 1, (448, 224))
    spoof = put(tmp_path / "Data/test/10001/spoof/494406.jpg", 2, (448, 224))
    live.with_name("494405_BB.txt").write_text("56 28 112 56 0.99\n")
    items = registry.dataset(f"celeba-spoof:{tmp_path}").object.items()
    assert [(item.label, item.id) for item in items] == [
        ("bona-fide", "bona-fide--10001_494405"),
        ("attack", "attack--10001_494406"),
    ]
    # The box is given for a 224×224 image: rows double in this one, columns do not.
    assert np.array_equal(items[0].face.read(), np.asarray(Image.open(live), dtype=np.float32)[56:168, 56:168] / 255)
    assert items[1].face.read().shape == (448, 224, 3)
    table = {f"Data/test/10001/live/{live.name}": [0] * 43 + [1], f"Data/test/10001/spoof/{spoof.name}": [0] * 44}
    (tmp_path / "metas" / "intra_test").mkdir(parents=True)
    (tmp_path / "metas" / "intra_test" / "test_label.json").write_text(json.dumps(table))
    assert [item.label for item in registry.dataset(f"celeba-spoof:{tmp_path}").object.items()] == [
        "attack",
        "bona-fide",
    ]
    (tmp_path / "metas" / "intra_test" / "test_label.json").write_text('{"a": [1]}')
    with pytest.raises(UsageError, match="44 numbers"):
        registry.dataset(f"celeba-spoof:{tmp_path}").object.items()


@pytest.mark.parametrize("name", ["oulu-npu", "replay-attack", "casia-fasd"])
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, registry, name: str) -> None:
    put(tmp_path / "some" / "where" / "a.png")
    with pytest.raises(UsageError, match="no frame folders of this layout"):
        registry.dataset(f"{name}:{tmp_path}").object.items()


def test_one_class_only_is_told(tmp_path: Path, registry) -> None:
    put(tmp_path / "1_3_36_1" / "1.png")
    data = registry.dataset(f"oulu-npu:{tmp_path}").object
    assert [item.label for item in data.items()] == ["bona-fide"]
    assert data.notes() == ("only bona-fide was found: metrics that compare classes cannot be scored",)


# --- synthetic faces


def test_generator_folders(tmp_path: Path, registry) -> None:
    put(tmp_path / "ffhq" / "00000" / "00000.png")
    put(tmp_path / "ffhq" / "00000" / "00001.png")
    for i in range(3):
        put(tmp_path / "stylegan2" / f"seed{i}.png")
    put(tmp_path / "masks" / "stylegan2" / "seed0.png")
    (tmp_path / "masks").rename(tmp_path.parent / f"{tmp_path.name}-masks")
    masks = tmp_path.parent / f"{tmp_path.name}-masks"
    data = registry.dataset(f"generators:{tmp_path}(per-source=2,human={masks})").object
    items = data.items()
    assert [item.id for item in items] == [
        "real--ffhq_00000_00000",
        "real--ffhq_00000_00001",
        "synthetic--stylegan2_seed0",
        "synthetic--stylegan2_seed1",
    ]
    assert [item.id for item in items if item.truth] == ["synthetic--stylegan2_seed0"]


def test_generator_folders_without_real_faces_say_how_to_name_them(tmp_path: Path, registry) -> None:
    put(tmp_path / "photos" / "a.png")
    put(tmp_path / "stylegan2" / "b.png")
    with pytest.raises(UsageError, match=r"real=NAME"):
        registry.dataset(f"generators:{tmp_path}").object.items()
    assert len(registry.dataset(f"generators:{tmp_path}(real=photos)").object.items()) == 2


# --- alignment


def test_alignment_brings_landmarks_onto_the_template() -> None:
    # White dots on black where the landmarks are must come out where the template is.
    angle, scale, shift = 0.4, 1.7, np.array([60.0, 40.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (TEMPLATE - 56) @ turn.T * scale + 56 + shift
    yy, xx = np.mgrid[0:260, 0:260]
    image = np.zeros((260, 260, 3), dtype=np.float32)
    for x, y in points:
        image += np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 18)[..., None].astype(np.float32)
    got = align_face(np.clip(image, 0, 1), points)[..., 0]
    assert got.shape == (112, 112)
    for x, y in TEMPLATE:
        window = got[int(y) - 5 : int(y) + 7, int(x) - 5 : int(x) + 7]
        dy, dx = np.unravel_index(window.argmax(), window.shape)
        assert abs(int(y) - 5 + dy - y) <= 1.0
        assert abs(int(x) - 5 + dx - x) <= 1.0


def test_alignment_of_an_aligned_face_changes_nothing() -> None:
    image = np.random.default_rng(0).random((112, 112, 3)).astype(np.float32)
    assert np.allclose(align_face(image, TEMPLATE), image, atol=1e-4)


def test_alignment_from_a_csv(tmp_path: Path, registry) -> None:
    put(tmp_path / "x" / "a.png", 1, (112, 112))
    put(tmp_path / "y" / "b.png", 2, (112, 112))
    rows = ["image," + ",".join(COLUMNS), "x/a.png," + ",".join(f"{v}" for v in TEMPLATE.ravel())]
    (tmp_path / "marks.csv").write_text("\n".join(rows))
    items = registry.dataset(f"folder:{tmp_path}(landmarks={tmp_path / 'marks.csv'},size=56)").object.items()
    assert read_face(items[0].face, (56, 56)).shape == (3, 56, 56)
    with pytest.raises(UsageError, match=r"no landmarks for image 'y/b.png'"):
        items[1].face.read()
    (tmp_path / "marks.csv").write_text("image,nose_x\n")
    with pytest.raises(UsageError, match="left_eye_x"):
        registry.dataset(f"folder:{tmp_path}(landmarks={tmp_path / 'marks.csv'})").object.items()


def test_landmarks_on_one_spot_are_refused() -> None:
    with pytest.raises(UsageError, match="five distinct points"):
        align_face(np.zeros((20, 20, 3), dtype=np.float32), np.full((5, 2), 7.0))


# --- presets


def test_presets_are_cards_that_load_when_the_file_is_there(tmp_path: Path) -> None:
    from faithface.card import load_card
    from faithface.model.presets import preset_text, presets

    assert {"w600k_r50", "adaface_ir101", "mobilefacenet", "sface", "minifasnet-v2"} <= set(presets())
    for preset in presets().values():
        (tmp_path / preset.file).write_bytes(b"")
        (tmp_path / "card.toml").write_text(preset_text(preset))
        card = load_card(tmp_path / "card.toml")
        assert card.input.color == preset.card.input.color
        assert np.allclose(card.input.std, preset.card.input.std)
        assert card.output.threshold == preset.card.output.threshold
