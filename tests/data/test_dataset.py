import json
import os
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from ultralytics.data.build import BlockSampler, EpochSampler, build_dataloader, build_dataset
from ultralytics.data.dataset import DetectionDataset, fill_disk_cache
from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.data.images import read_image
from ultralytics.utils import dist
from ultralytics.utils.errors import DataError

AUGMENT = {
    "augmentation": "mosaic", "dense": 0.0,
    "degrees": 5.0, "translate": 0.1, "scale": 0.5, "shear": 1.0, "perspective": 0.0, "mosaic": 0.5, "mixup": 0.3,
    "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "flipud": 0.1, "fliplr": 0.5,
}  # fmt: skip
DATA = {"imgsz": 64, "cache": False, "single_cls": False, "fraction": 1.0, "classes": None, "seed": 0}


def build(root, training=False, keep_ratio=False, **changes) -> DetectionDataset:
    options = SimpleNamespace(**{**AUGMENT, **DATA, **changes})
    return build_dataset(
        options, load_dataset_config(root / "data.yaml"), "train", training=training, keep_ratio=keep_ratio
    )


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[key], b[key]) for key in ("img", "cls", "bboxes"))


def test_item_and_batch(small_set):
    dataset = build(small_set)
    assert len(dataset) == 6 and dataset.names == {0: "cat", 1: "dog"} and dataset.category_ids is None
    batch = DetectionDataset.collate([dataset[1], dataset[2]])
    assert batch["img"].shape == (2, 3, 64, 64) and batch["img"].dtype == torch.uint8
    assert batch["cls"].tolist() == [[0], [1], [0], [1], [0]] and batch["batch_idx"].tolist() == [0, 0, 1, 1, 1]
    torch.testing.assert_close(batch["bboxes"][1], torch.tensor([0.4, 0.5, 0.3, 0.4]))
    assert batch["ori_shape"] == [(40, 60)] * 2 and batch["resized_shape"] == [(64, 64)] * 2
    assert batch["ratio_pad"][0] == ((64 / 40, 64 / 60), (0, 0)) and batch["image_id"] == [1, 2]
    image = cv2.resize(cv2.imread(batch["im_file"][0]), (64, 64))
    assert np.array_equal(batch["img"][0].permute(1, 2, 0).flip(-1).numpy(), image)


def test_letterbox_keeps_proportions(small_set):
    dataset = build(small_set, keep_ratio=True)
    item = dataset[0]
    (scale_h, scale_w), (left, top) = item["ratio_pad"]
    assert item["img"].shape == (3, 64, 64) and (item["img"][:, 0] == 114).all()
    assert (left, top) == (0, 10) and scale_h == pytest.approx(scale_w, abs=0.02)
    torch.testing.assert_close(item["bboxes"][0], torch.tensor([0.3, 0.5, 0.2, 0.4 * 43 / 64]), atol=0.01, rtol=0)


def test_findings_are_reported(small_set):
    labels, images = small_set / "labels", small_set / "images"
    (labels / "000.txt").write_text("0 0.5 0.5 0.2\n0 0.5 nan 0.2 0.2\n0 320 240 9 9\n")
    (labels / "001.txt").unlink()
    (labels / "002.txt").write_text("")
    (images / "003.jpg").write_bytes((images / "003.jpg").read_bytes()[:300])
    dataset = build(small_set)
    report = dataset.report
    counts = {kind: len(report.of_kind(kind)) for kind in ("malformed", "out_of_range", "missing_label", "corrupt")}
    assert counts == {"malformed": 2, "out_of_range": 1, "missing_label": 1, "corrupt": 1}
    assert (report.images, report.boxes, report.empty, len(dataset)) == (5, 5, 3, 5)
    text = str(report)
    for part in ("5 images, 5 boxes, 3 images without boxes", "000.txt:2", "are these pixels", "003.jpg: ", "cat 3/2"):
        assert part in text


def test_class_outside_the_names_is_refused(small_set):
    (small_set / "labels" / "001.txt").write_text("1 0.5 0.5 0.2 0.2\n2 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match=r"001.txt:2: class 2, expected 0..1\n.*0: cat, 1: dog"):
        build(small_set)


def test_nothing_to_train_on(small_set):
    shutil.rmtree(small_set / "labels")
    assert len(build(small_set)) == 6
    with pytest.raises(DataError, match=r"no boxes to train on in 6 images; .*looked for .*labels"):
        build(small_set, training=True)
    for file in (small_set / "images").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match="none of the images can be used"):
        build(small_set)


def test_listed_images_that_do_not_exist(small_set):
    (small_set / "train.txt").write_text("images/000.jpg\nimages/999.jpg\n")
    (small_set / "data.yaml").write_text("train: train.txt\nval: images\nnames: [cat, dog]\n")
    dataset = build(small_set)
    assert len(dataset) == 1 and "999.jpg: no such file" in str(dataset.report)


