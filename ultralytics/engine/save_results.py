"""Files of a prediction: drawn images and videos, label files and crops; and the window on the screen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ultralytics.cfg.options import Options
from ultralytics.data.streams import Frame
from ultralytics.engine.results import Results, image_name, show_image, write_image
from ultralytics.utils.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # other images are saved as .jpg
SHOW_MILLISECONDS = 500  # per image; frames of videos do not wait


class ResultSaver:
    """Save and show results by the options; `close` finishes the videos.

    Files of equal names from different folders are numbered.
    """

    def __init__(self, options: Options, folder: Path | None) -> None:
        self.options, self.folder = options, folder
        self._sources: dict[str, str] = {}  # name in the run folder -> path of its source
        self._videos: dict[str, tuple[cv2.VideoWriter, tuple[int, int]]] = {}  # with (width, height)

    @staticmethod
    def needs_folder(options: Options) -> bool:
        """Check whether the options ask for any file; feature vectors (`embed`) are not saved."""
        detections = options.save or options.save_txt or options.save_crop
        return options.visualize or (detections and not options.embed)

    def save(self, result: Results, frame: Frame) -> None:
        """Save and show one result."""
        options, stem = self.options, self.name(frame)
        numbered = stem if frame.kind == "image" else f"{stem}_{frame.index}"
        if options.save_txt:
            result.save_txt(self.folder / "labels" / f"{numbered}.txt", save_conf=options.save_conf)
        if options.save_crop:
            result.save_crop(self.folder / "crops", numbered)
        if not (options.save or options.show):
            return
        picture = result.plot(options.show_conf, options.line_width, options.show_labels, options.show_boxes)
        if options.show:
            show_image(frame.path, picture, milliseconds=SHOW_MILLISECONDS if frame.kind == "image" else 1)
        if options.save and frame.kind == "image":
            suffix = Path(image_name(frame.path)).suffix.lower()
            write_image(self.folder / f"{stem}{suffix if suffix in IMAGE_SUFFIXES else '.jpg'}", picture)
        elif options.save:
            self._save_frame(stem, frame, picture)

    def name(self, frame: Frame) -> str:
        """Return the name of the frame's source in the run folder, without suffix."""
        full = image_name(frame.path)
        stem = full if frame.kind == "stream" else Path(full).stem
        name, number = stem, 2
        while self._sources.setdefault(name, frame.path) != frame.path:
            name, number = f"{stem}_{number}", number + 1
        return name

    def close(self) -> None:
        """Finish the videos."""
        for video, _ in self._videos.values():
            video.release()
        self._videos.clear()

    def _save_frame(self, stem: str, frame: Frame, picture: np.ndarray) -> None:
        size = picture.shape[1::-1]  # width, height
        if stem not in self._videos:
            if frame.kind == "video":  # video files are read one by one: the previous one is complete
                self.close()
            file = self.folder / f"{stem}.mp4"
            video = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), frame.fps, size)
            if not video.isOpened():
                raise DataError(f"{file}: OpenCV cannot write this video; use save=False save_txt=True, or images")
            self._videos[stem] = video, size
        video, first_size = self._videos[stem]
        # a stream may change its resolution, but a video would drop the frame
        video.write(picture if size == first_size else cv2.resize(picture, first_size))
