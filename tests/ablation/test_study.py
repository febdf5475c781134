"""Study files, cells, folders, and the analysis of runs whose results are written by the test."""

import json
import re

import pytest
import yaml

from ultralytics.ablation import Study
from ultralytics.ablation.figures import common_places
from ultralytics.ablation.queue import Progress, write_config
from ultralytics.ablation.study import StudyError, StudySpec
from ultralytics.ablation.worker import DONE
from ultralytics.utils.errors import UserError

MODEL = "rtdetr-r18.yaml"
STUDY = {
    "model": MODEL,
    "data": "shapes8.yaml",
    "train": {"epochs": 3, "imgsz": 64},
    "seeds": 7,
    "changes": {
        "EMA": {"after": 8, "row": [1, "EMA", [32]], "readers": "all"},
        "MAL": {"train": {"loss_class": "mal"}},
        "R34": {"model": "rtdetr-r34.yaml"},
    },
}


def spec(**changes):
    return StudySpec.read({**STUDY, **changes})


def test_designs():
    names = ("EMA", "MAL", "R34")
    assert spec().cells == ((), ("EMA",), ("MAL",), ("R34",))
    assert spec(design="cumulative").cells == ((), names[:1], names[:2], names)
    assert len(spec(design="factorial").cells) == 8
    assert spec(design=[["EMA"], "EMA+MAL"]).cells == ((), ("EMA",), ("EMA", "MAL"))
    assert spec(changes={}).cells == ((),)
    assert spec(seeds=[3, 5]).seeds == (3, 5)
    assert spec(judge="mean of the last 5").rule == 5
    assert spec(control=None).controls == ("null",)  # YAML reads the word null as None
    assert spec(control=["equal-cost", "null"]).controls == ("equal-cost", "null")
    assert spec(runs=["runs/a", "runs/b"]).runs == {"a": ("runs/a",), "b": ("runs/b",)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 3}, "unknown key 'seed'; did you mean 'seeds'"),
        ({"model": None}, "model must be a file"),
        ({"seeds": 0}, "number of seeds"),
        ({"seeds": [1, 1]}, "listed twice"),
        ({"folds": 1}, "folds must be a number from 2"),
        ({"design": "factorail"}, "did you mean 'factorial'"),
        ({"design": [["EMMA"]]}, "did you mean 'EMA'"),
        ({"design": [3]}, "'3' is not among the changes"),
        ({"design": [["EMA", "EMA"]]}, "listed twice in EMA"),
        ({"runs": ["a/train", "b/train"]}, "two folders have the name 'train'"),
        ({"changed_data": "yes"}, "expected False, True, got 'yes'"),
        ({"judge": "first"}, "expected last, best or"),
        ({"metric": "mAP"}, "expected mAP50-95, mAP50"),
        ({"control": "cost"}, "expected equal-cost, null"),
        ({"train": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"train": {"seed": 3}}, "seed is set by the study"),
        ({"changes": {"a+b": {"remove": 3}}}, "words without"),
        ({"changes": {"base": {"remove": 3}}}, "not possible"),
        ({"changes": {"X": {}}}, "expected a patch"),
        ({"changes": {"X": {"afterr": 3}}}, "did you mean 'after'"),
        ({"changes": {"X": {"train": {"los_class": "mal"}}}}, "did you mean 'loss_class'"),
        ({"changes": ["X"]}, "expected lines"),
    ],
)
def test_wrong_study_files(changes, message):
    with pytest.raises(UserError, match=message):
        spec(**changes)


def test_messages_have_file_and_line(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({**STUDY, "desing": "factorial"}, sort_keys=False))
    with pytest.raises(StudyError, match=r"study.yaml:\d+: unknown key 'desing'; did you mean 'design'"):
        Study(file)


def test_cells_are_written_as_model_files(tmp_path):
    study = Study({**STUDY, "design": [["EMA", "MAL"], ["R34"]], "control": "null"}, tmp_path)
    cells = {cell.name: cell for cell in study.prepare()}
    assert list(cells) == ["base", "EMA+MAL", "R34", "base again"]
    assert cells["EMA+MAL"].train == {"loss_class": "mal"}
    text = (tmp_path / "models" / "EMA+MAL.yaml").read_text()
    assert text.startswith("# rtdetr-r18.yaml with EMA+MAL, written by `yolo ablate`\n")
    assert "[-1, 1, EMA, [32]]" in text
    assert study.sizes["EMA+MAL"].parameters > study.sizes["base"].parameters == study.sizes["base again"].parameters
    seeds = {run.cell.name: run.seed for run in study.runs}
    assert seeds["base again"] == seeds["base"] + 10_000
    assert "EMA + MAL" in study.sizes_table().text()


