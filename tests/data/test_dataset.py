import os
import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from ultralytics.data.build import EpochSampler
from ultralytics.data.dataset import BUFFER, DetectionDataset, ImageSource, MixingBuffer, epoch_order, fill_disk_cache


def test_item_and_batch(build):
    dataset = build()
    assert len(dataset) == 6 and dataset.names == {0: "cat", 1: "dog"} and dataset.category_ids is None
    batch = DetectionDataset.collate_fn([dataset[1], dataset[2]])
    assert batch["img"].shape == (2, 3, 64, 64) and batch["img"].dtype == torch.uint8
    assert batch["cls"].tolist() == [[0], [1], [0], [1], [0]] and batch["batch_idx"].tolist() == [0, 0, 1, 1, 1]
    torch.testing.assert_close(batch["bboxes"][1], torch.tensor([0.4, 0.5, 0.3, 0.4]))
    assert batch["ori_shape"] == [(40, 60)] * 2 and batch["resized_shape"] == [(64, 64)] * 2
    assert batch["ratio_pad"][0] == ((64 / 40, 64 / 60), (0, 0)) and batch["image_id"] == [1, 2]
    image = cv2.resize(cv2.imread(batch["im_file"][0]), (64, 64))
    assert np.array_equal(batch["img"][0].permute(1, 2, 0).flip(-1).numpy(), image)


def test_the_fingerprint_is_that_of_names_images_and_labels(build, small_set):
    first = build().fingerprint
    assert build(training=True, imgsz=96).fingerprint == first  # as loaded does not matter
    assert len({first, build(single_cls=True).fingerprint, build(training=True, fraction=0.5).fingerprint}) == 3
    (small_set / "labels" / "000.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    assert build().fingerprint != first


@pytest.mark.parametrize("cache", [False, "ram"])
def test_images_keep_their_aspect_ratio_and_detail(build, cache):
    official = build(training=True, augmentation="official", cache=cache)
    assert official.source.load(0).shape == (40, 60) and official[0]["img"].shape == (3, 64, 64)
    sample = ImageSource(official.labels, 32, max_side=30, cache=cache).load(0)
    assert sample.shape == (20, 30) and sample.ratio == (0.5, 0.5)
    np.testing.assert_allclose(sample.boxes[0], (6, 6, 12, 14), atol=1e-4)
    assert build(augmentation="official", cache=cache).source.load(0).shape == (64, 64)


@pytest.mark.parametrize("cache", [True, "ram", "disk"])
def test_image_caches_change_nothing(build, small_set, cache):
    plain, cached = build(), build(cache=cache)
    assert all(torch.equal(plain[i]["img"], cached[i]["img"]) for i in range(6))
    assert len(list((small_set / "images").glob("*.npy"))) == (6 if cache == "disk" else 0)
    if cache == "disk":  # a changed image
        file = small_set / "images" / "000.jpg"
        cv2.imwrite(str(file), np.zeros((40, 60, 3), np.uint8))
        os.utime(file, (1e9, 1e9))  # as copied by `rsync -t`: older than the copy
        assert not build(cache="disk")[0]["img"].any()


CUT = "nothing was written"


@pytest.mark.parametrize(
    "copy",
    [np.zeros((40, 60, 3)), np.zeros((40, 60), np.uint8), np.zeros((9, 9, 3), np.uint8), np.array("x"), None, b"",
     b"\0" * 99, b"PK\3\4", CUT],
    ids=repr,
)  # fmt: skip
def test_copies_made_by_hand(build, small_set, copy):
    file = small_set / "images" / "000.jpg"
    status = file.stat()
    with open(f"{file}.npy", "wb") as stream:
        if isinstance(copy, bytes):
            stream.write(copy)
        elif copy is not CUT:
            np.save(stream, np.array([{}], object) if copy is None else copy)
        stream.write(b"" if copy is CUT else struct.pack("<qq", status.st_size, status.st_mtime_ns))
    assert torch.equal(build(cache="disk")[0]["img"], build()[0]["img"])


def test_a_folder_that_cannot_be_written(build, monkeypatch, caplog):
    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ultralytics.data.dataset.atomic_write", refuse)
    assert len(build(cache="disk")) == 6 and "cache=disk: no copy of 6 images, read as usual: [Errno 13]" in caplog.text


def test_caches_that_do_not_fit(build, monkeypatch, caplog):
    monkeypatch.setattr("ultralytics.data.dataset.available_memory", lambda: 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert build(cache="ram").source._images is None
    assert not fill_disk_cache(build().labels)
    assert "cache=ram is disabled" in caplog.text and "cache=disk is disabled" in caplog.text


@pytest.mark.parametrize("length", [1, 5, BUFFER, 3 * BUFFER])
def test_mixing_partners_are_near_in_the_order_of_the_epoch(length):
    order = epoch_order(length, seed=4, epoch=2)
    assert sorted(order.tolist()) == list(range(length))
    buffer = MixingBuffer(length, seed=4)
    positions = {index: position for position, index in enumerate(order.tolist())}
    for index in range(length):
        drawn = buffer.draw(index, 2, 200, np.random.default_rng(index))
        last = positions[index]
        allowed = range(max(0, last + 1 - BUFFER), max(last + 1, min(BUFFER, length)))
        assert {positions[i] for i in drawn} <= set(allowed)
        assert drawn == MixingBuffer(length, seed=4).draw(index, 2, 200, np.random.default_rng(index))


def test_mosaics_decode_each_image_about_once(build, monkeypatch):
    dataset = build(training=True, mosaic=1.0, mixup=1.0)
    sampler, reads, read = EpochSampler(6, seed=0), [], dataset.source._read
    first = [dataset[i]["img"] for i in sampler]
    monkeypatch.setattr(dataset.source, "_read", lambda file: reads.append(file) or read(file))
    again = [dataset[i]["img"] for i in sampler]
    assert reads == [] and all((a == b).all() for a, b in zip(first, again, strict=True))
    dataset.set_epoch(1)
    sampler.epoch = 1
    for i in sampler:
        dataset[i]
    assert len(reads) <= 1
