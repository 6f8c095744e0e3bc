"""Predicts many image files into a folder: the files per image, the summary, bad images and full disks."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from deeplab.config.fields import split_words
from deeplab.config.prediction_config import PredictConfig
from deeplab.data.class_names import class_numbers
from deeplab.data.image_files import ImageFile
from deeplab.inference import annotation_writers, inputs, video
from deeplab.inference.annotation_writers import AnnotatedImage
from deeplab.inference.segmenter import Segmentation, Segmenter, read_ahead, write_png
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import MAX_PARTIAL, partial_path, remove, remove_partial, write_atomically, writing
from deeplab.utils.parallel import WriteBehind
from deeplab.utils.remote_names import is_remote
from deeplab.utils.text import harmless, percent
from deeplab.visualization.image_grid import LegendKey, plain_swatch, with_legend

SUMMARY, AREAS = "summary.csv", "areas.csv"
_MAX_ROWS = 20  # images in the table on the terminal; all are in the summary file
_MAX_NAME = 255  # bytes of a file name, on all common file systems
_NAME_COLUMN, _OLD_NAME_COLUMN = "image", "picture"  # the second: written before version 0.2

Fractions = dict[str, dict[str, float]]  # image name -> class name -> fraction of the image, 0..1
Job = tuple[str, Future[dict[str, float]]]  # image name, and its fractions once its files are written


@dataclass(frozen=True)
class Outcome:
    """The result for many images.

    Attributes:
      fractions: each class's fraction of the image, 0..1, by image name.
      errors: of the images that failed.
    """

    fractions: Fractions
    errors: list[UserError]


def predict_files(
    segmenter: Segmenter,
    files: Sequence[ImageFile],
    config: PredictConfig,
    videos: Sequence[str] = (),
    published: str = "",
) -> Outcome:
    """Predict every image, then every video; one that cannot be read is reported, and the others are still predicted.

    The summary lists what was finished, even if the disk is full or the user interrupts.

    Args:
      segmenter: the model.
      files: the images.
      config: what is written where.
      videos: files and cameras.
      published: of a worker of a pipeline: path or remote name of the folder into which the files are moved. Such a
        worker shows neither progress nor errors.

    Raises:
      UserError: there are results of an earlier run, or a result cannot be written.
    """
    folder = pathlib.Path(config.output_dir)
    outputs = Outputs(config, segmenter.class_names, segmenter.colors, published)
    windowed = _in_windows(segmenter, files)
    outputs.geotiffs = {file.name for file in windowed}
    refuse_to_overwrite(files, outputs)
    earlier = earlier_fractions(folder / SUMMARY)
    _remove_unfinished(files, outputs)
    jobs: list[Job] = []
    errors: list[UserError] = []

    def record(file: ImageFile, written: Future[dict[str, float]] | UserError) -> None:
        if not isinstance(written, UserError):
            jobs.append((file.name, written))
            return
        errors.append(written)
        if not published:
            console.error(written)

    size = len(files) * (len(segmenter.class_names) + 10) * 10
    with _summary_at_the_end(folder / SUMMARY, earlier, jobs, size), outputs, WriteBehind() as writer:
        images = read_ahead(files, functools.partial(inputs.read, bands=segmenter.bands), windowed)
        with _progress(0 if published else len(files)) as bar:
            for file, written in _predict_images(segmenter, images, outputs, writer):
                record(file, written)
                bar.update()
        for file, written in _predict_videos(segmenter, videos, config):
            record(file, written)
    return Outcome(_finished(jobs), errors)


def _progress(images: int) -> Any:
    """A progress bar over images; one that shows nothing for none."""
    if not images:
        return contextlib.nullcontext(SimpleNamespace(update=lambda: None))
    return console.progress(total=images, what="predicting", unit="image")


def _predict_images(
    segmenter: Segmenter,
    images: Iterable[tuple[ImageFile, np.ndarray | UserError | None]],
    outputs: Outputs,
    writer: WriteBehind,
) -> Iterator[tuple[ImageFile, Future[dict[str, float]] | UserError]]:
    """Predict images as they are read, and write their files in the background.

    Args:
      segmenter: the model.
      images: each with its pixels; None where it is predicted in windows; an error where it cannot be read.
      outputs: the files to write.
      writer: writes them.

    Yields:
      Each image, and the fractions of its classes once its files are written; or the error about it.
    """
    for number, (file, pixels) in enumerate(images):
        try:
            if isinstance(pixels, UserError):
                raise pixels
            if pixels is None:
                yield file, _done(outputs.write_in_windows(number, file, segmenter))
                continue
            result = segmenter(pixels, probabilities=outputs.need_probabilities)
        except UserError as error:
            if error.code == "used-after-fork":
                raise
            yield file, _about(file, error)
        else:  # not within `try`, since the writer raises errors of earlier images
            yield file, writer.submit(outputs.write, number, file, result, size=result.nbytes)


def _predict_videos(
    segmenter: Segmenter, videos: Sequence[str], config: PredictConfig
) -> Iterator[tuple[ImageFile, Future[dict[str, float]] | UserError]]:
    """Predict videos one after the other; yields what `_predict_images` does."""
    for source in videos:
        file = ImageFile(source, video.name_of(source))
        try:
            fractions = video.predict_video(segmenter, source, config)
        except UserError as error:
            if error.code in ("unwritable-file", "used-after-fork"):  # says nothing about this video
                raise
            yield file, _about(file, error)
        else:
            yield file, _done(fractions)


def _in_windows(segmenter: Segmenter, files: Sequence[ImageFile]) -> set[ImageFile]:
    """The image files that are predicted window by window; damaged ones show when they are read."""
    found = set()
    for file in files:
        with contextlib.suppress(UserError):
            if type(file) is ImageFile and segmenter.reads_in_windows(file.path):
                found.add(file)
    return found


def _done(fractions: dict[str, float]) -> Future[dict[str, float]]:
    future: Future[dict[str, float]] = Future()
    future.set_result(fractions)
    return future


def _about(file: ImageFile, error: UserError) -> UserError:
    """The error with the image's name, if it does not have it."""
    if error.where == file.path:
        return error
    return UserError(error.code, error.rule, error.hint, field=error.field, where=file.path, value=error.value)


