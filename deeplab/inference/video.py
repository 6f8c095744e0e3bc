"""Videos and cameras: frames in, videos of overlays and colors out.

OpenCV reads and writes them; it has no sound, which the command says. Frames come one after the other, so that memory
does not grow with the length.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from deeplab.config.prediction_config import PredictConfig
from deeplab.data.label_bits import as_label
from deeplab.inference.segmenter import Segmentation, Segmenter
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import free_space, partial_path, remove, remove_partial, sync, writing
from deeplab.utils.text import byte_text

_CODEC, _SUFFIX = "mp4v", ".mp4"
_USUAL_FPS = 25.0  # where a camera or file does not say
_FRAMES_BETWEEN_LOOKS, _ROOM = 100, 1 << 16  # at whether the disk takes as many bytes, more than OpenCV collects
_OF_IMAGES = ("save_probabilities", "save_cutouts", "save_areas", "save_polygons", "overlay_legend")
Draw = Callable[[Segmentation], np.ndarray]


def open_capture(source: str) -> Any:
    """OpenCV's capture of a video file, or of the camera of a number."""
    return cv2.VideoCapture(int(source) if source.isdigit() and not os.path.exists(source) else source)


class Video:
    """The frames of a video or camera: uint8 [H, W, 3], RGB, upright; iterate once.

    Args:
      source: path of a file, or number of a camera.
      max_frames: frames after which it ends; None = at its end.

    Attributes:
      fps: frames per second.
      count: number of frames as the file states it; None if unknown.

    Raises:
      UserError: it cannot be opened (`unreadable-video`).
    """

    def __init__(self, source: str, max_frames: int | None = None):
        self.source, self._max_frames = source, max_frames
        self._capture = open_capture(source)
        if not self._capture.isOpened():
            is_camera = source.isdigit()
            rule = "no such camera can be opened" if is_camera else "cannot be opened as a video"
            hint = (
                "check `ls /dev/video*`" if is_camera else "convert it to MP4 with H.264 first, for example by ffmpeg"
            )
            raise UserError("unreadable-video", rule, hint, where=source)
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 1000 else _USUAL_FPS
        stated = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        count = int(stated) if math.isfinite(stated) and 0 < stated < 2**31 else None
        self.count = min(count, max_frames) if count and max_frames else max_frames or count

    def __iter__(self) -> Iterator[np.ndarray]:
        number = 0
        try:
            while self._max_frames is None or number < self._max_frames:
                found, frame = self._capture.read()
                if not found:
                    break
                number += 1
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            self._capture.release()
        if number == 0:
            rule, hint = "holds no frame that can be decoded", "play it in a viewer; convert it to MP4 with H.264"
            raise UserError("unreadable-video", rule, hint, where=self.source)


def segment_video(
    segmenter: Segmenter, video: Video, smoothing: float = 0.0, probabilities: bool = False
) -> Iterator[Segmentation]:
    """Yield the segmentation of every frame.

    Args:
      segmenter: the model.
      video: the frames.
      smoothing: weight of the previous frames' probabilities in those of a frame, from 0 to below 1; labels flicker
        less, and lag behind fast motion.
      probabilities: whether results hold them.
    """
    previous: np.ndarray | None = None
    for frame in video:
        result = segmenter(frame, probabilities=probabilities or smoothing > 0)
        if smoothing > 0:
            scores = result.probabilities
            if scores is None:
                rule, hint = "this model file has no probabilities", "leave it out, or predict from the checkpoint"
                raise UserError("no-probabilities", rule, hint, field="temporal_smoothing")
            if previous is not None and previous.shape == scores.shape:
                scores = smoothing * previous + (1 - smoothing) * scores
            previous = scores
            kept = scores if probabilities else None
            labels = as_label(scores.argmax(-1), scores.shape[-1])
            result = Segmentation(result.image, labels, kept, result.class_names, result.colors)
        yield result


