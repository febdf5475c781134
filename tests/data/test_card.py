"""Numbers of a data set's card, with values computed by hand, and duplicates of drawn images."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ultralytics.data.card import MAX_DISTANCE, class_shift, find_duplicates, measure_boxes, read_signatures
from ultralytics.data.labels import ImageLabels
from ultralytics.data.synthetic import draw_image


def labels(file: Path = Path("a.png"), shape=(480, 640), cls=(), boxes=(), crowd=None) -> ImageLabels:
    crowd = np.zeros(len(cls), bool) if crowd is None else np.array(crowd, bool)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return ImageLabels(file, shape, np.array(cls, np.int64), boxes, crowd, 0)


@pytest.mark.parametrize(("resize", "sides"), [("stretch", [16, 64, 32]), ("letterbox", [13.856, 55.426, 16])])
def test_boxes_are_measured_at_the_training_size(resize, sides):
    """A box of 0.025 x 0.025 is 16 x 16 px in a square of 640, and 16 x 12 px of a letterboxed 640 x 480 image."""
    first = labels(cls=(1, 0, 2), boxes=[(0.5, 0.5, 0.025, 0.025), (0.5, 0.5, 0.1, 0.1), (0.5, 0.5, 1, 1)],
                   crowd=(0, 0, 1))  # fmt: skip
    third = labels(shape=(400, 100), cls=(1,), boxes=[(0.5, 0.5, 0.05, 0.05)])
    found = measure_boxes([first, labels(), third], 640, resize)
    np.testing.assert_array_equal(found.side, sides)
    np.testing.assert_allclose(found.aspect, [4 / 3, 4 / 3, 1 / 4], atol=1e-4)
    assert (found.cls.tolist(), found.image.tolist()) == ([1, 0, 1], [0, 0, 2])
    assert found.per_image.tolist() == [2, 0, 1]


def test_a_split_without_boxes_has_empty_arrays():
    found = measure_boxes([labels(), labels()], 640, "stretch")
    assert found.side.shape == found.cls.shape == (0,) and found.per_image.tolist() == [0, 0]


def test_classes_differ_by_images_not_boxes_and_not_by_chance():
    """Class 0 is in a fifth and in all images, 1 in half of both, 2 in a single crowded image, 3 in the second only."""

    def split(images: int, *counts: int):
        box = (0.5, 0.5, 0.1, 0.1)
        each = [[cls for cls, count in enumerate(counts) if i < count] for i in range(images)]
        each[0] += [2] * 50
        return measure_boxes([labels(cls=cls, boxes=[box] * len(cls)) for cls in each], 640, "stretch")

    assert class_shift(split(100, 20, 50), split(40, 40, 20, 0, 30), 4) == ["5x", "", "", "only here"]
    assert class_shift(split(100, 20, 50), split(3, 2, 0), 4) == [""] * 4


def save(folder: Path, **images: np.ndarray) -> list[ImageLabels]:
    folder.mkdir()
    for name, image in images.items():
        cv2.imwrite(str(folder / f"{name}.png"), image)
    return [labels(folder / f"{name}.png") for name in images]


def test_copies_are_found_in_another_compression_size_and_brightness_and_other_images_are_not(tmp_path):
    drawn = [draw_image(np.random.default_rng(seed), 192)[0] for seed in range(12)]
    train = save(tmp_path / "train", **{f"t{i}": image for i, image in enumerate(drawn[:8])})
    val = save(
        tmp_path / "val",
        copy=drawn[0],
        half=cv2.resize(drawn[1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        stretched=cv2.resize(drawn[2], (640, 640)),
        brighter=cv2.convertScaleAbs(drawn[3], alpha=1.1, beta=8),
        other=drawn[9],
        mirrored=drawn[4][:, ::-1],
    )
    jpeg = tmp_path / "val" / "jpeg.jpg"
    cv2.imwrite(str(jpeg), cv2.resize(drawn[5], (960, 960)), [cv2.IMWRITE_JPEG_QUALITY, 60])  # decoded at 1/8
    (tmp_path / "val" / "copy.png").write_bytes((tmp_path / "train" / "t0.png").read_bytes())
    read = {"train": read_signatures(train, "train"), "val": read_signatures([*val, labels(jpeg)], "val")}
    rows = list(find_duplicates(read))
    assert [(Path(row[0]).stem, row[1], Path(row[2]).stem, *row[3:5]) for row in rows] == [
        ("copy", "val", "t0", "train", "exact"),
        ("half", "val", "t1", "train", "near"),
        ("stretched", "val", "t2", "train", "near"),
        ("brighter", "val", "t3", "train", "near"),
        ("jpeg", "val", "t5", "train", "near"),
    ]
    assert rows[0][5:] == (0, pytest.approx(1), 0)
    assert all(row[5] <= MAX_DISTANCE // 2 and row[6] > 0.99 and row[7] == 0 for row in rows)


def test_the_most_similar_image_of_several_is_named(tmp_path):
    image = draw_image(np.random.default_rng(0), 192)[0]
    noise = np.random.default_rng(1).integers(-60, 60, image.shape)
    train = save(tmp_path / "train", noisy=np.clip(image + noise, 0, 255).astype(np.uint8), same=image, again=image)
    read = {"train": read_signatures(train, "train"), "test": read_signatures(save(tmp_path / "t", x=image), "test")}
    ((_, _, other, _, kind, bits, _, more),) = find_duplicates(read)
    assert (Path(other).stem, kind, bits, more) == ("again", "exact", 0, 2)


def test_plain_images_are_only_duplicates_of_copies(tmp_path):
    """Objects on a plain background leave most bits of the hash equal; the correlation separates them.

    Images of one color have nothing to compare.
    """
    white, gray = np.full((96, 96, 3), 255, np.uint8), np.full((96, 96, 3), 90, np.uint8)
    left, right = white.copy(), white.copy()
    left[40:50, 10:20], right[40:50, 70:80] = 0, 0
    read = {
        "train": read_signatures(save(tmp_path / "train", white=white, left=left), "train"),
        "val": read_signatures(save(tmp_path / "val", gray=gray, right=right, same=white), "val"),
    }
    assert [(Path(r[0]).stem, Path(r[2]).stem, *r[4:]) for r in find_duplicates(read)] == [
        ("same", "white", "exact", 0, 1, 0)
    ]


def test_unreadable_images_are_left_out_and_a_limit_spreads(tmp_path, caplog):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    good = save(tmp_path / "a", **{str(i): np.full((20, 20, 3), i, np.uint8) for i in range(7)})
    read = read_signatures([labels(tmp_path / "broken.jpg"), *good], "train")
    nothing = read_signatures([labels(tmp_path / "broken.jpg")], "val")
    assert len(read.files) == 7 and "not compared with other splits" in caplog.text and "broken.jpg" in caplog.text
    assert nothing.hashes.shape[0] == 0 and not list(find_duplicates({"train": nothing, "val": read}))
    assert [file.stem for file in read_signatures(good, "train", 3).files] == ["0", "3", "6"]