@contextlib.contextmanager
def _summary_at_the_end(path: pathlib.Path, earlier: Fractions, jobs: list, size: int) -> Iterator[None]:
    """Write the summary after the block, however it ends; its room on the disk is reserved before."""
    reserve = partial_path(path.with_name(f"{path.name}.reserve"))
    try:
        with writing(path, size):
            reserve.write_bytes(bytes(size))
    except BaseException:
        remove(reserve)
        raise
    try:
        yield
    finally:
        remove(reserve)
        done = _finished(jobs)
        if done or not path.exists():
            write_atomically(path, summary({**earlier, **done}))


def _finished(jobs: Sequence[Job]) -> Fractions:
    def is_written(future: Future) -> bool:
        return future.done() and not future.cancelled() and future.exception() is None

    return {name: future.result() for name, future in jobs if is_written(future)}


# ---- files -----------------------------------------------------------------------------------------------


def no_colors() -> np.ndarray:
    """A table of colors for what does not depend on them, uint8 [256, 3]."""
    return np.zeros((256, 3), np.uint8)


Write = Callable[[pathlib.Path, Segmentation], None]


class Outputs:
    """The files of a run: those of each image, and those of all images together, written at the end of the block.

    Args:
      config: what is written.
      class_names: one per class; empty before the model is loaded.
      colors: RGB of each class, uint8 [256, 3].
      published: the folder in which the files will be found, if another one.

    Attributes:
      need_probabilities: whether results must have them.
      geotiffs: names of the images whose masks are GeoTIFFs, written window by window.

    Raises:
      UserError: an unknown annotation format or class (`unknown-name`).
    """

    def __init__(
        self,
        config: PredictConfig,
        class_names: Sequence[str] = (),
        colors: np.ndarray | None = None,
        published: str = "",
    ):
        self.config, self.folder, self.class_names = config, pathlib.Path(config.output_dir), class_names
        makers = [annotation_writers.FORMATS.get(name) for name in split_words(config.save_polygons)]
        table = no_colors() if colors is None else colors
        self._annotations = [make(self.folder, class_names, table) for make in makers]
        for writer in self._annotations:
            writer.published = published or config.output_dir
        self.need_probabilities = bool(config.save_probabilities or config.save_cutouts)
        self._kept = class_numbers(config.cutout_classes, class_names, "cutout_classes") if class_names else []
        self._areas: dict[int, tuple[str, dict[str, int]]] = {}
        self.geotiffs: set[str] = set()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._annotations:
            writer.finish()
        if self.config.save_areas:
            rows = dict(self._areas[number] for number in sorted(self._areas))
            write_atomically(self.folder / AREAS, summary(rows, "d").encode())

    def common_files(self) -> list[pathlib.Path]:
        """The files of all images together, the summary excepted, which grows from run to run."""
        paths = [path for writer in self._annotations for path in writer.common_paths()]
        return paths + ([self.folder / AREAS] if self.config.save_areas else [])

    def files(self, name: str) -> list[pathlib.Path]:
        """The files of one image."""
        paths = [path for writer in self._annotations for path in writer.paths(name)]
        return [*self._images(name), *paths]

    def write(self, number: int, file: ImageFile, result: Segmentation) -> dict[str, float]:
        """Write the files of one image.

        Args:
          number: its place in the run.
          file: the image.
          result: its prediction.

        Returns:
          Each class's fraction of the image.
        """
        for path, write in self._images(file.name).items():
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            write(path, result)
        self._areas[number] = file.name, result.areas()
        if self._annotations:
            found = result.regions(self.config.polygon_tolerance)
            height, width = result.labels.shape
            image = AnnotatedImage(number, file.name, file.path, height, width, found)
            for writer in self._annotations:
                writer.add(image)
        return result.fractions()

    def write_in_windows(self, number: int, file: ImageFile, segmenter: Segmenter) -> dict[str, float]:
        """Predict a georeferenced or large TIFF into mask/NAME.tif, and reduced images of it.

        Returns:
          Each class's fraction of the pixels that have a value.

        Raises:
          UserError: it cannot be read, a file cannot be written, or a file is wanted that needs the whole image.
        """
        for name in ("save_probabilities", "save_cutouts", "save_polygons"):
            if getattr(self.config, name):
                rule, hint = "is not available for TIFF files that are predicted in windows", "leave it out for these"
                raise UserError("conflicting-settings", rule, hint, field=name, where=file.path)
        images = self._images(file.name)
        for path in images:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        mask = self.folder / "mask" / f"{file.name}.tif"
        with contextlib.ExitStack() as stack:
            if images.pop(mask, None) is None:  # only the other files are wanted
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".windows", dir=self.folder))
                mask = pathlib.Path(folder, "mask.tif")
            bar = stack.enter_context(console.progress(total=1, what=file.name, unit="tile"))

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            found = segmenter.to_geotiff(file.path, mask, show)
        result = Segmentation(found.image, found.labels, None, segmenter.class_names, segmenter.colors)
        for path, write in images.items():
            write(path, result)
        further = (f"class_{index}" for index in range(len(self.class_names), len(found.counts)))
        areas = dict(zip([*self.class_names, *further], found.counts.tolist(), strict=True))
        self._areas[number] = file.name, areas
        whole = max(1, sum(areas.values()))
        return {name: pixels / whole for name, pixels in areas.items()}

    def _overlay(self, result: Segmentation) -> np.ndarray:
        """The overlay of an image, uint8 [H, W, 3], with the legend of its classes below if that is wanted."""
        config = self.config
        drawn = result.overlay(config.overlay_opacity, config.overlay_background)
        if not config.overlay_legend:
            return drawn
        first = 0 if config.overlay_background else 1
        present = [index for index in np.unique(result.labels).tolist() if first <= index < len(self.class_names)]
        keys = [LegendKey(harmless(self.class_names[index]), plain_swatch(result.colors[index])) for index in present]
        return with_legend(drawn, keys)

    def _images(self, name: str) -> dict[pathlib.Path, Write]:
        """The images and arrays of one image, each with the function that writes it."""
        files: dict[pathlib.Path, Write] = {}
        config, folder = self.config, self.folder
        if config.save_mask:
            suffix = "tif" if name in self.geotiffs else "png"
            files[folder / "mask" / f"{name}.{suffix}"] = lambda path, result: result.save_mask(path)
        if config.save_color:
            files[folder / "color" / f"{name}.png"] = lambda path, result: write_png(path, result.color_mask())
        if config.save_overlay:
            files[folder / "overlay" / f"{name}.png"] = lambda path, result: write_png(path, self._overlay(result))
        if config.save_cutouts:
            kept = self._kept or None
            files[folder / "cutout" / f"{name}.png"] = lambda path, result: write_png(path, result.cutout(kept))
        if config.save_probabilities == "npz":
            files[folder / "probabilities" / f"{name}.npz"] = _write_npz
        if config.save_probabilities == "png":
            for index, class_name in enumerate(self.class_names):
                file = folder / "probabilities" / name / f"{index:03d}_{_as_file_name(class_name)}.png"
                files[file] = _probability_png(index)
        return files


