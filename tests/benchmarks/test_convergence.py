"""The report of the convergence benchmark, on runs that were made up."""

import json

import convergence
import convergence_report as report
import pytest

from ultralytics.cfg import get_cfg

SETTINGS = {"data": "shapes.yaml", "imgsz": 160, "threads": 2, "minutes": 10}


def run(config: str, seed: int, *map50: float) -> dict:
    points = [{"steps": 100 * (n + 1), "map50": value, "map": value / 2} for n, value in enumerate(map50)]
    return {"config": config, "seed": seed, "settings": SETTINGS, "points": points}


def test_curves_are_read_on_the_line_between_two_validations():
    points = [{"minutes": 2.5 * (n + 1), "map50": value} for n, value in enumerate((0.2, 0.4, 0.8, 0.3))]
    assert report.minutes_to(points, 0.5) == pytest.approx(5.0 + 2.5 / 4)
    assert report.minutes_to(points, 0.1) == pytest.approx(1.25)
    assert report.minutes_to(points, 0.9) is None
    # a longer run is read at the minutes
    points = [{"minutes": 4.0, "map50": 0.2, "map": 0.1}, {"minutes": 12.0, "map50": 0.6, "map": 0.3}]
    assert report.curve(points, 10.0) == pytest.approx(0.5)
    assert report.curve(points, 2.0, "map") == pytest.approx(0.05)


def test_spread_says_how_many_reached_the_goal():
    assert report.spread([1.0, 2.0, 3.0], "{:.1f}") == "2.0 (1.0-3.0)"
    assert report.spread([1.0, None], "{:.1f}") == "1.0, reached by 1 of 2"
    assert report.spread([None, None], "{:.1f}") == "not reached"


def test_table_picture_and_numbers_are_written(tmp_path):
    (tmp_path / "runs").mkdir()
    runs = [run("default", 0, 0.3, 0.6), run("default", 1, 0.2, 0.4), run("all", 0, 0.5, 0.7), run("all", 1, 0.1, 0.3)]
    for one in runs:
        (tmp_path / "runs" / f"{one['config']}-seed{one['seed']}.json").write_text(json.dumps(one))
    report.write_report(tmp_path, ["default", "mal", "all"], {"default": 3.0, "all": 1.5}, SETTINGS)
    rows = (tmp_path / "convergence.md").read_text().splitlines()
    default = "| default | 2 | 3.00 | 8.3, reached by 1 of 2 | 0.500 (0.400-0.600) | 0.250 (0.200-0.300) | 200 |  |"
    assert rows[2] == default
    half_the_time = "| all | 2 | 1.50 | 2.5, reached by 1 of 2 | 0.500 (0.300-0.700) |"
    assert rows[3].startswith(half_the_time)  # of a step
    assert rows[3].endswith("| 1 of 2 seeds |")
    assert (tmp_path / "convergence.png").stat().st_size > 10_000


def test_configurations_are_names_and_options_joined():
    assert convergence.options_of("all+denoising=20") == {**convergence.CONFIGS["all"], "denoising": 20}
    assert convergence.options_of("loss_class=focal+dense=0.3") == {"loss_class": "focal", "dense": 0.3}
    with pytest.raises(SystemExit, match="no configuration 'al'"):
        convergence.options_of("al")
    for name in convergence.CONFIGS:
        assert get_cfg(overrides=convergence.options_of(name)).to_dict().items() >= convergence.CONFIGS[name].items()


def test_the_watch_validates_at_even_intervals_and_ends_the_run():
    class Trainer:
        updates = 0
        metrics = {"metrics/mAP50(B)": 0.4, "metrics/mAP50-95(B)": 0.2}  # noqa: RUF012

        def validate(self):
            self.metrics = {key: value + 0.1 for key, value in self.metrics.items()}
            return self.metrics, 0.0

    watch, trainer = convergence.Watch(steps=7, points=2), Trainer()
    with pytest.raises(convergence.Done):
        for trainer.updates in range(1, 100):
            watch.on_train_batch_end(trainer)
    first, second = watch.points
    assert first == {"steps": 4, "map50": pytest.approx(0.5), "map": pytest.approx(0.3)}
    assert second == {"steps": 7, "map50": pytest.approx(0.6), "map": pytest.approx(0.4)}


def test_runs_with_other_settings_are_not_mixed(tmp_path):
    convergence.refuse_other_settings(tmp_path, {"imgsz": 160}, {"imgsz": 160})
    with pytest.raises(SystemExit, match="imgsz 160 is now 320"):
        convergence.refuse_other_settings(tmp_path, {"imgsz": 160}, {"imgsz": 320})


def test_seconds_are_compared_turn_by_turn():
    times = {"default": [1.0, 4.0, 2.0], "all": [1.5, 6.0, 2.0]}  # the second turn was slow for both
    assert convergence.compared(times, {}) == {"default": 2.0, "all": 3.0}
    assert convergence.compared(times, {"default": 1.0, "mal": 1.1}) == {"default": 1.0, "mal": 1.1, "all": 1.5}
