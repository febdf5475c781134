"""Inputs of the reference results that are not stored, as functions of a seed (numpy only; all float32)."""

import numpy as np

f32 = np.float32


def image(seed, h, w, b=1):
    """Network input in [0, 1]: (b, 3, h, w)."""
    return np.random.default_rng(seed).random((b, 3, h, w), dtype=f32)


def targets(r, counts, nc=80, low=0.05, high=0.5):
    """Boxes (cx, cy, w, h in 0..1, inside the image), classes (n, 1) and image index (n,) drawn from generator r."""
    n = sum(counts)
    cls = r.integers(0, nc, (n, 1)).astype(f32)
    wh = (low + (high - low) * r.random((n, 2))).astype(f32)
    c = (wh / 2 + (1 - wh) * r.random((n, 2))).astype(f32)
    return {
        "cls": cls,
        "bboxes": np.concatenate([c, wh], 1).astype(f32),
        "batch_idx": np.repeat(np.arange(len(counts)), counts).astype(f32),
    }


def train_batch(seed, h, w, counts=(5, 3), nc=80):
    """Batch of the model-level losses: img (len(counts), 3, h, w), cls, bboxes, batch_idx."""
    r = np.random.default_rng(seed)
    img = r.random((len(counts), 3, h, w), dtype=f32)
    return dict(img=img, **targets(r, counts, nc))


def rtdetr_loss_inputs(seed, counts, nc=80, layers=4, queries=100, dn_queries=0):
    """Predictions of the RT-DETR loss: boxes (layers, b, q, 4), logits (layers, b, q, nc), the same for denoising."""
    r, b = np.random.default_rng(seed), len(counts)

    def boxes(q, n):
        return np.concatenate([r.random((n, b, q, 2)), 0.02 + 0.48 * r.random((n, b, q, 2))], -1).astype(f32)

    d = {"boxes": boxes(queries, layers), "logits": (2 * r.standard_normal((layers, b, queries, nc)) - 2).astype(f32)}
    if dn_queries:
        d.update(
            dn_boxes=boxes(dn_queries, layers - 1),
            dn_logits=(2 * r.standard_normal((layers - 1, b, dn_queries, nc)) - 2).astype(f32),
        )
    return dict(**d, **targets(r, counts, nc))