def test_all_cells_that_do_not_build_are_reported_at_once(tmp_path):
    changes = {"A": {"at": 8, "module": "Convv"}, "B": {"model": "missing.yaml"}, "C": {"train": {"loss_class": "mal"}}}
    with pytest.raises(StudyError, match=r"nothing is trained.*\n.*A: .*Conv(.|\n)*B: .*missing.yaml") as error:
        Study({**STUDY, "changes": changes}, tmp_path).prepare()
    assert "C:" not in str(error.value)


def test_a_folder_belongs_to_one_study(tmp_path):
    small = {**STUDY, "changes": {}}
    Study(small, tmp_path).prepare()
    Study({**small, "seeds": 9, "changes": {"MAL": STUDY["changes"]["MAL"]}}, tmp_path).prepare()  # only more of it
    with pytest.raises(StudyError, match=r"another study, with a different train"):
        Study({**small, "train": {"epochs": 4, "imgsz": 64}}, tmp_path).prepare()


def test_folds_deal_out_all_images(tmp_path):
    study = Study({**STUDY, "changes": {}, "folds": 4, "seeds": 1}, tmp_path)
    study.prepare()
    parts = [(tmp_path / "folds" / f"fold{i}" / "val.txt").read_text().split() for i in range(1, 5)]
    trained = [(tmp_path / "folds" / f"fold{i}" / "train.txt").read_text().split() for i in range(1, 5)]
    everything = {image for part in parts for image in part}
    assert sum(map(len, parts)) == len(everything)
    assert all(
        set(part) | set(rest) == everything and not set(part) & set(rest)
        for part, rest in zip(parts, trained, strict=True)
    )
    assert [run.fold for run in study.runs] == [1, 2, 3, 4]


def finished(folder, gains, spread=(0.0, 0.01, -0.01, 0.02, 0.005, -0.005, 0.015), **changes) -> Study:
    """Write results of all runs of a study: the base scores 0.4 plus the spread of its seed, a change its gain more."""
    study = Study({**STUDY, **changes}, folder)
    study.prepare()
    for run in study.runs:
        run.folder.mkdir(parents=True)
        score = 0.4 + spread[run.key[0]] + gains.get(run.cell.name, 0.0) * (1 + spread[run.key[0]])
        metrics = {"metrics/mAP50-95(B)": [0.1, score, score], "metrics/mAP50(B)": [0.2, score + 0.1, score + 0.1]}
        metrics |= {"coco/AP": [0.1, 0.2, 0.3], "coco/APs": [0.0, 0.1, score / 2]}
        metrics |= {} if run.key[0] else {"coco/APl": [0.3, 0.3, 0.3]}  # only where a run has large objects
        options = study.spec.checked_options(run.cell).to_dict()
        environment = {"fingerprints": {"val labels": "8 abc"}}
        result = {"metrics": metrics, "options": options, "environment": environment, "minutes": [0.5, 1.0, 1.5]}
        (run.folder / DONE).write_text(json.dumps(result))
        write_config(study.spec, run, study.spec.data)
    return study


def test_tables_figures_and_page(tmp_path):
    gains = {"EMA": 0.02, "MAL": -0.03, "R34": 0.0}
    analysis = finished(tmp_path, gains, lang="en", control="null").report()
    verdicts = {row.cell.name: row.comparison.verdict for row in analysis.rows[1:]}
    assert {"EMA": verdicts["EMA"], "MAL": verdicts["MAL"]} == {
        "EMA": "not shown: needs about 8 seeds", "MAL": "not shown: needs about 8 seeds",
    }  # fmt: skip
    assert "8 pairs are the fewest that can" in analysis.notes[-1]
    table = (tmp_path / "table.md").read_text()
    assert "| mAP50 | coco APs | diff. |" in table and re.search(r"\*\*0.525\*\* \| \*\*0.21[23]\*\* \| \+", table)
    assert "| Cell | Params (M) |" in table and "✓" not in table  # a row has one change, which names it
    assert "**0.425**" in table
    assert r"\textbf{0.425}" in (tmp_path / "table.tex").read_text()
    for name in ("table.txt", "table.csv", "curves.png", "curves.pdf", "forest.png", "cost.png", "report.html"):
        assert (tmp_path / name).stat().st_size > 100, name
    before = {name: (tmp_path / f"table.{name}").read_bytes() for name in ("txt", "md", "tex", "csv")}
    Study({**STUDY, "control": "null"}, tmp_path).report()
    assert before == {name: (tmp_path / f"table.{name}").read_bytes() for name in before}