def test_label_cache_notices_changes(small_set, monkeypatch):
    build(small_set)
    assert len(list(small_set.glob("*.cache.npz"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr("ultralytics.data.verify.probe_image", None)  # would fail if anything were read again
        assert build(small_set).report.boxes == 12
    (small_set / "labels" / "000.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.1 0.1\n")
    assert build(small_set).report.boxes == 13
    (small_set / "images" / "005.jpg").unlink()
    assert build(small_set).report.boxes == 10
    next(small_set.glob("*.cache.npz")).write_bytes(b"damaged")
    assert build(small_set).report.boxes == 10


def test_label_cache_of_a_read_only_data_set(small_set, cache_folder):
    small_set.chmod(0o555)
    build(small_set)
    small_set.chmod(0o755)
    assert not list(small_set.glob("*.npz")) and len(list((cache_folder / "labels").glob("*.npz"))) == 1


@pytest.fixture
def coco_set(small_set):
    """The small set with its labels in a json: categories 9 (dog) and 3 (cat), a crowd region, an empty image."""
    shutil.rmtree(small_set / "labels")
    content = {
        "images": [{"id": 10 + i, "file_name": f"{i:03}.jpg", "width": 60, "height": 40} for i in range(3)],
        "categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 9, "bbox": [6, 4, 12, 8], "iscrowd": 0},
            {"id": 2, "image_id": 11, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1},
            {"id": 3, "image_id": 11, "category_id": 3, "bbox": [0, 0, 30, 40], "iscrowd": 0},
        ],
    }
    (small_set / "a.json").write_text(json.dumps(content))
    (small_set / "data.yaml").write_text("train: images\nval: images\nannotations: {train: a.json}\n")
    return small_set


def test_coco(coco_set):
    for _ in range(2):  # read, then from the cache
        dataset = build(coco_set)
        assert dataset.names == {0: "cat", 1: "dog"} and dataset.category_ids == (3, 9)
        batch = DetectionDataset.collate([dataset[i] for i in range(3)])
        assert batch["image_id"] == [10, 11, 12]
        assert batch["cls"].flatten().tolist() == [1, 0] and batch["batch_idx"].tolist() == [0, 1]
        torch.testing.assert_close(batch["bboxes"], torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.25, 0.5, 0.5, 1.0]]))
        assert dataset.labels[1].crowd.tolist() == [True, False] and dataset.report.crowd == 1


def test_crowd_regions_are_nothing_to_train_on(coco_set):
    content = json.loads((coco_set / "a.json").read_text())
    content["annotations"] = [{**entry, "iscrowd": 1} for entry in content["annotations"]]
    (coco_set / "a.json").write_text(json.dumps(content))
    assert len(build(coco_set)) == 3
    with pytest.raises(DataError, match="no boxes to train on in 3 images"):
        build(coco_set, training=True)


def test_the_official_pipeline_gets_images_in_their_own_proportions(small_set):
    assert build(small_set, training=True, augmentation="official").source.load(0).shape == (40, 60)
    assert build(small_set, training=True, augmentation="official", imgsz=32).source.load(0).shape == (40, 60)
    assert (
        build(small_set, augmentation="official").source.load(0).shape
        == build(small_set, training=True).source.load(0).shape
    )


def test_coco_names_must_agree(coco_set):
    text = (coco_set / "data.yaml").read_text()
    (coco_set / "data.yaml").write_text(text + "names: [dog, cat]\n")
    with pytest.raises(DataError, match="class 0, by ascending category id, is 'cat', but 'dog' in the names"):
        build(coco_set)
    (coco_set / "data.yaml").write_text(text + "names: [cat]\n")
    with pytest.raises(DataError, match=r"class 1, .* is 'dog', but None"):
        build(coco_set)


def test_selection(small_set):
    assert [item.file.stem for item in build(small_set, training=True, fraction=0.5).labels] == ["000", "002", "005"]
    assert len(build(small_set, fraction=0.5)) == 6  # of training images only
    only_dogs = build(small_set, classes=[1])
    assert {int(c) for item in only_dogs.labels for c in item.cls} == {1} and len(only_dogs) == 6
    with pytest.raises(DataError, match=r"class 5 is unknown; .*data.yaml has 0\.\.1"):
        build(small_set, classes=[5])
    single = build(small_set, single_cls=True)
    assert single.names == {0: "item"} and not any(item.cls.any() for item in single.labels)


