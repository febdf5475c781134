"""Places, boxes and edges: nothing lies on anything else."""

import random
from itertools import combinations

import pytest

from tests.inspect.models import inspected, of_rows, row
from ultralytics.inspect.drawing import WIDEST, Box, Drawing, draw
from ultralytics.inspect.placement import STACK, place
from ultralytics.nn.summary import Inspection


def chain_with_skips(layers: int, seed: int) -> Inspection:
    """A model of random strides, each layer reading the one before and up to two older ones of its stride."""
    rng = random.Random(seed)
    rows = [row(i, (i - 1,), stride=2.0 ** (2 + i * 4 // 12), in_backbone=True) for i in range(12)]
    for i in range(12, layers - 1):
        stride = rng.choice([8, 16, 32])
        older = [r.index for r in rows if r.strides == (stride,)]
        rows.append(row(i, (i - 1, *rng.sample(older, min(len(older), rng.randint(0, 2)))), stride=stride))
    inputs = [max(r.index for r in rows if r.strides == (stride,)) for stride in (8, 16, 32)]
    rows.append(row(layers - 1, tuple(inputs), strides=(None,), outputs=((300, 84),), kind="head"))
    return of_rows(*rows)


def points(curve, n=12):
    """Points along a chain of cubic pieces."""
    for i in range(0, len(curve) - 1, 3):
        for k in range(n + 1):
            t = k / n
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            yield tuple(sum(w * p[axis] for w, p in zip(weights, curve[i : i + 4], strict=True)) for axis in (0, 1))


def check(drawing: Drawing) -> None:
    def inside(box: Box, x: float, y: float) -> bool:
        return box.x < x < box.x + box.width and box.y < y < box.y + box.height

    for a, b in combinations(drawing.boxes, 2):
        apart_x = a.x + a.width <= b.x or b.x + b.width <= a.x
        apart_y = a.y + a.height <= b.y or b.y + b.height <= a.y
        assert apart_x or apart_y, f"boxes {a.position} and {b.position} overlap"
    for edge in drawing.edges:
        for x, y in points(edge.curve):
            crossed = [b.position for b in drawing.boxes if inside(b, x, y)]
            assert crossed == [], f"the edge {edge.source} to {edge.target} runs through {crossed}"
    for box in drawing.boxes:
        assert box.x >= 0 and box.x + box.width <= drawing.width and box.y + box.height <= drawing.height


@pytest.mark.parametrize("name", ["rtdetr-efficientvit-m0.yaml", "rtdetr-efficientvit-m0-bifpn.yaml", "rtdetr-l.yaml"])
def test_models_of_the_package(name):
    result = inspected(name)
    drawing = draw(result, name)
    check(drawing)
    assert [box.position for box in drawing.boxes] == [-1, *range(len(result.rows))]
    wanted = sorted((s, p) for p, r in enumerate(result.rows) for s in r.sources)
    number = {p: r.numbers for p, r in enumerate(result.rows)} | {-1: (-1,)}
    assert sorted((e.source, e.target) for e in drawing.edges) == sorted(
        (next(p for p, numbers in number.items() if s in numbers), p) for s, p in wanted
    )


@pytest.mark.parametrize("seed", range(5))
def test_sixty_layers_with_random_skips(seed):
    check(draw(chain_with_skips(60, seed), "random"))


def test_the_places_follow_stride_and_order():
    placement = place(inspected("rtdetr-l.yaml").rows)
    assert placement.lanes == [4, 8, 16, 32]
    assert {placement.cells[i].column for i in range(10)} == {0}  # the backbone stands in one column
    assert placement.tall[28] == (1, 3)  # the head reaches from stride 8 to 32
    assert [placement.cells[i].lane for i in (10, 15, 20, 23, 26)] == [3, 2, 1, 2, 3]


def test_a_long_backbone_takes_more_columns():
    rows = [row(i, (i - 1,), in_backbone=True) for i in range(2 * STACK + 1)]
    placement = place([*rows, row(2 * STACK + 1, (2 * STACK,))])
    assert [placement.cells[i].column for i in (0, STACK - 1, STACK, 2 * STACK)] == [0, 0, 1, 2]
    assert placement.cells[2 * STACK + 1].column == 3


def test_long_names_stay_in_their_box():
    drawing = draw(of_rows(row(0, (-1,), module="A" * 80), row(1, (0,), name="Y5", assumed="x")), "long")
    assert drawing.boxes[1].width == WIDEST and drawing.boxes[1].labels[0].text.endswith("A...")
    assert drawing.boxes[2].labels[0].text == "1 Y5: Conv*"
