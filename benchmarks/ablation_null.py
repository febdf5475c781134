"""Verdicts of many studies that are resampled from the runs of one: how often are they wrong?

    python benchmarks/ablation_null.py runs/null --write           # data, model and study of the documented numbers
    yolo ablate study=runs/null/study.yaml project=runs name=study # any study with `control: null` will do
    python benchmarks/ablation_null.py runs/study --seeds 8

For the row `Wrong labels` train with `data=runs/null/noisy.yaml` and the options of the study for each seed, and list
the folders as `runs: {Wrong labels: [...]}` in study.yaml before the last command.

Null: the runs of the base and of its control are one pool. A study draws two groups of `--seeds` runs from it, without
repetition, and compares them: every "better" or "worse" is an error. Beside it the habit of one run each, where the
larger number wins.

Changes: a study draws `--seeds` pairs of all changes, with repetition, and compares them as `yolo ablate` does. Counted
are its verdicts, and the intervals that cover the mean difference of all pairs. One run each: how often the sign of a
single pair is not that of all.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import yaml

from ultralytics.ablation import Study
from ultralytics.ablation.analysis import analyze
from ultralytics.ablation.queue import results_of
from ultralytics.ablation.statistics import compare_pairs
from ultralytics.data.synthetic import generate_shapes
from ultralytics.utils.tables import Column, Table

COLUMNS = (
    Column("Cell"), Column("Pairs", "d"), Column("diff.", "+.3f"), Column("std", ".3f"), Column("better", ".1%"),
    Column("worse", ".1%"), Column("not shown", ".1%"), Column("covered", ".1%"), Column("one run each", ".1%"),
)  # fmt: skip


MODEL = """# RT-DETR for drawn shapes: maps of stride 8 and 16, 12 queries, 2 decoder layers
backbone:
  - [-1, 1, Conv, [16, 3, 2]] # 0
  - [-1, 1, Conv, [32, 3, 2]] # 1
  - [-1, 1, Conv, [64, 3, 2]] # 2
  - [-1, 1, C2f, [64, True]] # 3 P3
  - [-1, 1, Conv, [96, 3, 2]] # 4
  - [-1, 1, C2f, [96, True]] # 5 P4
head:
  - [-1, 1, Conv, [64, 1, 1, None, 1, 1, False]] # 6
  - [-1, 1, AIFI, [128, 4]] # 7
  - [-1, 1, nn.Upsample, [None, 2, nearest]] # 8
  - [3, 1, Conv, [64, 1, 1, None, 1, 1, False]] # 9
  - [[-2, -1], 1, Concat, [1]] # 10
  - [-1, 1, RepC3, [64, 0.5]] # 11 F3
  - [-1, 1, Conv, [64, 3, 2]] # 12
  - [[-1, 7], 1, Concat, [1]] # 13
  - [-1, 1, RepC3, [64, 0.5]] # 14 F4
  - [[11, 14], 1, RTDETRDecoder, [nc, 64, 12, 4, 4, 2, 128]] # 15
"""
STUDY = """model: {folder}/model.yaml
data: {folder}/shapes.yaml
train: {{epochs: 8, imgsz: 64, batch: 8, lr0: 0.002, warmup_iters: 10, ema_decay: 0.98, ema_warmup: 20,
  multi_scale: false, augmentation: none, denoising: 4, workers: 0, cache: ram}}
seeds: 20
changes:
  3 queries: {{train: {{queries: 3}}}}
  One-to-many: {{train: {{one_to_many: 1.0}}}}