def test_runs_of_equal_minutes_are_drawn_over_minutes(tmp_path):
    study = finished(tmp_path, {}, changes={}, seeds=2, train={"time": 0.05})
    file = study.runs[1].folder / DONE
    file.write_text(file.read_text().replace("[0.5, 1.0, 1.5]", "[0.7, 1.4, 2.1]"))
    (row,) = study.report().rows
    places, values = common_places(row, timed=True)
    assert places.tolist() == pytest.approx([0.7, 1.1, 1.5])
    assert values[0].tolist() == pytest.approx([0.1 + 0.4 * 0.3, 0.4, 0.4])


def test_enough_seeds_give_verdicts(tmp_path):
    (row,) = finished(tmp_path, {"MAL": 0.02}, changes={"MAL": STUDY["changes"]["MAL"]}).report().rows[1:]
    assert (row.comparison.verdict, row.comparison.p) == ("better", 2**-6)


def test_data_that_changed_between_runs_is_noticed(tmp_path):
    study = finished(tmp_path, {}, changes={})
    file = study.runs[3].folder / DONE
    file.write_text(file.read_text().replace("8 abc", "8 abd"))
    with pytest.raises(StudyError, match=r"val labels differ from those of base, seed 0.*edited"):
        study.report()
    allowed = Study({**STUDY, "changes": {}, "changed_data": True}, tmp_path)
    assert "seed 3: its val labels differ from those of base, seed 0 (8 abd, 8 abc)." in allowed.report().notes[-1]
    file.unlink()
    with pytest.raises(StudyError, match=r"shapes8.yaml: its val labels are not those of .*seed0.*edited"):
        study.run()  # before anything is trained


def by_hand(folder, data="shapes8.yaml", **options):
    """Write the folder of a finished run as a training leaves it."""
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text("epoch,time,metrics/mAP50(B),metrics/mAP50-95(B),coco/APs\n1,1.0,0.5,0.4,0.3\n")
    environment = {"fingerprints": {"train labels": f"9 {data}", "val labels": "8 abc"}}
    (folder / "args.yaml").write_text(yaml.safe_dump({"data": data, "environment": environment, **options}))
    return str(folder)


def test_runs_made_by_hand_are_rows(tmp_path):
    runs = {
        "base": [by_hand(tmp_path / f"b{seed}", seed=seed) for seed in (0, 1)],
        "MAL": [by_hand(tmp_path / f"m{seed}", seed=seed, loss_class="mal") for seed in (0, 1)],
        "relabeled": [by_hand(tmp_path / "n0", data="other.yaml", seed=0)],
    }
    study = Study({**STUDY, "changes": {"MAL": STUDY["changes"]["MAL"]}, "runs": runs}, tmp_path / "study")
    analysis = study.report()
    assert analysis.rows[0].scores["coco APs"] == {(0, 0): 0.3, (1, 0): 0.3}
    assert [(row.cell.name, row.comparison and row.comparison.n) for row in analysis.rows] == [
        ("base", None), ("MAL", 2), ("relabeled", 1),
    ]  # fmt: skip
    assert not study.runs and analysis.notes[-1] == "relabeled: trained with other.yaml."
    runs["relabeled"].append(by_hand(tmp_path / "n1", data="other.yaml", seed=0))
    with pytest.raises(StudyError, match="n1: another of its runs has seed 0, too"):
        Study({**STUDY, "changes": {}, "runs": {"relabeled": runs["relabeled"]}}, tmp_path / "twice").report()
    runs = {"faster": [by_hand(tmp_path / "f0", seed=0, lr0=0.01)]}
    with pytest.raises(StudyError, match=r"faster, seed 0: was trained with other options.*lr0=0.01 in place of"):
        Study({**STUDY, "changes": {}, "runs": runs}, tmp_path / "other").report()


def test_the_state_of_runs(tmp_path):
    study = finished(tmp_path, {}, changes={}, seeds=2)
    (study.runs[1].folder / DONE).unlink()
    assert [Progress.read(run).state for run in study.runs] == ["done", "waiting"]
    assert "waiting" in study.status().text()
