"""What prediction leaves behind: drawn images and videos, label files, crops, and the window on the screen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ultralytics.cfg.options import Options
from ultralytics.data.streams import Frame
from ultralytics.engine.results import Results, image_name, show_image, write_image
from ultralytics.utils.errors import DataError

WRITTEN_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # other images are written as .jpg
SHOWN_MILLISECONDS = 500  # how long a picture stays on the screen; frames of videos do not wait


class ResultWriter:
    """Saves and shows results as the options say; `close` finishes videos.

    Files of equal names from different folders do not overwrite each other: the later one gets a number.
    """

    def __init__(self, options: Options, folder: Path | None) -> None:
        self.options, self.folder = options, folder
        self._owners: dict[str, str] = {}  # name in the run folder -> the source path it stands for
        self._videos: dict[str, tuple[cv2.VideoWriter, tuple[int, int]]] = {}  # with (width, height)

    @staticmethod
    def needs_folder(options: Options) -> bool:
        """Whether the options ask for any file; feature vectors (`embed`) are returned, not written."""
        of_detections = options.save or options.save_txt or options.save_crop
        return options.visualize or (of_detections and not options.embed)

    def write(self, result: Results, frame: Frame) -> None:
        """Save and show one result."""
        options = self.options
        stem = self.name(frame)
        numbered = stem if frame.kind == "image" else f"{stem}_{frame.index}"
        if options.save_txt:
            result.save_txt(self.folder / "labels" / f"{numbered}.txt", save_conf=options.save_conf)
        if options.save_crop:
            result.save_crop(self.folder / "crops", numbered)
        if not (options.save or options.show):
            return
        picture = result.plot(
            conf=options.show_conf,
            line_width=options.line_width,
            labels=options.show_labels,
            boxes=options.show_boxes,
        )
        if options.show:
            show_image(frame.path, picture, milliseconds=SHOWN_MILLISECONDS if frame.kind == "image" else 1)
        if options.save and frame.kind == "image":
            suffix = Path(image_name(frame.path)).suffix.lower()
            write_image(self.folder / f"{stem}{suffix if suffix in WRITTEN_SUFFIXES else '.jpg'}", picture)
        elif options.save:
            self._write_frame(stem, frame, picture)

    def name(self, frame: Frame) -> str:
        """Name of the frame's source in the run folder, without suffix."""
        full = image_name(frame.path)
        wanted = full if frame.kind == "stream" else Path(full).stem
        name, number = wanted, 2
        while self._owners.setdefault(name, frame.path) != frame.path:
            name, number = f"{wanted}_{number}", number + 1
        return name

    def close(self) -> None:
        """Finish the videos."""
        for video, _ in self._videos.values():
            video.release()
        self._videos.clear()

    def _write_frame(self, stem: str, frame: Frame, picture: np.ndarray) -> None:
        if stem not in self._videos:
            if frame.kind == "video":  # files come one after the other: the one before is complete
                self.close()
            file, size = self.folder / f"{stem}.mp4", (picture.shape[1], picture.shape[0])
            video = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), frame.fps, size)
            if not video.isOpened():
                raise DataError(f"{file}: OpenCV cannot write this video; use save=False save_txt=True, or images")
            self._videos[stem] = (video, size)
        video, size = self._videos[stem]
        # A stream may change its resolution; a video cannot, and would silently drop the frame.
        video.write(picture if (picture.shape[1], picture.shape[0]) == size else cv2.resize(picture, size))
