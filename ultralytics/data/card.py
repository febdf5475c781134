"""Numbers of `yolo data`: boxes at the training size, class balance of splits, and images that two splits share."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ultralytics.data.images import FILE_LIMIT, decode_image
from ultralytics.data.labels import ImageLabels
from ultralytics.data.verify import THREADS
from ultralytics.utils import LOGGER, progress
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import read_bytes

CELLS = 9  # an image is reduced to 9 x 9 means; the signs of their 2 x 64 differences are the hash (dHash)
BITS = 2 * (CELLS - 1) ** 2
MAX_DISTANCE, MIN_CORRELATION = 16, 0.97  # of near-duplicates: bits that differ, and correlation of the means
BLOCK, CHANCE = 64, 0.05  # images compared at once with another split; probability of a false alarm on class balance


class SplitBoxes(NamedTuple):
    """Boxes of a split, crowd regions left out, as arrays over its boxes or images."""

    cls: np.ndarray  # (boxes,)
    side: np.ndarray  # (boxes,) square root of the area, in pixels of the network input
    aspect: np.ndarray  # (boxes,) width / height, in pixels of the image
    image: np.ndarray  # (boxes,) index of the image
    per_image: np.ndarray  # (images,) number of boxes


class Signatures(NamedTuple):
    """What is compared of the readable images of a split."""

    files: Sequence[Path]
    digests: Sequence[bytes]  # of the files
    hashes: np.ndarray  # (images, BITS) -1 or 1
    means: np.ndarray  # (images, 81) unit vectors, whose products are correlations; shorter without contrast


def measure_boxes(labels: Sequence[ImageLabels], imgsz: int, resize: str) -> SplitBoxes:
    """Measure the boxes of at least one image at a training size; `resize` is "stretch" to a square, or "letterbox"."""
    found = [(item.cls[~item.crowd], item.boxes[~item.crowd, 2:]) for item in labels]
    per_image = np.array([len(cls) for cls, _ in found])
    cls, boxes = map(np.concatenate, zip(*found, strict=True))
    image = np.repeat(np.arange(len(labels)), per_image)
    shapes = np.array([item.shape[::-1] for item in labels], float)  # (images, 2) width, height
    pixels = boxes * shapes[image]
    scale = imgsz / (shapes.max(1, keepdims=True) if resize == "letterbox" else shapes)
    side = np.sqrt((pixels * scale[image]).prod(1)).round(3)  # so that 16 px are not 15.9999 by the digits of labels
    return SplitBoxes(cls, side, (pixels[:, 0] / pixels[:, 1]).round(4), image, per_image)


def class_shift(first: SplitBoxes, other: SplitBoxes, nc: int) -> list[str]:
    """Return for each class how much more frequent images with it are in `other` than in `first`: `1.5x`.

    It is empty where this may be chance: Fisher's exact test on images, which are drawn into splits, corrected for nc.
    """
    from scipy.stats import hypergeom  # slow to import

    hits, more = (np.bincount(np.unique(s.image * nc + s.cls) % nc, minlength=nc) for s in (first, other))
    images, others = len(first.per_image), len(other.per_image)
    drawn = hypergeom(images + others, hits + more, others)
    chance = 2 * nc * np.minimum(drawn.cdf(more), drawn.sf(more - 1))
    times = [f"{m / others / (h / images):.2g}x" if h else "only here" for h, m in zip(hits, more, strict=True)]
    return [text if p < CHANCE else "" for text, p in zip(times, chance, strict=True)]


def read_signatures(labels: Sequence[ImageLabels], split: str, limit: int | None = None) -> Signatures:
    """Read images, at most `limit` evenly spread ones; those that cannot be read are left out with a warning."""
    files = [item.file for item in labels[:: -(-len(labels) // (limit or len(labels)))]]

    def read(file: Path) -> tuple | None:
        try:
            data = read_bytes(file, DataError, FILE_LIMIT)
            digest, image = hashlib.blake2b(data, digest_size=16).digest(), decode_image(file, data, 4 * CELLS)
            return file, digest, *_signature(image)
        except DataError as error:
            LOGGER.warning(f"not compared with other splits: {error}")

    with ThreadPoolExecutor(THREADS) as threads:
        found = [*filter(None, progress(threads.map(read, files), f"Reading {split} images", len(files), delay=1))]
    paths, digests, hashes, means = zip(*found, strict=True) if found else [()] * 4
    arrays = (np.array(rows, np.float32).reshape(-1, n) for rows, n in ((hashes, BITS), (means, CELLS**2)))
    return Signatures(paths, digests, *arrays)


def _signature(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return hash and means of an image (H, W, 3)."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    cells = cv2.resize(gray, (CELLS, CELLS), interpolation=cv2.INTER_AREA).astype(np.float32)
    right, below = cells[:-1, 1:] > cells[:-1, :-1], cells[1:, :-1] > cells[:-1, :-1]
    means = (cells - cells.mean()).ravel()
    means /= max(np.linalg.norm(means), CELLS)  # so that what varies by less than a gray level correlates with nothing
    return np.where(np.concatenate([right, below], axis=None), 1, -1), means


def find_duplicates(signatures: Mapping[str, Signatures]) -> Iterator[tuple[str, str, str, str, str, int, float, int]]:
    """Yield images that an earlier split has as well: exactly, or in another size, compression or brightness.

    A row: the image, its split, the most similar image of the other split, that split, "exact" (the same file content)
    or "near", bits in which the hashes differ, correlation of the means, number of further similar images.
    """
    for (first, others), (split, images) in combinations(signatures.items(), 2):
        known = {digest: place for place, digest in enumerate(others.digests)}
        starts = range(0, len(images.files) if others.files else 0, BLOCK)
        for start in progress(starts, f"Comparing {split} with {first}", delay=1):
            block = slice(start, start + BLOCK)
            products = images.hashes[block] @ others.hashes.T  # (block, others), BITS - 2 * distance
            correlations = images.means[block] @ others.means.T
            similar = (products >= BITS - 2 * MAX_DISTANCE) & (correlations >= MIN_CORRELATION)
            for row, digest in enumerate(images.digests[block]):
                if digest in known:  # also without contrast
                    similar[row, known[digest]], correlations[row, known[digest]] = True, 1
            best, more = np.where(similar, correlations, -1).argmax(1), similar.sum(1) - 1
            for row in np.flatnonzero(more >= 0):
                same = known.get(images.digests[start + row])
                at, kind = (best[row], "near") if same is None else (same, "exact")
                facts = kind, int(BITS - products[row, at]) // 2, round(float(correlations[row, at]), 4), int(more[row])
                yield str(images.files[start + row]), split, str(others.files[at]), first, *facts
