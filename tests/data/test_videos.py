import io
import threading
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from ultralytics.data.loaders import load_source
from ultralytics.data.streams import Frame
from ultralytics.utils.errors import DataError

SIZE = (48, 64)


def shade(value):
    return np.full((*SIZE, 3), value, np.uint8)


def write_video(path, count=40, codec="MJPG"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, SIZE[::-1])
    noise = np.random.default_rng(0).integers(0, 30, (count, *SIZE, 3), np.uint8)
    for number in range(count):
        writer.write(noise[number] + np.uint8(5 * (number % 45)))
    writer.release()
    return path


def write_gif(path, values, **options):
    first, *rest = (Image.new("RGB", (8, 6), (value,) * 3) for value in values)
    first.save(path, "GIF", save_all=bool(rest), append_images=rest, **options)
    return path


def frames(source, **options):
    return [frame for batch in load_source(source, **options) for frame in batch]


@pytest.mark.parametrize(("suffix", "codec"), [(".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "mp4v")])
def test_frames_in_order(tmp_path, suffix, codec):
    found = frames(write_video(tmp_path / f"a{suffix}", 30, codec), batch=4)
    means = [float(frame.image.mean()) for frame in found]
    assert [f.index for f in found] == list(range(1, 31)) and means == sorted(means)
    assert {(f.kind, f.fps) for f in found} == {("video", 25.0)}


@pytest.mark.parametrize(("suffix", "codec"), [(".avi", "MJPG"), (".mkv", "mp4v")])
def test_a_video_cut_in_half_gives_what_is_left(tmp_path, caplog, suffix, codec):
    whole = write_video(tmp_path / f"a{suffix}", 40, codec).read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(whole[: len(whole) // 2])
    cv2.imencode(".png", shade(1))[1].tofile(tmp_path / "b.png")
    found = frames(tmp_path)
    assert found[-1].path == str(tmp_path / "b.png")  # the run goes on
    assert 5 < len(found) - 1 < 30 and {f.kind for f in found[:-1]} == {"video"}
    assert f"a{suffix}: ended after {len(found) - 1} of 40 frames; the file is truncated" in caplog.text


def test_a_video_without_its_index_is_reported(tmp_path, caplog):
    whole = write_video(tmp_path / "a.mp4", 40, "mp4v").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])  # an .mp4 has its index at the end
    cv2.imencode(".png", shade(1))[1].tofile(tmp_path / "b.png")
    assert [f.path for f in frames(tmp_path)] == [str(tmp_path / "b.png")]
    assert "video 1/2 skipped" in caplog.text and "cannot be opened or has no readable frame" in caplog.text


def test_a_whole_video_is_not_reported(tmp_path, caplog):
    frames(write_video(tmp_path / "a.mp4", 40, "mp4v"))
    assert not caplog.text


def test_gif_animation(tmp_path):
    found = frames(write_gif(tmp_path / "a.gif", (10, 60, 110, 160), duration=40), vid_stride=2)
    assert [int(f.image[0, 0, 0]) for f in found] == [10, 110]
    assert [f.index for f in found] == [1, 3] and {(f.kind, f.fps) for f in found} == {("video", 12.5)}


def test_a_gif_of_one_frame_is_an_image(tmp_path):
    (frame,) = frames(write_gif(tmp_path / "a.gif", (60,)))
    assert frame.kind == "image" and (frame.image == 60).all()


def test_damaged_gifs(tmp_path, caplog):
    noise = [Image.fromarray(i) for i in np.random.default_rng(0).integers(0, 255, (6, 40, 40, 3), np.uint8)]
    out = io.BytesIO()
    noise[0].save(out, "GIF", save_all=True, append_images=noise[1:])
    (tmp_path / "a.gif").write_bytes(out.getvalue()[: len(out.getvalue()) // 2])
    (tmp_path / "b.gif").write_bytes(out.getvalue()[:200])
    (tmp_path / "c.gif").write_bytes(b"GIF89a")
    write_gif(tmp_path / "d.gif", (60,))
    found = frames(tmp_path)
    assert 1 <= len(found) - 1 <= 5 and found[-1].path == str(tmp_path / "d.gif")
    assert "a.gif: ended at frame" in caplog.text
    assert "image 2/4 skipped" in caplog.text and "image 3/4 skipped" in caplog.text


@pytest.fixture
def alive(monkeypatch):
    """How many frames exist at the moment: a list of one number, and the most there have been."""
    count, made, lock = [0, 0], Frame.__init__, threading.RLock()

    def change(by):
        with lock:
            count[0] += by
            count[1] = max(count)

    def counted(self, *args, **kwargs):
        made(self, *args, **kwargs)
        change(1)

    monkeypatch.setattr(Frame, "__init__", counted)
    monkeypatch.setattr(Frame, "__del__", lambda self: change(-1), raising=False)
    return count


@pytest.mark.parametrize("batch", [1, 8])
def test_memory_is_constant_over_two_thousand_frames(tmp_path, alive, batch):
    video = write_video(tmp_path / "a.avi", 500)
    seen = 0
    for group in load_source([video] * 4, batch=batch):
        seen += len(group)
        del group
    assert seen == 2000 and alive[0] == 0
    assert alive[1] <= 2 * batch + max(4, batch) + 2  # with the caller, being grouped, waiting, in the making


def test_traced_memory_does_not_grow(tmp_path):
    video, levels = write_video(tmp_path / "a.avi", 250), []
    tracemalloc.start()
    for number, _ in enumerate(load_source([video] * 4)):
        if number in (200, 900):
            levels.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert levels[1] < levels[0] + 5 * 3 * SIZE[0] * SIZE[1]


def test_leaving_early_lets_go_of_the_file(tmp_path):
    batches = iter(load_source(write_video(tmp_path / "a.avi"), batch=2))
    next(batches)
    assert [t.name for t in threading.enumerate() if t.name.startswith("read-ahead")]
    batches.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_arrays_need_no_thread():
    batches = iter(load_source([shade(1), shade(2)]))
    next(batches)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_everything_in_one_run_in_order(tmp_path):
    cv2.imencode(".png", shade(1))[1].tofile(tmp_path / "a.png")
    write_video(tmp_path / "b.avi", 5)
    write_gif(tmp_path / "c.gif", (10, 60))
    source = [tmp_path, shade(9), tmp_path / "a.png"]
    got = [(f.kind, f.label.split()[1]) for f in frames(source, batch=3)]
    expected = [("image", "1/5"), *[("video", "2/5")] * 5]
    assert got == [*expected, *[("video", "3/5")] * 2, ("image", "4/5"), ("image", "5/5")]


def test_a_wrong_array_among_files_is_an_error_at_the_caller(tmp_path):
    cv2.imencode(".png", shade(1))[1].tofile(tmp_path / "a.png")
    batches = iter(load_source([tmp_path / "a.png", np.zeros((4, 4, 3), np.float32)]))
    assert len(next(batches)) == 1
    with pytest.raises(DataError, match="array of float32"):
        next(batches)
