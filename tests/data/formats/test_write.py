import json
from typing import get_args

import pytest

from tests.data.formats.examples import result
from ultralytics.cfg.options import option_types
from ultralytics.data.formats import FORMATS, LabelWriters, write_labels
from ultralytics.utils.errors import DataError, OptionError


def files(folder):
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def test_the_option_has_every_format():
    (rule,) = get_args(option_types()["save_labels"])[1:]
    assert rule.choices == tuple(FORMATS)


def test_every_format_has_a_folder_of_its_own(tmp_path):
    write_labels(iter([result()]), tmp_path, list(FORMATS))
    assert files(tmp_path) == [
        "coco/annotations/instances_predictions.json",
        "cvat/annotations.xml",
        "label_studio/label_config.xml",
        "label_studio/tasks.json",
        "voc/Annotations/街 1.xml",
        "voc/ImageSets/Main/predictions.txt",
        "voc/labelmap.txt",
        "yolo/classes.txt",
        "yolo/labels/街 1.txt",
    ]


def test_names_of_images_and_frames(tmp_path):
    paths = [
        "/a/x.jpg",
        "/b/x.jpg",
        "/a/x.png",
        "/a/film.mp4",
        "/a/film.mp4",
        "image0.jpg",
        "image0.jpg",
        "/a/y.tar.jpg",
    ]
    write_labels([result([], path) for path in paths], tmp_path, ["coco", "voc"])
    images = json.loads((tmp_path / "coco" / "annotations" / "instances_predictions.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [
        "x.jpg",
        "b/x.jpg",
        "x.png",
        "film_1.jpg",
        "film_2.jpg",
        "image0.jpg",
        "image0_2.jpg",
        "y.tar.jpg",
    ]
    names = ["film_1", "film_2", "image0", "image0_2", "x", "x_2", "x_3", "y.tar"]
    assert [f.stem for f in sorted((tmp_path / "voc" / "Annotations").iterdir())] == names


def test_what_was_seen_before_an_error_is_complete_and_a_killed_run_leaves_no_half_file(tmp_path):
    def interrupted():
        yield result()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_labels(interrupted(), tmp_path / "a", "coco")
    assert (
        len(json.loads((tmp_path / "a" / "coco" / "annotations" / "instances_predictions.json").read_text())["images"])
        == 1
    )
    writers = LabelWriters(tmp_path / "b", ["coco", "cvat", "label_studio"])
    writers.add(result())
    assert files(tmp_path / "b") == ["label_studio/label_config.xml"]  # what a kill here would leave


def test_one_file_that_cannot_be_written_does_not_lose_the_others(tmp_path):
    writers = LabelWriters(tmp_path, ["coco", "cvat"])
    writers.add(result())
    (tmp_path / "cvat" / "annotations.xml").mkdir()
    with pytest.raises(OSError):
        writers.close()
    assert json.loads((tmp_path / "coco" / "annotations" / "instances_predictions.json").read_text())["annotations"]


@pytest.mark.parametrize(
    ("results", "formats", "error", "message"),
    [
        ([result()], "voc2", OptionError, r"label format: expected one of coco, yolo.*'voc2'; did you mean 'voc'"),
        ([], "voc", DataError, "got no results"),
    ],
)
def test_errors(tmp_path, results, formats, error, message):
    with pytest.raises(error, match=message):
        write_labels(results, tmp_path, formats)
    assert files(tmp_path) == []
