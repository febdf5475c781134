"""Verdicts of many studies that are resampled from the runs of one: how often are they wrong?

    yolo ablate study=my-study.yaml                               # many seeds, with `control: null`
    python benchmarks/ablation_null.py runs/ablate/my-study --seeds 8

Null: the runs of the base and of its control are one pool. A study draws two groups of `--seeds` runs from it, without
repetition, and compares them: every "better" or "worse" is an error. Beside it the habit of one run each, where the
larger number wins.

Changes: a study draws `--seeds` pairs of all changes, with repetition, and compares them as `yolo ablate` does. Counted
are its verdicts, and the intervals that cover the mean difference of all pairs. One run each: how often the sign of a
single pair is not that of all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ultralytics.ablation import Study
from ultralytics.ablation.analysis import analyze
from ultralytics.ablation.queue import results_of
from ultralytics.ablation.statistics import compare_pairs
from ultralytics.utils.tables import Column, Table

COLUMNS = (
    Column("Cell"), Column("Pairs", "d"), Column("diff.", "+.3f"), Column("std", ".3f"), Column("better", ".1%"),
    Column("worse", ".1%"), Column("not shown", ".1%"), Column("covered", ".1%"), Column("one run each", ".1%"),
)  # fmt: skip


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
    args = parser.parse_args()
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
