import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ultralytics.data.dataset import DetectionDataset
from ultralytics.data.images import read_image
from ultralytics.utils.errors import DataError


def test_report(build, small_set):
    labels, images = small_set / "labels", small_set / "images"
    (labels / "000.txt").write_text("0 0.5 0.5 0.2\n0 0.5 nan 0.2 0.2\n0 320 240 9 9\n")
    (labels / "001.txt").unlink()
    (labels / "002.txt").write_text("")
    (images / "003.jpg").write_bytes((images / "003.jpg").read_bytes()[:300])
    report = build().report
    for part in (
        "train: 5 images, 5 boxes, 3 images without boxes", "cat 3/2, dog 2/2", "2 malformed rows", "000.txt:2: not a",
        "1 box outside the image", "are these pixels", "1 image without a label", "1 missing or unreadable",
    ):  # fmt: skip
        assert part in report


def test_classes_outside_the_names_and_absent_images(build, small_set):
    (small_set / "labels" / "001.txt").write_text("1 0.5 0.5 0.2 0.2\n2 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match=r"001.txt:2: class 2, expected 0..1\n.*0: cat, 1: dog"):
        build()
    (small_set / "labels" / "001.txt").unlink()
    (small_set / "train.txt").write_text("images/000.jpg\nimages/999.jpg\n")
    (small_set / "data.yaml").write_text("train: train.txt\nval: images\nnames: [cat, dog]\n")
    dataset = build()
    assert len(dataset) == 1 and "999.jpg: no such file" in dataset.report


def test_label_cache_detects_changes(build, small_set, monkeypatch):
    build()
    assert len(list(small_set.glob("*.cache.npz"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr("ultralytics.data.verify.probe_image", None)  # would fail if anything were read again
        assert "12 boxes" in build().report
    (small_set / "labels" / "000.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.1 0.1\n")
    assert "13 boxes" in build().report
    (small_set / "images" / "005.jpg").unlink()
    assert "10 boxes" in build().report
    next(small_set.glob("*.cache.npz")).write_bytes(b"damaged")
    assert "10 boxes" in build().report


def test_label_cache_of_a_read_only_data_set_and_of_a_full_disk(build, small_set, cache_folder, monkeypatch, caplog):
    monkeypatch.setattr("os.access", lambda *_: False)
    build()
    assert not list(small_set.glob("*.npz")) and len(list((cache_folder / "labels").glob("*.npz"))) == 1

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    next((cache_folder / "labels").glob("*.npz")).unlink()
    monkeypatch.setattr("ultralytics.data.verify.atomic_write", full)
    assert len(build()) == 6
    assert "the label cache was not saved: [Errno 28]" in caplog.text


@pytest.fixture
def coco_set(small_set):
    """Small set with its labels in a json: categories 9 (dog) and 3 (cat), a crowd region, an empty image."""
    shutil.rmtree(small_set / "labels")
    content = {
        "images": [{"id": 10 + i, "file_name": f"{i:03}.jpg", "width": 60, "height": 40} for i in range(3)],
        "categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 9, "bbox": [6, 4, 12, 8], "iscrowd": 0},
            {"id": 2, "image_id": 11, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1},
            {"id": 3, "image_id": 11, "category_id": 3, "bbox": [0, 0, 30, 40]},
            {"id": 4, "image_id": 11, "category_id": 3, "bbox": [0, 0, 30]},
        ],
    }
    (small_set / "a.json").write_text(json.dumps(content))
    (small_set / "data.yaml").write_text("train: images\nval: images\nannotations: {train: a.json}\n")
    return small_set


def test_coco(build, coco_set):
    for _ in range(2):  # read, then from the cache
        dataset = build()
        assert dataset.names == {0: "cat", 1: "dog"} and dataset.category_ids == (3, 9)
        batch = DetectionDataset.collate_fn([dataset[i] for i in range(3)])
        assert batch["image_id"] == [10, 11, 12]
        assert batch["cls"].flatten().tolist() == [1, 0] and batch["batch_idx"].tolist() == [0, 1]
        torch.testing.assert_close(batch["bboxes"], torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.25, 0.5, 0.5, 1.0]]))
        assert dataset.labels[1].crowd.tolist() == [True, False] and "1 crowd region skipped" in dataset.report
        assert "1 malformed row (skipped)\n  a.json, annotation 4: bbox is [0, 0, 30]" in dataset.report
    content = json.loads((coco_set / "a.json").read_text())
    content["annotations"] = [{**entry, "iscrowd": 1} for entry in content["annotations"]]
    (coco_set / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="no boxes to train on in 3 images"):  # crowd regions are not trained on
        build(training=True)
    content["annotations"][0]["category_id"] = 4
    (coco_set / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"a\.json, annotation 1: category_id 4 is not among the categories"):
        build()