class VideoWriter:
    """Writes frames, uint8 [H, W, 3], RGB, into an MP4 file that appears when it is complete.

    OpenCV says nothing where it cannot write: it drops the frames. So there is a look at the disk now and then, and the
    file is read back before it gets its name.

    Args:
      path: of the file.
      fps: frames per second.

    Raises:
      UserError: it cannot be written (`unwritable-file`).
    """

    def __init__(self, path: pathlib.Path, fps: float):
        self.path, self._fps, self._number = path, fps, 0
        self._folder = partial_path(path)
        self._partial = self._folder / f"video{_SUFFIX}"  # OpenCV wants the extension
        self._writer: Any = None
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Add a frame; those of another size are resized to that of the first."""
        height, width = frame.shape[:2]
        if self._writer is None:
            with writing(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                remove_partial(self.path.parent)
                self._folder.mkdir(exist_ok=True)
            self._size = (width, height)
            self._writer = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*_CODEC), self._fps, self._size)
        if self._number % _FRAMES_BETWEEN_LOOKS == 0:
            self._require_room()
        if not self._writer.isOpened():
            rule, hint = "OpenCV cannot write such a video", "leave out `save_color` and `save_overlay`"
            raise UserError("unwritable-file", rule, hint, where=self.path)
        if (width, height) != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_NEAREST)
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self._number += 1

    def _require_room(self) -> None:
        """Write some bytes beside the video, since the system tells only the one that writes that the disk is full."""
        with writing(self.path):
            (self._folder / "room").write_bytes(bytes(_ROOM))
            (self._folder / "room").unlink()

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if self._writer is not None:
                self._writer.release()
                # What a user interrupts is kept: a camera ends in no other way.
                if kind is None or issubclass(kind, KeyboardInterrupt):
                    self._publish()
        finally:
            remove(self._folder)

    def _publish(self) -> None:
        """Give the file its name, if it holds all frames."""
        written = cv2.VideoCapture(str(self._partial)) if _is_whole(self._partial) else None
        found = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written and written.isOpened() else 0
        if written:
            written.release()
        if found != self._number:
            hint = f"check the free space, which is {byte_text(free_space(self.path))}, and limits on the size of files"
            rule = f"cannot be written: {self._number - found:,} of {self._number:,} frames did not reach the disk"
            raise UserError("unwritable-file", rule, hint, where=self.path, value=found)
        with writing(self.path):
            sync(self._partial)
            os.replace(self._partial, self.path)


def _is_whole(path: pathlib.Path) -> bool:
    """Whether the boxes of an MP4 file (ISO/IEC 14496-12, 4.2) end where it ends, with the index among them.

    Writers put the index at the end, and write nothing after an error.
    """
    kinds, place, size = set(), 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while place < size:
            file.seek(place)
            header = file.read(16)
            length = int.from_bytes(header[:4])
            kinds.add(header[4:8])
            place += length if length != 1 else int.from_bytes(header[8:])
            if length == 0 or len(header) < 8:
                return False
    return place == size and b"moov" in kinds


def video_files(config: PredictConfig, name: str) -> dict[str, pathlib.Path]:
    """The videos that are written for one, by kind: overlay, color."""
    kinds = {"overlay": config.save_overlay, "color": config.save_color}
    return {kind: pathlib.Path(config.output_dir) / kind / f"{name}{_SUFFIX}" for kind, on in kinds.items() if on}


def name_of(source: str) -> str:
    """The name for the results of a video file or camera."""
    return f"camera_{source}" if source.isdigit() and not os.path.exists(source) else pathlib.Path(source).stem


def require_new(config: PredictConfig, source: str) -> None:
    """Stop if results of a video exist and `overwrite` is not set.

    Raises:
      UserError: with the first of them (`would-overwrite`).
    """
    name = name_of(source)
    paths = [*video_files(config, name).values(), pathlib.Path(config.output_dir) / "mask" / name]
    existing = [path for path in paths if path.exists()]
    if existing and not config.overwrite:
        hint = "`overwrite=true` replaces them; or give another `output_dir`"
        raise UserError("would-overwrite", f"holds {existing[0]} already", hint, where=config.output_dir)


def predict_video(segmenter: Segmenter, source: str, config: PredictConfig) -> dict[str, float]:
    """Predict a video or camera: overlay/NAME.mp4, color/NAME.mp4, mask/NAME/000000.png.

    Returns:
      Each class's mean fraction of the frames, 0..1.

    Raises:
      UserError: it cannot be read, or a result cannot be written.
    """
    require_new(config, source)
    name, video = name_of(source), Video(source, config.max_frames)
    draws: dict[str, Draw] = {
        "overlay": lambda result: result.overlay(config.overlay_opacity, config.overlay_background),
        "color": lambda result: result.color_mask(),
    }
    masks = pathlib.Path(config.output_dir) / "mask" / name
    total: dict[str, float] = {}
    number = 0
    console.note(f"{source}: the videos that are written have no sound")
    left_out = [f"`{name}`" for name in _OF_IMAGES if getattr(config, name)]
    if left_out:
        console.note(f"{source}: {', '.join(left_out)}: for images alone, not for the frames of videos")
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(console.progress(total=video.count, what=f"predicting {name}", unit="frame"))
        writers = {
            kind: stack.enter_context(VideoWriter(path, video.fps)) for kind, path in video_files(config, name).items()
        }
        for result in segment_video(segmenter, video, config.temporal_smoothing):
            for kind, writer in writers.items():
                writer.write(draws[kind](result))
            if config.save_mask:
                with writing(masks):
                    masks.mkdir(parents=True, exist_ok=True)
                result.save_mask(masks / f"{number:06d}.png")
            for class_name, fraction in result.fractions().items():
                total[class_name] = total.get(class_name, 0.0) + fraction
            number += 1
            bar.update()
    return {class_name: fraction / number for class_name, fraction in total.items()}
