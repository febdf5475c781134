"""A network that trains in a second."""

NETWORK = {
    "nc": 80,
    "backbone": [[-1, 1, "Conv", [16, 3, 8]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]],
    "head": [[[0, 1, 2], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 2]]],
}