def test_coco_names_must_match(build, coco_set):
    text = (coco_set / "data.yaml").read_text()
    (coco_set / "data.yaml").write_text(text + "names: [dog, cat]\n")
    with pytest.raises(DataError, match="class 0, by ascending category id, is 'cat', but 'dog' in the names"):
        build()
    (coco_set / "data.yaml").write_text(text + "names: [cat]\n")
    with pytest.raises(DataError, match=r"class 1, .* is 'dog', but None"):
        build()


@pytest.mark.parametrize("stored", [True, False])
def test_boxes_of_photographs_that_exif_turns(build, coco_set, stored):
    """The box is where the pixels are white, whether the json has the sizes of the stored or of the upright images."""
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    pixels = np.zeros((100, 160, 3), np.uint8)
    pixels[10:40, 16:48] = 255
    for turn in range(1, 10):
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(pixels).save(coco_set / "images" / f"t{turn}.jpg", exif=exif, quality=95)
        image = read_image(coco_set / "images" / f"t{turn}.jpg")
        height, width = (100, 160) if stored else image.shape[:2]
        rows, columns = np.nonzero((pixels if stored else image)[..., 0] > 128)
        box = [*map(int, (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1))]
        content["images"].append({"id": turn, "file_name": f"t{turn}.jpg", "width": width, "height": height})
        content["annotations"].append({"id": turn, "image_id": turn, "category_id": 1, "bbox": box})
    (coco_set / "a.json").write_text(json.dumps(content))
    dataset = build()
    assert ("7 images turned by EXIF" in dataset.report) is stored
    assert (dataset.json_file is None) is stored and "was scaled" not in dataset.report
    for item in dataset.labels:
        rows, columns = np.nonzero(read_image(item.file)[..., 0] > 128)
        height, width = item.shape
        cx, cy, w, h = item.boxes[0] * (width, height, width, height)
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), expected, atol=1.01)


@pytest.mark.parametrize("size", [{}, {"width": 0, "height": 0}, {"width": None, "height": "40"}, {"width": [6]}])
def test_json_without_usable_sizes(build, coco_set, size):
    content = json.loads((coco_set / "a.json").read_text())
    content["images"] = [{key: entry[key] for key in ("id", "file_name")} | size for entry in content["images"]]
    (coco_set / "a.json").write_text(json.dumps(content), encoding="utf-8-sig")
    dataset = build()
    np.testing.assert_allclose(dataset.labels[0].boxes, [[0.2, 0.2, 0.2, 0.2]], atol=1e-6)
    assert ("boxes are used as pixels of the image" in dataset.report) is bool(size)


def test_label_caches_made_by_hand(build, small_set):
    build()
    (file,) = small_set.glob("*.cache.npz")
    with np.load(file) as stored:
        good = dict(stored)
    head = json.loads(good["head"].tobytes())
    text = lambda **changes: np.frombuffer(json.dumps(head | changes).encode(), np.uint8)  # noqa: E731
    rows = good["rows"]
    for changes in (
        {"head": text(files=[])}, {"head": text(ids=[None] * 6)}, {"head": text(problems=[{"kind": 1}])},
        {"head": text(problems=[{"kind": "x", "where": "", "detail": ""}])}, {"head": text(files=["/etc/passwd"] * 6)},
        {"head": np.frombuffer(b"[" * 9999, np.uint8)}, {"head": np.array(5)}, {"rows": rows[:, :4]},
        {"rows": rows[:-1]}, {"rows": rows * np.nan}, {"rows": rows * 9}, {"rows": rows - 1},
        {"rows": rows.astype("U9")},
        {"rows": np.array([None], object)}, {"counts": good["counts"][:-1]}, {"counts": -good["counts"]},
        {"shapes": good["shapes"] * 0}, {"shapes": good["shapes"][:, 0]}, {"shapes": good["shapes"].astype(complex)},
    ):  # fmt: skip
        np.savez(file, **(good | changes))
        assert "6 images, 12 boxes" in build().report
        np.savez(file, **{key: value for key, value in good.items() if key not in changes})
        assert "6 images, 12 boxes" in build().report
    np.savez_compressed(file, **good, bomb=np.zeros(10**7))
    assert "6 images, 12 boxes" in build().report


def test_one_class_takes_labels_of_all_classes(build, small_set):
    (small_set / "data.yaml").write_text("train: images\nval: images\nnames: [item]\n")
    with pytest.raises(DataError, match="class 1, expected 0"):
        build()
    dataset = build(single_cls=True)
    assert sum(len(item.cls) for item in dataset.labels) == 12 and not any(item.cls.any() for item in dataset.labels)
