from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ultralytics.data.build import EpochSampler, block_indices, build_dataloader
from ultralytics.data.images import read_image
from ultralytics.utils import dist
from ultralytics.utils.errors import DataError
from ultralytics.utils.ops import scale_boxes, xywh2xyxy, xywhn2xyxy


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[key], b[key]) for key in ("img", "cls", "bboxes"))


def test_selection_of_images_and_classes(build):
    assert [item.file.stem for item in build(training=True, fraction=0.5).labels] == ["000", "002", "005"]
    assert len(build(fraction=0.5)) == 6  # only of training images
    only_dogs = build(classes=[1])
    assert {int(c) for item in only_dogs.labels for c in item.cls} == {1} and len(only_dogs) == 6
    with pytest.raises(DataError, match=r"class 5 is unknown; .*data.yaml has 0\.\.1"):
        build(classes=[5])
    single = build(single_cls=True)
    assert single.names == {0: "item"} and not any(item.cls.any() for item in single.labels)


def test_nothing_to_train_on(build, small_set):
    for file in (small_set / "labels").iterdir():
        file.unlink()
    assert len(build()) == 6
    with pytest.raises(DataError, match=r"no boxes to train on in 6 images; .*looked for .*labels"):
        build(training=True)
    for file in (small_set / "images").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match="none of the images can be used"):
        build()


PLAIN = {"training": True, "degrees": 0.0, "translate": 0.0, "scale": 0.0, "fliplr": 0.0, "flipud": 0.0}


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({}, [(48, 80), (80, 80), (80, 64)]),  # 64 + 8, rounded up
        ({**PLAIN, "hsv_h": 0.0}, [(32, 64), (64, 64), (64, 48)]),
        ({**PLAIN, "augmentation": "none"}, [(32, 64), (64, 64), (64, 48)]),
    ],
)
def test_rectangular_batches_scale_back_to_the_images(options, shapes, build, small_set):
    for i, (height, width) in enumerate([(40, 20), (20, 40), (30, 30), (10, 40), (30, 40), (40, 30)]):
        cv2.imwrite(str(small_set / "images" / f"{i:03}.jpg"), np.full((height, width, 3), 200, np.uint8))
    dataset = build(resize="letterbox", rect=True, stride=16, **options)
    loader = list(build_dataloader(dataset, batch=2, workers=0, shuffle=bool(options)))
    stems = [Path(file).stem for batch in loader for file in batch["im_file"]]
    assert stems == ["003", "001", "004", "002", "005", "000"]
    assert [tuple(batch["img"].shape[2:]) for batch in loader] == shapes
    for batch in loader:
        height, width = batch["img"].shape[2:]
        boxes = xywh2xyxy(batch["bboxes"]) * torch.tensor([width, height, width, height])
        for i, (original, image_id) in enumerate(zip(batch["ori_shape"], batch["image_id"], strict=True)):
            mine = boxes[batch["batch_idx"] == i]
            back = scale_boxes((height, width), mine, original, ratio_pad=batch["ratio_pad"][i])
            item = next(item for item in dataset.labels if item.image_id == image_id)
            assert item.shape == original
            np.testing.assert_allclose(back, xywhn2xyxy(item.boxes, *original[::-1]), atol=1e-4)


def test_squares_of_letterboxed_images(build):
    assert build(rect=True, resize="stretch", training=True)[0]["img"].shape == (3, 64, 64)
    for options in ({}, {"training": True, "augmentation": "none"}, {"cache": "ram"}):
        item = build(resize="letterbox", **options)[0]
        assert item["img"].shape == (3, 64, 64) and item["ratio_pad"] == ((43 / 40, 64 / 60), (0, 10))
        assert (item["img"][:, :10] == 114).all() and (item["img"][:, 53:] == 114).all()


def epochs(dataset, workers):
    loader = build_dataloader(dataset, batch=4, workers=workers, shuffle=True, seed=dataset.source.seed)
    batches = []
    for epoch in range(3):
        if epoch == 2:
            dataset.close_mosaic()
        loader.set_epoch(epoch)
        batches.append(list(loader))
    return batches


@pytest.mark.parametrize(
    "pipeline", [{}, {"augmentation": "official", "dense": 0.5}, {"resize": "letterbox", "dense": 0.2}]
)
def test_batches_depend_on_seed_and_epoch_only(build, pipeline):
    here = epochs(build(training=True, **pipeline), workers=0)
    there = epochs(build(training=True, cache=True, **pipeline), workers=2)
    other = epochs(build(training=True, seed=1, **pipeline), workers=0)
    for epoch, batches in enumerate(here):
        assert [len(batch["im_file"]) for batch in batches] == [4, 2]
        for a, b, c in zip(batches, there[epoch], other[epoch], strict=True):
            assert a["im_file"] == b["im_file"] and same(a, b)
            assert not torch.equal(a["img"], c["img"])  # another order
    assert here[0][0]["im_file"] != here[1][0]["im_file"]


@pytest.mark.parametrize("workers", [0, 2])
def test_rest_of_an_epoch_skips_finished_batches(build, monkeypatch, workers):
    dataset, read = build(training=True, mosaic=0.0, mixup=0.0), []
    loader = build_dataloader(dataset, batch=2, workers=workers, shuffle=True, seed=0)
    loader.set_epoch(1)
    whole = list(loader)
    monkeypatch.setattr(dataset.source, "_read", lambda file: read.append(str(file)) or read_image(file))
    loader.set_epoch(1, done=2)
    rest = list(loader)
    assert len(loader) == len(whole) == 3 and len(rest) == 1 and same(rest[0], whole[2])
    assert workers or read == rest[0]["im_file"]


def test_samplers_distribute_round_robin(monkeypatch):
    joint, shuffled, ordered, blocks = list(EpochSampler(7, seed=0)), [], [], []
    monkeypatch.setattr(dist, "world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        shuffled.append(list(EpochSampler(7, seed=0)))
        ordered.append(list(EpochSampler(7, 0, ordered=True)))
        blocks.append(block_indices(11, batch=2))
    assert [len(share) for share in shuffled] == [3, 3, 3]
    assert [index for row in zip(*shuffled, strict=True) for index in row] == [*joint, *joint[:2]]
    assert ordered == [[0, 3, 6], [1, 4, 6], [2, 5, 6]]
    assert blocks == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10]]


CAPPED = ((4, False), (5, True), (8, False))  # samples, drop_last


def test_any_sequence_is_loaded_by_no_more_workers_than_batches():
    loaders = [build_dataloader(range(n), batch=4, workers=8, drop_last=last) for n, last in CAPPED]
    assert [loader.num_workers for loader in loaders][:2] == [0, 0] and loaders[2].num_workers <= 2
    orders = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        orders.append(torch.cat(list(build_dataloader(range(64), batch=4))).tolist())
    assert orders[0] == orders[1] != orders[2] and sorted(orders[2]) == [*range(64)]
    for loader in loaders:
        loader.close()
    with pytest.raises(ValueError, match="positive integer"):
        build_dataloader([], batch=4)
