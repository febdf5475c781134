"""The layers as text."""

import csv
import io

from tests.inspect.models import inspected, of_rows, row
from ultralytics.nn.summary import Finding, Inspection, layer_table, layers_csv


def test_the_table_of_a_model():
    result = inspected("rtdetr-efficientvit-m0.yaml")
    lines = layer_table(result).splitlines()
    assert "GFLOPs (torch)" in lines[0] and " name " not in lines[0]
    assert lines[1].split()[:2] == ["4", "-1"] and "64x80x80" in lines[1]
    assert [line.split() for line in lines[2:5]] == [["64x80x80", "8"], ["128x40x40", "16"], ["192x20x20", "32"]]
    assert lines[-2].split() == ["11,008,848", "29.652"]
    assert lines[-1].startswith("20 rows, ") and "30.02 GFLOPs at 640x640 by thop" in lines[-1]
    assert max(map(len, lines)) < 160


def test_names_assumptions_and_warnings_are_shown():
    rows = (row(0, (-1,), name="stem"), row(1, (0,), assumed="c1 from the input", arguments="c1=" + "1" * 60))
    plain = of_rows(*rows)
    text = layer_table(Inspection(rows, plain.info, (Finding(1, "Conv", "x.yaml:2", "odd; mend it"),), plain.image))
    assert "stem" in text and "Conv*" in text and "1..." in text
    assert "  x.yaml:2: layer 1 Conv: c1 from the input" in text
    assert text.endswith("warning: x.yaml:2: layer 1 Conv: odd; mend it")


def test_csv_has_every_layer_whole():
    result = inspected("rtdetr-efficientvit-m0.yaml")
    lines = list(csv.DictReader(io.StringIO(layers_csv(result))))
    assert [line["layer"] for line in lines] == [str(r.index) for r in result.rows]
    assert lines[0]["sources"] == "image" and lines[0]["outputs"] == "64x80x80;64x80x80;128x40x40;192x20x20"
    assert lines[0]["strides"] == "8;8;16;32" and lines[0]["section"] == "backbone"
    assert sum(int(line["flops"]) for line in lines) == sum(r.flops for r in result.rows)
    assert lines[1]["arguments"] == result.rows[1].arguments
