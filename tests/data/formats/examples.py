"""Results whose labels are known by hand."""

import numpy as np

from ultralytics.engine.results import Results

NAMES = {0: 'a<b & "c"', 1: "кошка", 2: "猫 cat"}
ROWS = [
    [-5.0, -5.0, 10.0, 10.0, 0.9, 1.0],  # over the upper left border: 0, 0, 10, 10
    [20.4, 20.6, 65.0, 45.0, 0.5, 2.0],  # over the lower right border: 20.4, 20.6, 60, 40
    [70.0, 70.0, 80.0, 80.0, 0.3, 0.0],  # outside of the image: no label
    [0.0, 5.0, 0.05, 9.0, 0.2, 0.0],  # a twentieth of a pixel wide: no label
]


def result(rows=ROWS, path="/photos/街 1.jpg", names=NAMES, height=40, width=60):
    """A result of an image 60 x 40."""
    boxes = np.array(rows, np.float32).reshape(-1, 6)
    return Results(np.zeros((height, width, 3), np.uint8), path, names, boxes)