def _write_npz(path: pathlib.Path, result: Segmentation) -> None:
    """probabilities float16 [H, W, classes] and class_names."""
    buffer = io.BytesIO()
    scores = _scores(result).astype(np.float16)
    np.savez_compressed(buffer, probabilities=scores, class_names=np.array(result.class_names))
    write_atomically(path, buffer.getvalue())


def _probability_png(index: int) -> Write:
    """Write one class's probabilities as 8-bit gray: 255 = 1.0."""

    def write(path: pathlib.Path, result: Segmentation) -> None:
        write_png(path, np.rint(_scores(result)[..., index] * 255).astype(np.uint8))

    return write


def _scores(result: Segmentation) -> np.ndarray:
    if result.probabilities is None:
        hint = "leave it out, or predict from the checkpoint"
        raise UserError("no-probabilities", "this model file has no probabilities", hint, field="save_probabilities")
    return result.probabilities


def _as_file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in text)


def refuse_to_overwrite(
    files: Sequence[ImageFile], outputs: Outputs, exists: Callable[[pathlib.Path], bool] = pathlib.Path.exists
) -> None:
    """Stop if there are results already and `overwrite` is not set, or if a result's name would be too long.

    Args:
      files: the images.
      outputs: what is written of them.
      exists: whether there is a file.

    Raises:
      UserError: with their number and the first of them.
    """
    config = outputs.config
    paths = [*(path for file in files for path in outputs.files(file.name)), *outputs.common_files()]
    too_long = next((path for path in paths if len(os.fsencode(path.name)) > _MAX_NAME - MAX_PARTIAL), None)
    if too_long is not None:
        rule, hint = "this name of a result would be too long", "rename the image"
        raise UserError("name-too-long", rule, hint, where=too_long, value=len(os.fsencode(too_long.name)))
    existing = [path for path in paths if exists(path)]
    if existing and not config.overwrite:
        rule = f"holds {len(existing)} results already, the first is {existing[0]}"
        hint = "`overwrite=true` replaces them; or give another `output_dir`"
        raise UserError("would-overwrite", rule, hint, where=config.output_dir, value=len(existing))