@pytest.mark.parametrize("cache", [True, "ram", "disk"])
def test_image_caches_change_nothing(small_set, cache):
    plain, cached = build(small_set), build(small_set, cache=cache)
    assert all(same(plain[i], cached[i]) for i in range(6))
    assert len(list((small_set / "images").glob("*.npy"))) == (6 if cache == "disk" else 0)


def test_disk_cache_notices_changed_images(small_set):
    build(small_set, cache="disk")
    file = small_set / "images" / "000.jpg"
    cv2.imwrite(str(file), np.zeros((40, 60, 3), np.uint8))
    os.utime(file, (4e9, 4e9))
    assert not build(small_set, cache="disk")[0]["img"].any()


def test_caches_that_do_not_fit(small_set, monkeypatch, caplog):
    monkeypatch.setattr("ultralytics.data.dataset.available_memory", lambda: 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert build(small_set, cache="ram").source._images is None
    assert not fill_disk_cache(build(small_set).labels)
    assert "cache='ram' is disabled" in caplog.text and "cache='disk' is disabled" in caplog.text


def epochs(dataset, workers: int) -> list[list[dict]]:
    loader = build_dataloader(dataset, batch=4, workers=workers, shuffle=True, seed=0)
    result = []
    for epoch in (0, 1, 2, 1):
        if epoch == 2:
            dataset.close_mosaic()
        loader.set_epoch(epoch)
        result.append(list(loader))
    return result


@pytest.mark.parametrize("pipeline", [{}, {"augmentation": "official", "dense": 0.5}])
def test_batches_depend_on_seed_and_epoch_alone(small_set, pipeline):
    here = epochs(build(small_set, training=True, **pipeline), workers=0)
    there = epochs(build(small_set, training=True, cache=True, **pipeline), workers=2)
    other = epochs(build(small_set, training=True, seed=1, **pipeline), workers=0)
    for epoch, batches in enumerate(here):
        assert [len(batch["im_file"]) for batch in batches] == [4, 2]
        for a, b, c in zip(batches, there[epoch], other[epoch], strict=True):
            assert a["im_file"] == b["im_file"] and same(a, b)
            assert not torch.equal(a["img"], c["img"])  # another order
    assert here[0][0]["im_file"] != here[1][0]["im_file"]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_rest_of_an_epoch_is_loaded_without_what_is_done(small_set, workers):
    loader = build_dataloader(build(small_set, training=True), batch=2, workers=workers, shuffle=True, seed=0)
    loader.set_epoch(1)
    whole = list(loader)
    loader.set_epoch(1, done=2)
    rest = list(loader)
    assert len(loader) == len(whole) == 3 and len(rest) == 1 and same(rest[0], whole[2])


def test_images_of_batches_that_are_done_are_not_read(small_set, monkeypatch):
    dataset, read = build(small_set, training=True, mosaic=0.0, mixup=0.0), []
    monkeypatch.setattr(dataset.source, "_read", lambda file: read.append(str(file)) or read_image(file))
    loader = build_dataloader(dataset, batch=2, workers=0, shuffle=True, seed=0)
    loader.set_epoch(1, done=2)
    assert [file for batch in loader for file in batch["im_file"]] == read and len(read) == 2


@pytest.mark.parametrize("pipeline", [{"mosaic": 1.0, "mixup": 1.0}, {"dense": 1.0}, {"mosaic": 0.0, "mixup": 1.0}])
def test_training_samples_are_well_formed(small_set, pipeline):
    dataset = build(small_set, training=True, **pipeline)
    for epoch in range(10):
        dataset.set_epoch(epoch)
        batch = DetectionDataset.collate([dataset[i] for i in range(6)])
        x, y, w, h = batch["bboxes"].T
        assert (torch.cat([x - w / 2, y - h / 2]) > -1e-6).all() and (
            torch.cat([x + w / 2, y + h / 2]) < 1 + 1e-6
        ).all()
        assert (torch.cat([w, h]) > 2 / 64).all()


@pytest.fixture
def three_processes(monkeypatch):
    """Builds something as each of three processes would."""

    def as_each(build):
        built = []
        for rank in range(3):
            monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
            monkeypatch.setattr(dist, "world_size", lambda: 3)
            built.append(list(build()))
        return built

    return as_each


def test_shares_of_an_epoch_are_those_of_the_joint_batch(three_processes):
    joint = list(EpochSampler(7, seed=0))
    shares = three_processes(lambda: EpochSampler(7, seed=0))
    assert [len(share) for share in shares] == [3, 3, 3]
    assert [index for row in zip(*shares, strict=True) for index in row] == [*joint, *joint[:2]]


def test_shares_of_a_validation_judge_each_image_once(three_processes):
    shares = three_processes(lambda: BlockSampler(11, batch=2))
    assert shares == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10]]
    assert dist.interleave(shares, block=2) == list(range(11))