control: null
"""


def write_study(folder: Path) -> None:
    """Write drawn shapes of one class, the same with 20 % wrong training labels, the model and the study file."""
    clean, noisy, rng = folder / "shapes", folder / "noisy", np.random.default_rng(0)
    generate_shapes(clean, images_train=320, images_val=100, size=64, seed=0)
    for file in sorted(clean.glob("labels/*/*.txt")):
        rows = [f"0 {row.split(' ', 1)[1]}" for row in file.read_text().splitlines()]
        file.write_text("".join(f"{row}\n" for row in rows))
    shutil.copytree(clean, noisy, dirs_exist_ok=True)
    for file in sorted(noisy.glob("labels/train/*.txt")):
        rows = []
        for row in file.read_text().splitlines():
            w, h, chance = *map(float, row.split()[3:]), rng.random()
            if chance < 0.1:  # a tenth is missing, a tenth is elsewhere
                continue
            if chance < 0.2:
                row = f"0 {rng.uniform(w / 2, 1 - w / 2):.6f} {rng.uniform(h / 2, 1 - h / 2):.6f} {w} {h}"
            rows.append(f"{row}\n")
        file.write_text("".join(rows))
    for name in ("shapes", "noisy"):
        data = {"path": str(folder), "train": f"{name}/images/train", "val": "shapes/images/val", "names": ["shape"]}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(data))
    (folder / "model.yaml").write_text(MODEL)
    (folder / "study.yaml").write_text(STUDY.format(folder=folder))


def null_row(pool: np.ndarray, seeds: int, studies: int, rng: np.random.Generator) -> list:
    """Compare two groups of runs of the same configuration in each study; one run each: the second is larger."""
    verdicts, covered, larger = [], [], []
    for _ in range(studies):
        drawn = rng.permutation(pool)[: 2 * seeds].reshape(2, seeds)
        result = compare_pairs({"null": drawn[1] - drawn[0]})["null"]
        verdicts.append(result.verdict.split(":")[0])
        covered.append(result.low <= 0 <= result.high)
        larger.append(drawn[1, 0] > drawn[0, 0])
    return ["null", len(pool), 0.0, pool.std(ddof=1) * 2**0.5, *shares(verdicts), np.mean(covered), np.mean(larger)]


def change_rows(pairs: dict[str, np.ndarray], seeds: int, studies: int, rng: np.random.Generator) -> list[list]:
    """Compare all changes over drawn pairs in each study; one run each: the sign of a pair is not that of all."""
    results = []
    for _ in range(studies):
        results.append(compare_pairs({name: rng.choice(values, seeds) for name, values in pairs.items()}))
    rows = []
    for name, values in pairs.items():
        found, truth = [result[name] for result in results], values.mean()
        covered = np.mean([result.low <= truth <= result.high for result in found])
        wrong = np.mean(np.sign(values) != np.sign(truth))
        verdicts = shares([result.verdict.split(":")[0] for result in found])
        rows.append([name, len(values), truth, values.std(ddof=1), *verdicts, covered, wrong])
    return rows


def shares(verdicts: list[str]) -> list[float]:
    """Return the shares of better, worse and not shown; `not shown` may have a reason in parentheses."""
    return [sum(verdict.startswith(word) for verdict in verdicts) / len(verdicts) for word in
            ("better", "worse", "not shown")]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a study")
    parser.add_argument("--seeds", type=int, default=8, help="of a resampled study")
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--write", action="store_true", help="write the study into the folder, and stop")
    args = parser.parse_args()
    if args.write:
        write_study(args.folder.absolute())
        return
    study = Study(args.folder / "study.yaml", args.folder)
    cells = study.prepare()
    base, *others = analyze(study.spec, cells, results_of(study.runs), study.sizes).rows
    first = base.scores[study.spec.metric]
    pairs, pool, rng = {}, list(first.values()), np.random.default_rng(0)
    for row in others:
        scores = row.scores[study.spec.metric]
        if row.cell.seed_shift:  # the control `null`
            pool += scores.values()
        elif common := [key for key in scores if key in first]:
            pairs[row.cell.name] = np.array([scores[key] - first[key] for key in common])
    rows = [null_row(np.array(pool), args.seeds, args.studies, rng)]
    print(Table(COLUMNS, rows + change_rows(pairs, args.seeds, args.studies, rng)).markdown())


if __name__ == "__main__":
    main()
