"""Label files read back by other people's tools. Slow: the tools take seconds to import."""

import json

import cv2
import pytest

from tests.data.formats.examples import result
from ultralytics.data.formats import FORMATS, write_labels

pytestmark = pytest.mark.slow
NAMES = {0: "cat", 1: "кошка", 2: "猫"}
BOXES = {"кошка": (0.0, 0.0, 10.0, 10.0), "猫": (20.4, 20.6, 60.0, 40.0)}  # left, top, right, bottom
WHOLE = {"кошка": (0, 0, 10, 10), "猫": (20, 21, 60, 40)}  # the same in whole pixels


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Every format of two images, one of them empty, with the images where the tools look for them."""
    folder = tmp_path_factory.mktemp("labels")
    results = [result(names=NAMES, path="/photos/街.jpg"), result([], "/photos/b.jpg", NAMES)]
    write_labels(results, folder, list(FORMATS))
    for images in ("coco/images", "yolo/images", "voc/JPEGImages", "cvat/images"):
        (folder / images).mkdir()
        for one in results:
            cv2.imencode(".jpg", one.orig_img)[1].tofile(folder / images / one.path.rpartition("/")[2])
    return folder


def corners(x, y, width, height):
    return pytest.approx((x, y, x + width, y + height), abs=0.02)


@pytest.mark.parametrize("package", ["pycocotools", "faster_coco_eval"])
def test_coco_evaluation(labels, package):
    """The labels load as a ground truth, against which the same boxes are perfect."""
    module = pytest.importorskip(package)
    if package == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        COCO, COCOeval = module.COCO, module.COCOeval_faster
    file = labels / "coco" / "annotations" / "instances_predictions.json"
    truth = COCO(str(file))
    assert {c["name"] for c in truth.loadCats(truth.getCatIds())} == set(NAMES.values())
    found = {truth.cats[a["category_id"]]["name"]: a["bbox"] for a in truth.anns.values()}
    assert {name: corners(*box) for name, box in found.items()} == BOXES
    entries = [
        {key: a[key] for key in ("image_id", "category_id", "bbox", "score")}
        for a in json.loads(file.read_text(encoding="utf-8"))["annotations"]
    ]
    evaluation = COCOeval(truth, truth.loadRes(entries), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "where", "options", "boxes"),
    [
        ("coco_instances", "coco/annotations/instances_predictions.json", {}, BOXES),
        ("voc_detection", "voc", {"coordinate_mode": "voc-one-based"}, WHOLE),
        ("cvat", "cvat", {}, BOXES),
    ],
)
def test_datumaro(labels, name, where, options, boxes):
    datumaro = pytest.importorskip("datumaro")
    dataset = datumaro.Dataset.import_from(str(labels / where), name, **options)
    classes = dataset.categories()[datumaro.AnnotationType.label]
    items = {item.id: item for item in dataset}
    assert set(items) == {"街", "b"}
    assert items["街"].media_as(datumaro.Image).size == (40, 60)
    found = {classes[a.label].name: a.get_bbox() for a in items["街"].annotations}
    assert {label: corners(*box) for label, box in found.items()} == boxes
    assert not items["b"].annotations


@pytest.mark.parametrize(("name", "shift"), [("coco", 0), ("yolo", 0), ("cvat", 0), ("voc", 1)])
def test_globox(labels, name, shift):
    """Globox takes the pixel numbers of VOC for edges, so its upper left corners lie one further on."""
    globox = pytest.importorskip("globox")
    read = globox.AnnotationSet
    images = {
        "coco": lambda: read.from_coco(labels / "coco" / "annotations" / "instances_predictions.json"),
        "yolo": lambda: read.from_yolo_v5(labels / "yolo" / "labels", image_folder=labels / "yolo" / "images"),
        "cvat": lambda: read.from_cvat(labels / "cvat" / "annotations.xml"),
        "voc": lambda: read.from_pascal_voc(labels / "voc" / "Annotations"),
    }[name]()
    by_name = {image.image_id: image for image in images}
    assert set(by_name) == {"街.jpg", "b.jpg"}
    assert by_name["街.jpg"].image_size == (60, 40)
    assert not by_name["b.jpg"].boxes
    classes = (labels / "yolo" / "classes.txt").read_text(encoding="utf-8").splitlines()
    found = {classes[int(b.label)] if name == "yolo" else b.label: b.ltrb for b in by_name["街.jpg"].boxes}
    expected = WHOLE if name == "voc" else BOXES
    for label, (left, top, right, bottom) in expected.items():
        assert found[label] == pytest.approx((left + shift, top + shift, right, bottom), abs=1e-3)


def test_label_studio_converter(labels, tmp_path):
    """Its own exporter reads the tasks, once a person has accepted the predictions, by our configuration."""
    converter = pytest.importorskip("label_studio_converter")
    tasks = json.loads((labels / "label_studio" / "tasks.json").read_text(encoding="utf-8"))
    for task in tasks:
        task["annotations"] = [{"id": task["id"], **task.pop("predictions")[0]}]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    config = str(labels / "label_studio" / "label_config.xml")
    studio = converter.Converter(config, str(tmp_path), download_resources=False)
    studio.convert_to_coco(str(tmp_path / "tasks.json"), str(tmp_path / "out"), is_dir=False)
    data = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in data["categories"]}
    assert set(names.values()) == set(NAMES.values())
    assert {names[a["category_id"]]: corners(*a["bbox"]) for a in data["annotations"]} == BOXES


def test_label_studio_converter_reads_the_yolo_folder(labels, tmp_path):
    yolo = pytest.importorskip("label_studio_converter.imports.yolo")
    yolo.convert_yolo_to_ls(str(labels / "yolo"), str(tmp_path / "tasks.json"), out_type="predictions")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert len(tasks) == 2
    boxes = [box for task in tasks for p in task.get("predictions", []) for box in p["result"]]
    value = next(box["value"] for box in boxes if box["value"]["rectanglelabels"] == ["猫"])
    assert (value["x"], value["y"]) == pytest.approx((34.0, 51.5), abs=1e-3)
    assert (value["width"], value["height"]) == pytest.approx((66.0, 48.5), abs=1e-3)
