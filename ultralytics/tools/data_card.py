"""`yolo data my.yaml`: a card of a data set, with its striking facts first, as text, picture and page."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Annotated

import numpy as np

from ultralytics.cfg.values import Range
from ultralytics.data.card import SplitBoxes, class_shift, find_duplicates, measure_boxes, read_signatures
from ultralytics.data.dataset_yaml import SPLITS, DatasetConfig, load_dataset_config
from ultralytics.data.verify import KINDS, Scan, scan_split
from ultralytics.metrics.html import document, section
from ultralytics.tools.common import load_network, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, counted
from ultralytics.utils.files import write_text
from ultralytics.utils.fonts import drawable, tick_label
from ultralytics.utils.plotting import colors, new_figure, save_figure
from ultralytics.utils.tables import Column, Table

BINS = {  # title of a table: a field of SplitBoxes, where its rows start, and their names
    "Sizes at imgsz (root of area)": ("side", [8, 16, 32, 96], ["< 8 px", "8 - 16", "16 - 32", "32 - 96", "≥ 96 px"]),
    "Boxes per image": ("per_image", [1, 3, 10, 30, 100], ["0", "1 - 2", "3 - 9", "10 - 29", "30 - 99", "≥ 100"]),
    "Aspect ratios (w : h)": ("aspect", [0.25, 0.5, 2, 4], ["< 1:4", "1:4 - 1:2", "1:2 - 2:1", "2:1 - 4:1", "≥ 4:1"]),
}
SMALL, SHARE, FEW = 16, 0.05, 20  # striking: boxes below so many px, from this share on; a class with fewer in train
NAMED, TEXT_ROWS, PAGE_ROWS, LABELS = 10, 100, 1000, 100  # names of a fact; rows of a table; names below an axis
NOTES = {
    "Classes": "Differs: images with the class are so many times as frequent as in the first split, and not by chance "
    "(Fisher's exact test at 0.05, corrected for the number of classes).",
    "Duplicates": "Exact: the same file content. Near: at most 16 of 128 bits of a difference hash differ, and the "
    "images reduced to 9 x 9 correlate by at least 0.97. More: further similar images in that split.",
}


def command(
    data: list[str], imgsz: Annotated[int, Range(32)] = 640, model: str | None = None, splits: str | None = None,
    leakage: bool = True, max_images: Annotated[int | None, Range(1)] = None, modules: str | None = None,
    trust: bool = False, project: str | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Describe data sets: boxes at the training size, class balance, images in several splits, faults of the labels.

    Args:
        data: data YAMLs, each for a card of its own.
        imgsz: training size, in pixels.
        model: model YAML or weights, for the number of queries and how images are resized: to a square by default.
        splits: train,val,test; by default those of the YAML.
        leakage: read all images to find those that two splits share; False skips it.
        max_images: images of a split that are read for it, evenly spread; all by default.
        modules, trust: folder of modules of the model; `trust` imports those that weights record.
        project, name: folder of card.html, card.png, card.txt and duplicates.csv, `runs/data/<YAML>` by default.
    """
    head = load_network(model, modules=modules, meta=True, trust=trust).model[-1] if model else None
    resize, queries = (head.resize, getattr(head, "num_queries", None)) if head else ("stretch", 300)
    part = f", duplicates among {max_images} images of a split" if max_images else ""
    part = part if leakage else ", duplicates not searched"
    for file in map(Path, data):
        config, scans, facts = scan_splits(file, splits and splits.split(","))
        boxes = {split: measure_boxes(scan.labels, imgsz, resize) for split, scan in scans.items()}
        read = {split: read_signatures(scan.labels, split, max_images) for split, scan in scans.items() if leakage}
        base = f"{config.root}{os.sep}"  # paths below it are relative
        pairs = [(a.removeprefix(base), s, b.removeprefix(base), *more) for a, s, b, *more in find_duplicates(read)]
        tables = tabulate(config.names, boxes, pairs, queries)
        faults = [f"{s}: {scans[s].describe(kind)}" for s in scans for kind in KINDS if scans[s].of_kind(kind)]
        facts += [*find_facts(tables, boxes, pairs, imgsz, queries), *(fault.partition("\n")[0] for fault in faults)]
        title, folder = f"{file.stem}, imgsz={imgsz}, {resize}{part}", tool_dir("data", project, name, file.stem)
        draw_card(title, tables, [*boxes], folder / "card.png")
        text = write_card(title, facts or ["nothing unusual was found"], tables, faults, folder)
        LOGGER.info(f"{text}\n{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))} written")