def _remove_unfinished(files: Sequence[ImageFile], outputs: Outputs) -> None:
    """Removes temporary files that a killed run left where this one writes."""
    folders = {path.parent for file in files for path in outputs.files(file.name)}
    for place in {outputs.folder, *folders, *(path.parent for path in outputs.common_files())}:
        if place.is_dir():
            remove_partial(place)


def refuse_own_results(files: Sequence[ImageFile], output_dir: str) -> None:
    """Stop if the output folder holds images to predict: the next run would take results for images.

    Raises:
      UserError: with the first such image.
    """
    inside = os.path.realpath(output_dir) + os.sep
    for file in files:
        if isinstance(file, (inputs.RemoteImage, inputs.PipedImage)) or is_remote(file.path):
            continue
        if os.path.realpath(file.path).startswith(inside):
            rule = f"{file.path} is an image to predict, but is in `output_dir={output_dir}`"
            hint = "give an `output_dir` beside the images, not around them"
            raise UserError("output-among-input", rule, hint, field="input", value=file.path)


# ---- summary ---------------------------------------------------------------------------------------------


def summary(fractions: Mapping[str, Mapping[str, float]], form: str = ".6f") -> str:
    """Format a CSV table: one line per image, one column per class.

    Args:
      fractions: fractions from 0 to 1, or areas in pixels, by image and class.
      form: format of a number.
    """
    columns = list(dict.fromkeys(name for row in fractions.values() for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_NAME_COLUMN, *map(harmless, columns)])
    for name, row in fractions.items():
        writer.writerow([harmless(name), *(format(row.get(column, 0), form) for column in columns)])
    return buffer.getvalue()


def earlier_fractions(path: pathlib.Path) -> Fractions:
    """Read the rows of an existing summary, of other images in the same folder."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        column = _OLD_NAME_COLUMN if rows and _OLD_NAME_COLUMN in rows[0] else _NAME_COLUMN
        return {row.pop(column): {name: float(value) for name, value in row.items()} for row in rows}
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, ValueError, OSError):
        rule, hint = "is not a summary of this command", "move it away, or give another `output_dir`"
        raise UserError("would-overwrite", rule, hint, where=path) from None


def table(fractions: Fractions) -> str:
    """Format each image's classes for the terminal, the largest first; of many images the first ones and the mean."""
    rows = [(harmless(name), _largest(row)) for name, row in list(fractions.items())[:_MAX_ROWS]]
    if len(fractions) > _MAX_ROWS:
        rows.append((f"... and {len(fractions) - _MAX_ROWS} more", ""))
    if len(fractions) > 1:
        columns = dict.fromkeys(name for row in fractions.values() for name in row)
        means = {c: sum(row.get(c, 0.0) for row in fractions.values()) / len(fractions) for c in columns}
        rows.append((f"mean of {len(fractions)}", _largest(means)))
    return console.table(rows, ("image", "fraction of each class"))


def _largest(row: dict[str, float], limit: int = 6) -> str:
    present = sorted(((fraction, name) for name, fraction in row.items() if fraction > 0), reverse=True)
    more = f", {len(present) - limit} more" if len(present) > limit else ""
    return ", ".join(f"{name} {percent(fraction, 1)}" for fraction, name in present[:limit]) + more
