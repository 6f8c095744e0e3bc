"""Videos and cameras: frames, smoothing, files, interruptions; a capture made of arrays stands in for a camera."""

import cv2
import numpy as np
import pytest
from support.errors import raises
from support.threshold_predictor import ByRed

from deeplab import Segmenter
from deeplab.config.prediction_config import PredictConfig
from deeplab.inference import video
from deeplab.inference.folder_prediction import predict_files

RED, GREEN, DARK = (220, 30, 30), (30, 220, 30), (20, 20, 20)


class FakeCapture:
    """Frames as OpenCV gives them: BGR; after the last one, `error` is raised if there is one."""

    def __init__(self, frames, fps=10.0, count=0.0, error=None, opened=True):
        self.frames, self.error, self.opened, self.released = list(frames), error, opened, False
        self.values = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_COUNT: count}

    def isOpened(self):  # OpenCV's name
        return self.opened

    def get(self, what):
        return self.values[what]

    def read(self):
        if self.frames:
            return True, np.ascontiguousarray(self.frames.pop(0)[..., ::-1])
        if self.error:
            raise self.error
        return False, None

    def release(self):
        self.released = True


def frame(color, size=(48, 64)):
    return np.full((*size, 3), color, np.uint8)


@pytest.fixture
def segmenter():
    return Segmenter(ByRed())


@pytest.fixture
def camera(monkeypatch):
    def camera(*args, **options):
        capture = FakeCapture(*args, **options)
        monkeypatch.setattr(video, "open_capture", lambda source: capture)
        return capture

    return camera


def config(folder, **changes):
    return PredictConfig(input=("0",), output_dir=str(folder), model="x", **changes)


def read_back(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        found, one = capture.read()
        if not found:
            return frames
        frames.append(one[..., ::-1])


def test_frames_are_rgb(segmenter, camera):
    capture = camera([frame(RED), frame(GREEN), frame(DARK)])
    results = list(segmenter.video(0))
    assert [int(np.median(one.labels)) for one in results] == [1, 2, 0] and results[0].probabilities is None
    assert capture.released


def test_a_limit_of_frames(segmenter, camera):
    capture = camera([frame(RED)] * 9)
    assert len(list(segmenter.video(0, max_frames=4))) == 4 and len(capture.frames) == 5 and capture.released


def test_smoothing_by_hand(segmenter, camera):
    camera([frame(RED), frame(GREEN), frame(GREEN), frame(GREEN, (10, 12))])
    results = list(segmenter.video(0, smoothing=0.6, probabilities=True))
    of_red = [float(one.probabilities[0, 0, 1]) for one in results]
    assert of_red == pytest.approx([1, 0.6, 0.36, 0])  # another size starts again
    assert [int(one.labels[0, 0]) for one in results] == [1, 1, 2, 2]


def test_files_of_a_video(segmenter, tmp_path, capsys):
    with video.VideoWriter(tmp_path / "clip.mp4", 12.0) as writer:
        for color in (RED, RED, DARK, GREEN):
            writer.write(frame(color))
    means = video.predict_video(segmenter, str(tmp_path / "clip.mp4"), config(tmp_path / "out", save_cutouts=True))
    assert means == pytest.approx({"class_0": 0.25, "class_1": 0.5, "class_2": 0.25}, abs=0.02)
    out = tmp_path / "out"
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == ["color/clip.mp4", *(f"mask/clip/00000{n}.png" for n in range(4)), "overlay/clip.mp4"]
    colors = read_back(out / "color" / "clip.mp4")
    assert len(colors) == 4 and cv2.VideoCapture(str(out / "color" / "clip.mp4")).get(cv2.CAP_PROP_FPS) == 12
    expected = segmenter.colors[[1, 1, 0, 2]].astype(int)
    assert np.abs(np.array([one.reshape(-1, 3).mean(0) for one in colors]) - expected).max() < 12
    said = capsys.readouterr().err
    assert "no sound" in said and "`save_cutouts`: for images alone" in said and "save_areas" not in said
    with raises("would-overwrite"):
        video.predict_video(segmenter, str(tmp_path / "clip.mp4"), config(out))
    video.predict_video(segmenter, str(tmp_path / "clip.mp4"), config(out, overwrite=True, max_frames=1))
    assert len(read_back(out / "color" / "clip.mp4")) == 1


@pytest.fixture
def file_limit():
    """A function that sets the size to which files may grow, for which the system gives the error of a full disk."""
    resource = pytest.importorskip("resource", reason="this system limits no files")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def noisy(number, size=(96, 128)):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), np.uint8) for _ in range(number)]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