def scan_splits(data: Path, asked: Sequence[str] | None) -> tuple[DatasetConfig, dict[str, Scan], list[str]]:
    """Return the data YAML, scans of usable splits, and a line on each other one. DataError if there are none."""
    config = load_dataset_config(data, asked)
    scans, problems = {}, [f"the data YAML has no {split}: split" for split in SPLITS[:2] if split not in config.splits]
    for split in asked or config.splits:
        try:
            scans[split] = scan_split(config, split)
        except DataError as error:
            problems.append(f"{split}: {error}")
    problems += [
        f"{split}: no image can be read, {counted(len(s.problems), 'fault')}"
        for split, s in scans.items()
        if not s.labels
    ]
    scans = {split: scan for split, scan in scans.items() if scan.labels}
    if not scans:
        raise DataError(f"{data}: no split can be used: {'; '.join(problems)}")
    return config, scans, problems


def tabulate(names: dict[int, str], boxes: dict[str, SplitBoxes], pairs: list, queries: int | None) -> dict[str, Table]:
    """Return the tables: splits; classes, sizes, aspect ratios and boxes per image by number and share; duplicates."""
    rows = []
    for split, found in boxes.items():
        n, levels = found.per_image, np.quantile(found.per_image, (0.5, 0.95, 1), method="inverted_cdf")
        rows.append([split, len(n), int((n == 0).sum()), len(found.cls), *map(int, levels), queries])
    titles = ("Images", "Empty", "Boxes", "Per image: median", "95 %", "max", "queries")
    tables = {"Splits": Table([Column("Split"), *(Column(title, ",d") for title in titles)], rows)}
    if pairs:
        titles = [*map(Column, ("Image", "Split", "Also", "In", "Kind")), Column("Bits", "d")]
        tables["Duplicates"] = Table([*titles, Column("Correlation", ".3f"), Column("More", ",d")], pairs)
    for title, (key, edges, labels) in {**BINS, "Classes": ("cls", [*names][1:], [*names.values()])}.items():
        columns, cells = [Column("")], [labels]
        for split, found in boxes.items():
            counts = np.bincount(np.digitize(getattr(found, key), edges), minlength=len(labels))
            columns += [Column(split, ",d"), Column("%", ".1f")]
            cells += [counts.tolist(), (100 * counts / max(counts.sum(), 1)).tolist()]
        for split in [*boxes][1:] if title == "Classes" else ():
            columns.append(Column(f"{split} differs"))
            cells.append(class_shift(next(iter(boxes.values())), boxes[split], len(names)))
        tables[title] = Table(columns, [*zip(*cells, strict=True)])
    return tables