def v8_loss_inputs(seed, counts, h=256, w=256, nc=80, strides=(8, 16, 32)):
    """Head outputs before decoding: boxes (b, 64, a) and scores (b, nc, a); targets include sides below 16 pixels."""
    r, b = np.random.default_rng(seed), len(counts)
    a = sum((h // s) * (w // s) for s in strides)
    boxes = (1.5 * r.standard_normal((b, 64, a))).astype(f32)
    scores = (1.5 * r.standard_normal((b, nc, a)) - 3).astype(f32)
    return dict(boxes=boxes, scores=scores, **targets(r, counts, nc, low=0.03, high=0.6))


def assigner_inputs(seed, counts, nc=80, size=160, strides=(8, 16, 32)):
    """Predictions around a grid of points and boxes with sides from 4 pixels, padded to the largest count; pixels.

    Scores (b, s, nc), boxes (b, s, 4), points (s, 2), labels (b, n, 1), boxes (b, n, 4), which are real (b, n, 1).
    """
    r, b, n = np.random.default_rng(seed), len(counts), max(counts)
    points, steps = [], []
    for stride in strides:
        y, x = np.mgrid[0 : size // stride, 0 : size // stride] * stride + stride / 2
        points.append(np.stack((x, y), -1).reshape(-1, 2))
        steps.append(np.full((len(points[-1]), 1), stride))
    points, steps = np.concatenate(points).astype(f32), np.concatenate(steps)
    scores = (r.random((b, len(points), nc)) ** 2).astype(f32)
    half = steps * (1 + 2 * r.random((b, len(points), 2)))
    middle = points + 6 * (r.random((b, len(points), 2)) - 0.5)
    predicted = np.concatenate((middle - half, middle + half), -1).astype(f32)
    sides, middle = 4 + 86 * r.random((b, n, 2)) ** 2, 10 + (size - 20) * r.random((b, n, 2))
    real = (np.arange(n) < np.array(counts)[:, None])[..., None].astype(f32)
    boxes = np.concatenate((middle - sides / 2, middle + sides / 2), -1).astype(f32) * real
    labels = r.integers(0, nc, (b, n, 1)).astype(f32) * real
    return scores, predicted, points, labels, boxes, real


def nms_input(seed, b=2, nc=10, n=500, size=640):
    """Decoded predictions (b, 4 + nc, n), pixels and scores in 0..1: 25 clusters of boxes, each with a main class."""
    r = np.random.default_rng(seed)
    c, wh, main = size * r.random((b, 25, 2)), 20 + 200 * r.random((b, 25, 2)), r.integers(0, nc, (b, 25))
    k = r.integers(0, 25, (b, n))
    i = np.arange(b)[:, None]
    xy = c[i, k] + 0.12 * wh[i, k] * r.standard_normal((b, n, 2))
    s = wh[i, k] * np.exp(0.15 * r.standard_normal((b, n, 2)))
    p = r.random((b, n, nc)) ** 12
    p[i, np.arange(n)[None], main[i, k]] = r.random((b, n))
    return np.concatenate([xy, s, p], -1).transpose(0, 2, 1).astype(f32).copy()


def detr_output(seed, b=1, q=300, nc=80):
    """RT-DETR predictions (b, q, 4 + nc): boxes cx, cy, w, h in 0..1 and class probabilities."""
    r = np.random.default_rng(seed)
    wh = 0.02 + 0.5 * r.random((b, q, 2))
    return np.concatenate([r.random((b, q, 2)), wh, r.random((b, q, nc)) ** 120], -1).astype(f32)


def gradient(h, w, k=0):
    """uint8 (h, w, 3) picture without symmetry: ramps along x and y, a diagonal wave and a block; k shifts it."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    im = np.stack([255 * x / max(w - 1, 1), 255 * y / max(h - 1, 1), 127.5 + 127.5 * np.sin((x + 2 * y + k) / 5)], -1)
    im[h // 4 : h // 3 + 1, w // 2 : w // 2 + w // 5 + 1] = (250, 10 + k % 40, 60)
    return np.floor(im + 0.5).astype(np.uint8)


def detection_set(seed, images=30, nc=5, crowd=False, w=640, h=480):
    """Ground truth (image, class, x1, y1, x2, y2) and predictions (image, class, score, x1, y1, x2, y2), float32.

    Sides 8..260 pixels, some images empty, a jittered copy of most objects, some doubled, some with a wrong class, and
    false alarms; with crowd each object has a shifted neighbour of its class. Predictions of an image are in descending
    order of score; every score is different.
    """
    r = np.random.default_rng(seed)
    gt, pr = [], []
    for i in range(images):
        for _ in range(int(r.integers(0, 9))):
            s = np.exp(r.uniform(np.log(8), np.log(260), 2))
            p = r.random(2) * (np.array([w, h]) - s).clip(0)
            c = int(r.integers(0, nc))
            for k in range(2 if crowd else 1):
                p = (p + k * r.uniform(-0.25, 0.25, 2) * s).clip(0, np.array([w, h]) - s)
                b = np.array([*p, *(p + s)]).clip(0, [w, h, w, h])
                gt.append([i, c, *b])
                for _ in range(int(r.choice([0, 1, 2, 3], p=[0.15, 0.6, 0.2, 0.05]))):
                    q = (b + r.normal(0, r.choice([0.02, 0.06, 0.15]), 4) * np.tile(s, 2)).clip(0, [w, h, w, h])
                    q = np.array([min(q[0], q[2]), min(q[1], q[3]), max(q[0], q[2]) + 1, max(q[1], q[3]) + 1])
                    pr.append([i, c if r.random() < 0.9 else int(r.integers(0, nc)), r.beta(3, 2), *q])
        for _ in range(int(r.integers(0, 6))):
            s = np.exp(r.uniform(np.log(8), np.log(260), 2))
            p = r.random(2) * (np.array([w, h]) - s).clip(0)
            pr.append([i, int(r.integers(0, nc)), r.beta(1.2, 4), *p, *(p + s)])
    gt, pr = np.array(gt, f32), np.array(pr, f32)
    return gt, pr[np.lexsort((-pr[:, 2], pr[:, 0]))]