@pytest.mark.parametrize("room", [0, 1000, 70_000, 120_000, -1])
def test_a_full_disk_is_an_error_and_leaves_the_earlier_file(tmp_path, file_limit, room, error):
    """At the start, within the frames, in the index at the end; also where a user interrupts."""
    path, frames = tmp_path / "clip.mp4", noisy(30)
    with video.VideoWriter(path, 10.0) as writer:
        for one in frames:
            writer.write(one)
    before = path.read_bytes()
    assert len(before) > 125_000 and len(read_back(path)) == 30
    file_limit(room if room >= 0 else len(before) - 1)
    with raises("unwritable-file", where="clip.mp4") as caught, video.VideoWriter(path, 10.0) as writer:
        for one in frames:
            writer.write(one)
        if error:
            raise error
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["clip.mp4"]
    assert caught.value.hint.startswith("check the ") and "free" in caught.value.hint


def test_a_disk_that_becomes_full_stops_a_long_video_early(tmp_path, file_limit, monkeypatch):
    monkeypatch.setattr(video, "_FRAMES_BETWEEN_LOOKS", 4)
    written = 0
    with raises("unwritable-file"), video.VideoWriter(tmp_path / "clip.mp4", 10.0) as writer:
        for one in noisy(30):
            if written == 10:
                file_limit(1000)
            writer.write(one)
            written += 1
    assert written == 12 and list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_command_and_is_not_reported_as_a_bad_video(segmenter, tmp_path, file_limit):
    with video.VideoWriter(tmp_path / "clip.mp4", 10.0) as writer:
        writer.write(frame(RED))
    (tmp_path / "out").mkdir()
    file_limit(10_000)
    with raises("unwritable-file", where="out/overlay/clip.mp4"):
        predict_files(segmenter, [], config(tmp_path / "out", save_mask=False), [str(tmp_path / "clip.mp4")] * 2)
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert left == ["summary.csv"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".clip.mp4.999999999.partial"
    left.mkdir()
    (left / "video.mp4").write_bytes(b"half")
    with video.VideoWriter(tmp_path / "clip.mp4", 10.0) as writer:
        writer.write(frame(RED))
    assert [one.name for one in tmp_path.iterdir()] == ["clip.mp4"]


def test_what_ctrl_c_ends_is_kept(segmenter, camera, tmp_path):
    camera([frame(RED)] * 3, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        video.predict_video(segmenter, "0", config(tmp_path, save_mask=False))
    assert len(read_back(tmp_path / "overlay" / "camera_0.mp4")) == 3


def test_what_an_error_ends_is_removed(segmenter, camera, tmp_path):
    camera([frame(RED)] * 3, error=OSError(5, "Input/output error"))
    with pytest.raises(OSError):
        video.predict_video(segmenter, "0", config(tmp_path, save_mask=False))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("opened", [True, False])
def test_what_is_no_video_is_refused(segmenter, camera, opened):
    camera([], opened=opened)
    with raises("unreadable-video", where="x.mp4"):
        list(segmenter.video("x.mp4"))


def test_a_real_file_that_is_no_video(segmenter, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with raises("unreadable-video", where="x.mp4"):
        list(segmenter.video(tmp_path / "x.mp4"))


@pytest.mark.parametrize(("fps", "expected"), [(30.0, 30), (0.0, 25), (float("nan"), 25), (1e9, 25)])
def test_frames_per_second(camera, fps, expected):
    camera([], fps=fps)
    assert video.Video("0").fps == expected


@pytest.mark.parametrize(("stated", "limit", "count"), [(7, None, 7), (-1, None, None), (7, 3, 3), (0, 5, 5)])
def test_stated_number_of_frames(camera, stated, limit, count):
    camera([], count=float(stated))
    assert video.Video("0", limit).count == count