def find_facts(
    tables: dict[str, Table], boxes: dict[str, SplitBoxes], pairs: Sequence[tuple], imgsz: int, queries: int | None
) -> list[str]:  # fmt: skip
    """Return what is striking, one line each."""
    facts, sides = [], np.concatenate([found.side for found in boxes.values()])
    if (small := (sides < SMALL).mean() if len(sides) else 0) >= SHARE:
        facts.append(f"{small:.0%} of {len(sides):,} boxes are smaller than {SMALL} px at imgsz={imgsz}")
    for (split, first), found in groupby(pairs, lambda pair: (pair[1], pair[3])):
        kinds = [pair[4] for pair in found]
        how = f"{kinds.count('exact')} exactly, {kinds.count('near')} nearly"
        facts.append(f"{counted(len(kinds), 'image')} of {split} also in {first}: {how}")
    for k, (split, found) in enumerate(boxes.items()):
        if over := (found.per_image > (queries or np.inf)).sum():
            facts.append(f"{counted(over, 'image')} of {split} with more boxes than queries={queries}")
        counts = [(row[0], row[1 + 2 * k], row[2 * len(boxes) + k]) for row in tables["Classes"].rows]
        few = sorted((n, name) for name, n, _ in counts if 0 < n < FEW and split == "train")
        facts += _listed([name for name, n, _ in counts if not n], f"without a box in {split}")
        facts += _listed([f"{name} {n}" for n, name in few], f"with fewer than {FEW} boxes in train")
        differing = [f"{name} {times}" for name, n, times in counts if times and n and k]
        facts += _listed(differing, f"more or less frequent in {split} than in {next(iter(boxes))}")
    return facts


def write_card(title: str, facts: list[str], tables: Mapping[str, Table], faults: Sequence[str], folder: Path) -> str:
    """Write card.html, which contains card.png, card.txt and duplicates.csv; return the text."""
    body = [f"<h1>{escape(title)}</h1><ul>{''.join(f'<li>{escape(fact)}</li>' for fact in facts)}</ul>"]
    body.append(section("Shares", folder / "card.png"))
    text = [title, *(f"- {fact}" for fact in facts)]
    for name, table in tables.items():
        page, few = (Table(table.columns, table.rows[:most]) for most in (PAGE_ROWS, TEXT_ROWS))
        body.append(section(name, page, *([NOTES[name]] if name in NOTES else [])))
        text += ["", name, few.text(), *([f"... {len(table.rows):,} rows"] if len(table.rows) > TEXT_ROWS else [])]
    body += [f"<h2>Label faults</h2><pre>{escape(chr(10).join(faults))}</pre>"] if faults else []
    text += ["", "Label faults", *faults] if faults else []
    if "Duplicates" in tables:
        write_text(folder / "duplicates.csv", tables["Duplicates"].csv())
    write_text(folder / "card.html", document(title, "en", "\n".join(body)))
    return write_text(folder / "card.txt", "\n".join(text) + "\n").read_text(encoding="utf-8").rstrip()


def draw_card(title: str, tables: Mapping[str, Table], splits: Sequence[str], file: Path) -> None:
    """Draw the shares in four tables, each split in a color; the most frequent classes are on the left."""
    figure = new_figure(12, 8)
    for name, axes in figure.subplot_mosaic([["Classes"] * len(BINS), [*BINS]]).items():
        rows = sorted(tables[name].rows, key=lambda row: -sum(row[1 : 2 * len(splits) : 2]) if name == "Classes" else 0)
        for k, split in enumerate(splits):
            places = np.arange(len(rows)) + 0.8 * (k + 0.5) / len(splits) - 0.4
            style = {"width": 0.8 / len(splits), "color": colors.figure(k + 1), "label": split}
            axes.bar(places, [row[2 + 2 * k] for row in rows], **style)
        if len(rows) <= LABELS:
            style = {"rotation": 90 if len(rows) > 12 else 20, "fontsize": min(9, max(5, 640 / len(rows)))}
            axes.set_xticks(range(len(rows)), [tick_label(row[0]) for row in rows], **style)
        else:
            axes.set_xlabel("class, by number of boxes")
        axes.set(title=name, ylabel="% of images" if name == "Boxes per image" else "% of boxes")
    figure.suptitle(drawable(title))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=len(splits), frameon=False)
    save_figure(figure, file)


def _listed(names: Sequence[str], what: str) -> list[str]:
    shown = ", ".join([*names[:NAMED], *(["..."] if len(names) > NAMED else [])])
    return [f"{counted(len(names), 'class')} {what}: {shown}"] if names else []
