"""`yolo evaluate a.json b.json annotations=val.json protocol=coco,voc`: stored predictions by published rules.

`yolo errors` finds the types of errors of a model or of stored predictions.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from ultralytics.cfg.values import Device, Range
from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.metrics.boxes import EvalBoxes
from ultralytics.metrics.coco_files import read_boxes
from ultralytics.metrics.error_report import error_note, error_table, write_error_report
from ultralytics.metrics.protocols import PROTOCOLS, Protocol, evaluate, explain_difference, find_protocol
from ultralytics.tools.common import check_new, log_problems, open_detector, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, OptionError, UserError
from ultralytics.utils.files import write_text
from ultralytics.utils.tables import Column, Table

FORMATS = ".json", ".csv"  # of save=
SIZES = "AR1, AR10 ...: recall with so many detections; vt, t, s, m, l: very tiny, tiny, small, medium, large objects"


def command(
    predictions: list[str], annotations: str, protocol: str | list[str] = "coco", data: str | None = None,
    names: str | None = None, explain: bool = False, save: str | None = None,
) -> None:  # fmt: skip
    """Evaluate predictions in COCO's results format, of any program, by the rules of one or several protocols.

    Args:
        predictions: files with a list of {image_id, category_id, bbox [x, y, width, height], score}.
        annotations: COCO json with images, annotations and categories, such as that of `yolo yolo2coco`.
        protocol: ultralytics, coco, aitod, visdrone, voc, voc07, or several: protocol=ultralytics,coco; or all.
        data: dataset YAML whose `evaluation:` has areas and a limit of its own.
        names: of the files in the tables, a,b; by default their paths.
        explain: for two protocols: which rule changes AP by how much.
        save: .json or .csv (a row for each metric) file to write the metrics to; it must not exist.
    """
    if save:
        check_new(save, *FORMATS)
    asked = protocol.split(",") if isinstance(protocol, str) else protocol
    own = load_dataset_config(data, ()).evaluation if data else {}
    asked = [*PROTOCOLS] if asked == ["all"] else asked
    protocols = [find_protocol(name, own.get("areas"), own.get("limit")) for name in asked]
    if explain and len(protocols) != 2:
        raise OptionError(f"explain=True: expected two protocols, protocol=ultralytics,coco, got {', '.join(asked)}")
    titles = names.split(",") if names else predictions
    if len(titles) != len(predictions) or len(set(titles)) < len(titles):
        raise OptionError(f"names={names!r}: expected a different name for each of the {len(predictions)} files")
    boxes, messages = read_boxes(Path(annotations), [Path(file) for file in predictions])
    log_problems(messages)
    tables, rows, metrics = [], [], []
    for rules in protocols:
        found = [(title, evaluate(one, rules)) for title, one in zip(titles, boxes, strict=True)]
        means = [[title, rules.name, result.stats] for title, result in found]
        classes = [[title, rules.name, *row] for title, result in found for row in result.class_rows().items()]
        tables += [_table(("Predictions", "Protocol"), means), _table(("Predictions", "Protocol", "Class"), classes)]
        rows += [
            {"predictions": title, "protocol": rules.name, "stats": result.stats, "per_class": result.class_rows()}
            for title, result in found
        ]
        lines = [*([*start, "all", values] for *start, values in means), *classes]
        metrics += [[*start, key, None if v < 0 else v] for *start, values in lines for key, v in values.items()]
    LOGGER.info("\n\n".join(table.text() for table in tables if table.rows))
    for title, one in zip(titles, boxes, strict=True):
        images = len(np.unique(one.found.image))
        LOGGER.info(f"\n{title}: {len(one.found.score)} detections on {images} of {len(one.ids)} images")
        if explain:
            LOGGER.info(_steps(one, *protocols).text())
    LOGGER.info(SIZES)
    _save(save, ("predictions", "protocol", "class", "metric", "value"), metrics, rows)


def _table(texts: Sequence[str], rows: Sequence[list]) -> Table:
    """Return a table of rows that end with a mapping of metrics, -1 without objects."""
    cells = [[*start, *(None if value < 0 else value for value in values.values())] for *start, values in rows]
    return Table([*map(Column, texts), *(Column(title, ".4f") for title in (rows[0][-1] if rows else ()))], cells)


def _save(file: str | None, titles: Sequence[str], rows: Sequence[Sequence], content: object) -> None:
    """Write a table as .csv, or `content` as .json, into the file of `save`, if there is one."""
    if file:
        is_csv = file.lower().endswith(".csv")
        write_text(file, Table([*map(Column, titles)], rows).csv() if is_csv else json.dumps(content, indent=1))
        LOGGER.info(f"{file} written")


def _steps(boxes: EvalBoxes, first: Protocol, second: Protocol) -> Table:
    """Return a row for each rule that differs: AP50 and AP after it, and the changes."""
    steps = explain_difference(boxes, first, second)
    pairs = zip([steps[0], *steps], [*steps, ("all together", *steps[-1][1:])], strict=True)
    rows = [(cause, ap50, ap50 - before[1], ap, ap - before[2]) for before, (cause, ap50, ap) in pairs]
    rows[-1] = (*rows[-1][:2], steps[-1][1] - steps[0][1], rows[-1][3], steps[-1][2] - steps[0][2])
    forms = (("AP50", ".6f"), ("change", "+.6f"), ("AP", ".6f"), ("change of AP", "+.6f"))
    return Table([Column(f"From {first.name} to {second.name}"), *(Column(*form) for form in forms)], rows)


def errors(
    predictions: str | None = None, annotations: str | None = None, images: str | None = None,
    model: str | None = None, data: str | None = None, iou: Annotated[float, Range(0, 1)] = 0.5,
    background: Annotated[float, Range(0, 1)] = 0.1, limit: Annotated[int, Range(1)] = 100,
    conf: Annotated[float, Range(0, 1)] = 0.25, split: str | None = None,
    imgsz: Annotated[int | None, Range(32)] = None, device: Device = None, modules: str | None = None,
    trust: bool = False, save: str | None = None, project: str | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Find the types of errors (TIDE), and the AP that correcting all errors of a type would add.

    report.html, errors.png, images.csv and confusion_by_size.* are written into `project`/`name`.

    Args:
        predictions, annotations: as for `yolo evaluate`, and `images`, their folder, for crops in the report; or
        model, data: weights or an exported model, and a dataset YAML.
        split, imgsz, device: of the validation of `model`: val, the size of the training, and a GPU by default.
        modules, trust: a folder of modules, or import those that the weights record.
        iou: overlap of a match.
        background: overlap up to which a detection is background.
        limit: highest number of detections of an image.
        conf: the galleries, the list of images and the confusions are of detections with a score above this.
        save: .json or .csv file to write the numbers to; it must not exist.
    """
    if save:
        check_new(save, *FORMATS)
    if images and not os.path.isdir(images):
        raise DataError(f"images={images!r}: no such folder")
    if background > iou:
        raise UserError(f"errors: background={background:g}: expected at most iou={iou:g}; lower it, too")
    given = {"split": split, "imgsz": imgsz, "device": device}
    given = {key: value for key, value in given.items() if value is not None}
    if (predictions and annotations) and not (model or given):
        (boxes,), messages = read_boxes(Path(annotations), [Path(predictions)])
        log_problems(messages)
        files = [_image_file(images, file) for file in boxes.files] if images else []
        if files and not any(map(os.path.isfile, files)):
            first = files[0].name
            raise DataError(f"images={images!r}: has none of {len(files)} images of {annotations}, such as {first}")
    elif model and data and not (predictions or images):
        detector, seen = open_detector(model, modules, exported=True, trust=trust), []
        detector.add_callback("on_val_end", lambda validator: seen.append(getattr(validator, "boxes", None)))
        detector.val(data=data, plots=False, **given)
        if (boxes := seen[0]) is None:
            raise DataError(f"{data}: no image of the split has a labeled object, so no error can be found")
        files = boxes.files
    else:
        either = "either predictions=a.json annotations=val.json, or model=best.pt data=my.yaml"
        raise UserError(f"errors: give {either}; split, imgsz and device are those of model=")
    title, rules = Path(predictions or model), {"iou": iou, "background": background, "limit": limit}
    folder = tool_dir("errors", project, name, title.stem)
    found = write_error_report(boxes, folder, title.name, conf=conf, files=files, **rules)
    LOGGER.info(f"\n{error_table(found).text()}")
    written = f"{folder}: report.html, errors.png, images.csv, confusion_by_size.csv written"
    LOGGER.info(f"IoU {iou:g}, {error_note(found)} {written}")
    rows = [(kind, found.counts.get(kind), gain, found.ap) for kind, gain in found.delta.items()]
    numbers = {"protocol": "tide", "ap": found.ap, "dAP": found.delta, "counts": found.counts}
    _save(save, ("error", "count", "dAP", "AP"), rows, numbers)


def _image_file(folder: str, name: str) -> Path:
    """Return the image of an annotation: its name, which may be a path, below a folder, or the end of it."""
    file = Path(folder, name.replace("\\", "/"))
    return file if os.path.isfile(file) else Path(folder, file.name)
