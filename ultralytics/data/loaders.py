"""Sources of prediction, turned into batches of frames that are read ahead of the network."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any

import torch

from ultralytics.data.archives import Archive, archive_pictures
from ultralytics.data.arrays import tensor_to_image, to_bgr
from ultralytics.data.entries import Entry, find_entries
from ultralytics.data.images import decode_image, read_image
from ultralytics.data.prefetch import look_ahead
from ultralytics.data.streams import Frame, live_batches, public_address
from ultralytics.data.videos import gif_frames, is_gif, video_frames
from ultralytics.utils import LOGGER
from ultralytics.utils.downloads import fetch
from ultralytics.utils.errors import DataError, UserError

AHEAD = 4  # frames decoded and waiting; with larger batches a whole one
AHEAD_BYTES = 1 << 28  # waiting frames together; with very large pictures only one is made in advance
ADDRESS_LIMIT = 1 << 29  # bytes of one picture behind an address


class Source:
    """Iterable over batches of frames; every loop over it starts anew. `endless` where it has live streams.

    Files are decoded in a thread, at most `ahead` frames (but a whole batch) before the caller asks for them; closing
    the iterator ends it. With `ahead=0` the caller waits for each frame.
    """

    def __init__(
        self,
        entries: list[Entry],
        *,
        batch: int = 1,
        vid_stride: int = 1,
        stream_buffer: bool = False,
        ahead: int = AHEAD,
    ) -> None:
        self.entries, self.batch, self.ahead = entries, batch, ahead
        self.vid_stride, self.stream_buffer = vid_stride, stream_buffer
        live = [e.value for e in entries if e.kind == "stream"]
        if live and len(live) < len(entries):
            raise DataError(
                f"source: {len(live)} live streams together with {len(entries) - len(live)} files or images; "
                "streams never end, so give them on their own"
            )
        self.endless = bool(live)

    def __len__(self) -> int:
        """Number of files, pictures and streams (a video counts once, an archive as what is in it)."""
        return sum(entry.count for entry in self.entries)

    def __iter__(self) -> Iterator[list[Frame]]:
        if self.endless:
            addresses = [entry.value for entry in self.entries]
            return live_batches(addresses, vid_stride=self.vid_stride, keep_all=self.stream_buffer)
        frames = self._frames()
        if self.ahead and any(entry.kind not in ("array", "tensor") for entry in self.entries):  # those are decoded
            frames = look_ahead(frames, max(self.ahead, self.batch), weigh=lambda f: f.image.nbytes, most=AHEAD_BYTES)
        return batches(frames, self.batch)

    def _frames(self) -> Generator[Frame, None, None]:
        total, position = len(self), 1
        for entry in self.entries:
            if entry.kind == "archive":
                yield from _archive_frames(entry.value, position, total, self.vid_stride)
            elif entry.kind in ("array", "tensor"):
                yield _memory_frame(entry, position, total)
            else:
                yield from _reported(self._file_frames(entry, f"{position}/{total}"), f"{position}/{total}")
            position += entry.count

    def _file_frames(self, entry: Entry, where: str) -> Iterator[Frame]:
        name = "stdin.jpg" if entry.kind == "encoded" else public_address(entry.value)
        if entry.kind == "encoded":
            yield from _decoded(name, entry.value, where, self.vid_stride)
        elif "://" in str(entry.value) and (entry.kind == "image" or is_gif(name)):
            yield from _decoded(name, fetch(str(entry.value), ADDRESS_LIMIT), where, self.vid_stride)
        elif is_gif(name):
            yield from gif_frames(entry.value, name, where, self.vid_stride)
        elif entry.kind == "video":
            yield from video_frames(entry.value, where, self.vid_stride)
        else:
            yield Frame(read_image(entry.value), name, f"image {where} {name}")


def load_source(
    source: Any, *, batch: int = 1, vid_stride: int = 1, stream_buffer: bool = False, ahead: int = AHEAD
) -> Source:
    """Find out what `source` is.

    Accepted: path of an image, video, zip archive or folder; glob (`**` looks into subfolders); .txt/.csv list of
    paths; .streams list of addresses; camera number; rtsp/http address; `screen` with a region; `-` for paths or an
    image on the standard input; uint8 BGR array (H, W, 3); PIL image; float RGB tensor (B, 3, H, W) in 0..1; or a list
    of these. DataError where it is missing, empty or none of them.
    """
    entries = find_entries(source)
    return Source(entries, batch=batch, vid_stride=vid_stride, stream_buffer=stream_buffer, ahead=ahead)


def batches(frames: Generator[Frame, None, None], size: int) -> Iterator[list[Frame]]:
    """Groups of up to `size` frames; prepared tensors only with tensors of their own shape, as they are stacked.

    A full group is given at once, without a look at the frame after it. Closing this closes `frames`.
    """
    group: list[Frame] = []
    try:
        for frame in frames:
            if group and _tensor_shape(group[0]) != _tensor_shape(frame):
                yield group
                group = []
            group.append(frame)
            del frame
            if len(group) == size:
                yield group
                group = []
        if group:
            yield group
    finally:
        frames.close()


def _tensor_shape(frame: Frame) -> torch.Size | None:
    return None if frame.tensor is None else frame.tensor.shape


def _memory_frame(entry: Entry, position: int, total: int) -> Frame:
    unnamed = f"image{position - 1}.jpg"
    if entry.kind == "tensor":
        image = tensor_to_image(entry.value)
        return Frame(image, unnamed, f"image {position}/{total} {unnamed}", tensor=entry.value)
    name = getattr(entry.value, "filename", "") or unnamed
    return Frame(to_bgr(entry.value), name, f"image {position}/{total} {name}")


def _archive_frames(archive: Archive, position: int, total: int, vid_stride: int) -> Iterator[Frame]:
    for place, (member, data) in enumerate(archive_pictures(archive), position):
        where = f"{place}/{total}"
        if isinstance(data, DataError):
            LOGGER.warning(f"image {where} skipped: {data}")
        else:
            yield from _reported(_decoded(f"{archive.path}/{member}", data, where, vid_stride), where)


def _decoded(name: str, data: bytes, where: str, vid_stride: int) -> Iterator[Frame]:
    """Frames of an encoded picture in memory: one, or those of a GIF."""
    if data[:4] == b"GIF8":
        yield from gif_frames(data, name, where, vid_stride)
    else:
        yield Frame(decode_image(name, data), name, f"image {where} {name}")


def _reported(frames: Iterable[Frame], where: str) -> Iterator[Frame]:
    """The frames of one file; where it cannot be read, a line in the log instead, so that the next file follows."""
    try:
        yield from frames
    except UserError as error:
        LOGGER.warning(f"image {where} skipped: {error}")
