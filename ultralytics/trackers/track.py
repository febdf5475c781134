"""Tracking: object ids across frames, by ByteTrack or BoT-SORT of the package `trackers` (Roboflow, Apache-2.0)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch

from ultralytics.cfg.options import Count, Probability
from ultralytics.cfg.plain_data import key_at, read_yaml
from ultralytics.cfg.values import OneOf, check_value
from ultralytics.utils import LOGGER, PACKAGE_ROOT
from ultralytics.utils.checks import require
from ultralytics.utils.errors import MissingPackageError, OptionError, check_keys, did_you_mean
from ultralytics.utils.ops import xywh2xyxy

if TYPE_CHECKING:
    from ultralytics.data.streams import Frame

TRACKER_YAMLS = PACKAGE_ROOT / "cfg" / "trackers"
REQUIREMENT = "trackers>=2.6"
KEYS = {
    "tracker_type": Annotated[str, OneOf("bytetrack", "botsort")],
    "track_high_thresh": Probability, "track_low_thresh": Probability, "new_track_thresh": Probability,
    "track_buffer": Count, "match_thresh": Probability, "fuse_score": bool,
    "gmc_method": Annotated[str, OneOf("sparseOptFlow", "orb", "sift", "ecc", "none")],
    "with_reid": bool, "proximity_thresh": Probability, "appearance_thresh": Probability, "model": str,
}  # fmt: skip


def read_tracker(name: str | Path) -> dict[str, Any]:
    """Return the settings of a tracker file, of the user or built in; see `check_settings`."""
    built_in = sorted(file.name for file in TRACKER_YAMLS.glob("*.yaml"))
    file = Path(name) if str(name) not in built_in or Path(name).exists() else TRACKER_YAMLS / name
    if not file.exists():
        hint = did_you_mean(str(name), built_in)
        raise OptionError(f"tracker: no file {str(name)!r}{hint}; built in are {', '.join(built_in)}")
    return check_settings(read_yaml(file), file)


def check_settings(given: Mapping[str, Any], file: str | Path = "tracker") -> dict[str, Any]:
    """Return settings with defaults for missing keys; `file` is where they are from.

    Raises OptionError for an unknown key or value, and for tracking by appearance.
    """
    at = partial(key_at, file) if isinstance(file, Path) else lambda key: file
    check_keys(given, KEYS, at, OptionError)
    for key, value in given.items():
        try:
            check_value(key, value, KEYS[key])
        except OptionError as error:
            raise OptionError(f"{at(key)}: {error}") from None
    if "tracker_type" not in given:
        raise OptionError(f"{file}: tracker_type is missing; expected bytetrack or botsort")
    if given.get("with_reid"):
        raise OptionError(f"{file}: with_reid: there is no tracking by appearance; write with_reid: false")
    kind = given["tracker_type"].lower()
    defaults = read_yaml(TRACKER_YAMLS / f"{kind}.yaml")
    # the package multiplies IoU and score, and compensates the motion of the camera, in BoT-SORT only
    unread = ("fuse_score",) if kind == "botsort" else ("fuse_score", "gmc_method")
    if unused := [key for key in unread if key in given and given[key] != defaults.get(key)]:
        LOGGER.info(f"{file}: without effect for {kind} of the package trackers: {', '.join(unused)}")
    return {**defaults, **given, "tracker_type": kind}


class BYTETracker:
    """ByteTrack with the published interface.

    Args:
        args: mapping or namespace with the keys of a tracker file.
        frame_rate: frames per second; `track_buffer` counts frames at 30.
    """

    tracker_type = "bytetrack"

    def __init__(self, args: Mapping[str, Any] | SimpleNamespace, frame_rate: float = 30.0) -> None:
        given = args if isinstance(args, Mapping) else vars(args)
        settings = check_settings({**given, "tracker_type": self.tracker_type})
        self.args = SimpleNamespace(**settings)
        self.least, least_iou = settings["track_low_thresh"], 1 - settings["match_thresh"]
        arguments = {
            "high_conf_det_threshold": settings["track_high_thresh"], "lost_track_buffer": settings["track_buffer"],
            "track_activation_threshold": settings["new_track_thresh"], "frame_rate": frame_rate,
        }  # fmt: skip
        package = require("trackers", REQUIREMENT, "tracking")
        if not hasattr(package, "BoTSORTTracker"):
            raise MissingPackageError(f'tracking: the package trackers is too old: pip install "{REQUIREMENT}"')
        if self.tracker_type == "bytetrack":
            self.tracker = package.ByteTrackTracker(**arguments, minimum_iou_threshold=least_iou)
        else:
            method = settings["gmc_method"]
            motion = {"enable_cmc": False} if method == "none" else {"cmc_method": method}
            arguments["minimum_iou_threshold_first_assoc"] = least_iou
            self.tracker = package.BoTSORTTracker(**arguments, **motion)

    def update(self, results: Any, img: np.ndarray | None = None) -> np.ndarray:
        """Associate the detections of the next frame with the tracks.

        Args:
            results: detections with `xyxy`, or `xywh`, `conf` and `cls`, such as `Boxes`.
            img: frame (H, W, 3) BGR, for the motion of the camera in BoT-SORT.

        Returns:
            (n, 8): x1, y1, x2, y2 of a detection, id, score, class, index of the detection; without those without id.
        """
        from supervision import Detections

        corners = results.xyxy if hasattr(results, "xyxy") else xywh2xyxy(results.xywh)
        xyxy, conf, cls = (torch.as_tensor(part).cpu().numpy() for part in (corners, results.conf, results.cls))
        rows = np.flatnonzero(conf >= self.least)
        detections = Detections(xyxy[rows], confidence=conf[rows], class_id=rows)
        found = self.tracker.update(detections, img if self.tracker_type == "botsort" else None)
        found = found[found.tracker_id >= 0]
        index = found.class_id.astype(int)
        table = np.column_stack((xyxy[index], found.tracker_id + 1, conf[index], cls[index], index)).astype(np.float32)
        return table[index.argsort()]

    def reset(self) -> None:
        self.tracker.reset()


class BOTSORT(BYTETracker):
    """BoT-SORT without appearance, with the interface of `BYTETracker`."""

    tracker_type = "botsort"


TRACKER_MAP = {kind.tracker_type: kind for kind in (BYTETracker, BOTSORT)}


class Trackers(list[BYTETracker]):
    """Trackers of a prediction: one for each live stream, else the first only, which is reset by the next video.

    Args:
        file: tracker file, see `read_tracker`.
        trackers: those to begin with; by default one by the file.
    """

    def __init__(self, file: str | Path, trackers: Iterable[BYTETracker] = ()) -> None:
        self.settings = read_tracker(file)
        self._kind = TRACKER_MAP[self.settings["tracker_type"]]
        super().__init__(trackers)
        self._grow(1)  # so that a missing package is an error before the first frame
        self._numbers: dict[str, int] = {}  # of streams
        self._place = "", 0  # path and frame of the last video

    def _grow(self, count: int) -> None:
        self.extend(self._kind(self.settings) for _ in range(count - len(self)))

    def update(self, frames: Sequence[Frame], results: Sequence[Any], *, persist: bool = False) -> None:
        """Replace the boxes of each result by those with an id; a frame without any keeps its boxes.

        With `persist`, tracks continue from one video to the next.
        """
        for frame, result in zip(frames, results, strict=True):
            live, (path, index) = frame.kind == "stream", self._place
            number = self._numbers.setdefault(frame.path, len(self._numbers)) if live else 0
            self._grow(number + 1)
            if frame.kind == "video":
                if not persist and (frame.path != path or frame.index <= index):
                    self[number].reset()
                self._place = frame.path, frame.index
            table = torch.from_numpy(self[number].update(result.boxes, frame.image))
            if len(table):
                rows = torch.as_tensor(result.boxes.data)
                kept, ids = rows[table[:, 7].long().to(rows.device)], table[:, 4:5].to(rows)
                result.update(boxes=torch.cat((kept[:, :4], ids, kept[:, 4:]), 1))  # (n, 7)


def on_predict_start(predictor: Any, persist: bool = False) -> None:
    """Give a predictor new trackers of its option `tracker`; with `persist`, it keeps those that it has."""
    if not (persist and vars(predictor).get("trackers")):
        predictor.trackers = Trackers(predictor.args.tracker)


def on_predict_postprocess_end(predictor: Any, persist: bool = False) -> None:
    """Track the results of a predictor's batch by its `trackers`, which may be a list of others."""
    if not isinstance(predictor.trackers, Trackers):
        predictor.trackers = Trackers(predictor.args.tracker, predictor.trackers)
    predictor.trackers.update(predictor.frames, predictor.results, persist=persist)
