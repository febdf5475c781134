"""Pictures of what goes wrong, and report.html of a validation or of stored predictions: types of errors, galleries."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ultralytics.data.images import read_image
from ultralytics.metrics import image_errors
from ultralytics.metrics.boxes import EvalBoxes
from ultralytics.metrics.html import document, gallery, picture, section
from ultralytics.metrics.image_errors import SIZES, Case
from ultralytics.metrics.matching import MANY_CLASSES, draw_cells
from ultralytics.metrics.tide import BEYOND, SPECIAL, ErrorMatches, find_errors
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, counted
from ultralytics.utils.files import write_text
from ultralytics.utils.fonts import tick_label
from ultralytics.utils.plotting import colors, new_figure, save_figure
from ultralytics.utils.tables import Column, Table

CROP_SIDE = 160  # pixels, largest side
FOUND, LABEL, MARK = "#ff7f00", "#00c8ff", '<span style="color: {}">■</span>'
GAIN = Column("dAP", ".2f")
SHOWN_IMAGES, SHOWN_PAIRS = 200, 100  # rows of the tables; the CSV files have all


def write_error_report(
    boxes: EvalBoxes, folder: Path, title: str, *, conf: float = 0.25, files: Sequence[str | Path] = (),
    iou: float = 0.5, background: float = 0.1, limit: int = 100, **style: Any,
) -> ErrorMatches:  # fmt: skip
    """Write report.html, errors.png, images.csv and confusion_by_size.* into a folder; return the errors.

    Args:
        conf: scores must be higher, except in the AP and in what it costs.
        files: (I,) images for the crops; without them there are none.
        iou, background, limit: as for `find_errors`.
        style: arguments of `save_figure`.
    """
    rules = iou, background, limit
    errors, rows = find_errors(boxes, *rules), np.flatnonzero(boxes.found.score > conf)
    confident = boxes.with_rows(found=rows)
    visible = find_errors(confident, *rules)
    ap = image_errors.image_average_precision(boxes, errors.detections)
    images = image_errors.image_table(boxes, visible, confident.found, ap)
    write_text(folder / "images.csv", images.csv())
    by_size = image_errors.confusion_by_size(boxes, conf)
    pairs = image_errors.confusion_table(by_size, boxes.names)
    write_text(folder / "confusion_by_size.csv", pairs.csv())
    total, above = counted(len(boxes.ids), "image"), f"conf > {conf:g}"
    if beyond := int((visible.detections.error == BEYOND).sum()):
        left = f"{counted(beyond, 'detection')} with {above}, beyond {limit} of an image, left out"
        how = "set limit= of yolo errors, or limit: below evaluation: in the data YAML"
        LOGGER.warning(f"report.html: {left}, so objects that only they find are missed; {how}")
    cases = image_errors.find_cases(boxes, visible, rows)
    crops = draw_crops(boxes, files, [case for group in cases.values() for case in group])
    galleries = []
    for name, group in cases.items():
        shown = gallery([(_figure(boxes, case, crops), case[-2:]) for case in group], ("score", "1 - IoU"))
        galleries.append(f"<h3>{name}</h3>{shown if group else 'none'}")
    sizes = draw_sizes(by_size, boxes.names, folder / "confusion_by_size.png", **style)
    wrong = [row for row in pairs.rows if row[0] != row[1]][:SHOWN_PAIRS]
    worst = sorted(images.rows, key=lambda row: -row[3] - row[4])[:SHOWN_IMAGES]  # FP and FN
    parts = [
        f"<h1>Errors: {escape(title)}</h1>",
        f'<p class="note">{total}, {counted(int((~boxes.ignored).sum()), "label")}. Matches at IoU {iou:g}. Galleries, '
        f"confusions and images: {above}.{f' {left}.' if beyond else ''}</p>",
        section(
            "Types of errors", draw_errors(errors, folder / "errors.png", **style), error_table(errors, visible, above),
            error_note(errors),
        ),
        section("Galleries", f"{MARK.format(FOUND)} prediction {MARK.format(LABEL)} label. Worst by score and IoU."),
        *galleries,
        section(
            "Confusion by object size", image_errors.size_table(by_size), *([sizes] if sizes else []),
            "Matches of any class at IoU 0.45, as in confusion_matrix.png. The size is that of the label, or of a "
            "detection without one. Predicted background: missed; true background: nothing is there.",
            Table(pairs.columns, wrong),
        ),
        section("Images", f"{len(worst)} of {total}, by FP + FN; images.csv has all.", Table(images.columns, worst)),
    ]  # fmt: skip
    write_text(folder / "report.html", document(f"Errors: {title}", "en", "\n".join(parts)))
    return errors


def error_table(errors: ErrorMatches, visible: ErrorMatches | None = None, above: str = "") -> Table:
    """Return a row for each type: the number of errors, that of the `visible` ones, if given, and the cost in AP."""
    columns = [Column("Error"), Column("Count", "d"), *([Column(above, "d")] if visible else []), GAIN]
    parts = [errors, visible] if visible else [errors]
    return Table(columns, [(name, *(p.counts.get(name) for p in parts), ap) for name, ap in errors.delta.items()])


def error_note(errors: ErrorMatches) -> str:
    """Return a sentence on the numbers of `error_table`."""
    meaning = "gain in AP if all errors of a type are corrected; gains do not add up"
    defined = None not in errors.delta.values()
    return f"AP {GAIN.show(errors.ap)}. dAP (TIDE): {meaning if defined else 'undefined without labels or detections'}."


def draw_errors(errors: ErrorMatches, file: Path, **style: Any) -> Path:
    """Draw the AP that each type of errors costs: shares as a pie, values as bars, false positives and negatives."""
    shown = {name: (gain or 0, GAIN.show(gain)) for name, gain in errors.delta.items()}
    values, texts = zip(*shown.values(), strict=True)
    names, types = [*shown], len(shown) - len(SPECIAL)
    shades = [colors.figure(i) for i in range(types)]
    figure, top = new_figure(10, 3.6), 1.2 * (max(*values, 0) or 1)
    pie, bars, special = figure.subplots(1, 3, width_ratios=(1.1, 1.4, 0.7))
    pie.set_axis_off()
    if sum(values[:types]):
        pie.pie(values[:types], colors=shades, startangle=90, counterclock=False, wedgeprops={"edgecolor": "white"})
    pie.set(title="Shares of the types")
    bars.bar_label(bars.barh(names[:types], values[:types], color=shades), texts[:types], padding=2, fontsize=9)
    bars.set(xlabel="dAP", xlim=(0, top), title=f"By type (AP {GAIN.show(errors.ap)})")
    bars.invert_yaxis()
    drawn = special.bar([name.replace(" ", "\n") for name in SPECIAL], values[types:], color="0.5")
    special.bar_label(drawn, texts[types:], padding=2, fontsize=9)
    special.set(ylabel="dAP", ylim=(0, top), title="All")
    return save_figure(figure, file, **style)


def draw_sizes(by_size: np.ndarray, names: Mapping[int, str], file: Path, **style: Any) -> Path | None:
    """Draw the confusion matrix of each size, many classes below each other; None for too many to be read."""
    total = by_size.sum(0)
    present = total.sum(0) + total.sum(1) > 0
    present[-1] = True
    if present.sum() > MANY_CLASSES:
        return None
    labels = [tick_label(name) for name, shown in zip([*names.values(), "background"], present, strict=True) if shown]
    side = max(3.5, 1.5 + 0.45 * len(labels))
    rows, columns = (1, len(SIZES)) if side < 4.5 else (len(SIZES), 1)
    figure = new_figure(columns * side, rows * side)
    for axes, size, table in zip(figure.subplots(rows, columns), SIZES, by_size, strict=True):
        draw_cells(axes, table[present][:, present], labels, 9)
        axes.tick_params(axis="x", rotation=90)
        axes.set_xlabel(f"True: {size} ({table[:, :-1].sum()} labels)")
    return save_figure(figure, file, **style)


def draw_crops(boxes: EvalBoxes, files: Sequence[str | Path], cases: Sequence[Case]) -> dict[Case, bytes]:
    """Return the JPEG of each case; images that cannot be read are named and left out."""
    crops: dict[Case, bytes] = {}
    image_of = attrgetter("image")
    for image, group in groupby(sorted(cases, key=image_of), image_of) if len(files) else ():
        try:
            pixels = read_image(files[image])
            for case in group:
                drawn = {color: table.box[i] for table, i, color in _sides(boxes, case) if i >= 0}
                crops[case] = _crop(pixels, files[image], drawn)
        except DataError as error:
            LOGGER.warning(f"report.html: without this image: {error}")
    return crops


def _sides(boxes: EvalBoxes, case: Case) -> list[tuple[Any, int, str]]:
    """Return table, row and color of the label and the detection."""
    return [(boxes.labels, case.label, LABEL), (boxes.found, case.detection, FOUND)]


def _crop(pixels: np.ndarray, file: str | Path, drawn: dict[str, np.ndarray]) -> bytes:
    """Return the part of an image about some boxes, drawn in their colors, as a small JPEG."""
    drawn = {color: np.sort(box.reshape(2, 2), 0) for color, box in drawn.items()}  # a width may be negative
    corners = np.concatenate([*drawn.values()])
    low, high = corners.min(0), corners.max(0)
    margin = max(12.0, 0.3 * (high - low).max())
    size = np.array(pixels.shape[1::-1])
    first, last = (low - margin).clip(0, size).astype(int), np.ceil(high + margin).clip(0, size).astype(int)
    if (last - first).min() < 1:
        raise DataError(f"{file}: {size[0]} x {size[1]} pixels, but a box is at {low.round()}; expected another image")
    part = Image.fromarray(np.ascontiguousarray(pixels[first[1] : last[1], first[0] : last[0], ::-1]))
    scale = CROP_SIDE / max(part.size)
    part = part.resize([max(1, round(side * scale)) for side in part.size])
    draw = ImageDraw.Draw(part)
    for color, box in drawn.items():
        draw.rectangle([*((box - first) * scale).ravel()], outline=color, width=2)
    content = io.BytesIO()
    part.save(content, "JPEG", quality=80)
    return content.getvalue()


def _figure(boxes: EvalBoxes, case: Case, crops: Mapping[Case, bytes]) -> str:
    """Return the crop of a case and its caption: classes, score, IoU, type of the error, and image."""
    lines = []
    for table, index, color in reversed(_sides(boxes, case)):
        score = f" {case.score:.2f}" if color == FOUND else ""
        text = f"{escape(boxes.names[int(table.cls[index])])}{score}" if index >= 0 else "none"
        lines.append(f"{MARK.format(color)} {text}")
    name = Path(boxes.files[case.image] if boxes.files else "").name or str(boxes.ids[case.image])
    overlap = f", IoU {1 - case.loss:.2f}" if case.loss < 1 else ""
    image = picture(crops[case], f"{case.error} in {name}") if case in crops else ""
    return f"{image}<figcaption>{'<br>'.join([*lines, case.error + overlap, escape(name)])}</figcaption>"
