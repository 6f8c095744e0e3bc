"""Predicts many pictures into a folder: which files come out, what is said meanwhile, what happens to bad pictures."""

from __future__ import annotations

import csv
import io
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.config.prediction_config import PredictConfig
from deeplab.data.image_files import ImageFile
from deeplab.inference.segmenter import Segmentation, Segmenter, read_ahead, write_png
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.visualization.prediction_images import WriteBehind

SUMMARY = "summary.csv"
_MOST_ROWS = 20  # pictures in the table on the terminal; all are in the summary file


@dataclass(frozen=True)
class Outcome:
    """What came of many pictures.

    Attributes:
      shares: each class's part of a picture, 0..1, for every picture's name.
      faults: what was wrong with the pictures that failed.
    """

    shares: dict[str, dict[str, float]]
    faults: list[UserError]


def predict_all(segmenter: Segmenter, pictures: Sequence[ImageFile], config: PredictConfig) -> Outcome:
    """Predicts every picture; one that cannot be read is named, and the others are done all the same.

    Raises:
      UserError: results of an earlier run are there, or the folder cannot be written to.
    """
    folder = pathlib.Path(config.output_dir)
    refuse_to_overwrite(pictures, segmenter.class_names, config)
    earlier = earlier_shares(folder / SUMMARY)
    shares: dict[str, dict[str, float]] = {}
    faults: list[UserError] = []
    with WriteBehind() as writer, console.progress(total=len(pictures), what="predicting", unit="picture") as bar:
        for picture, pixels in read_ahead(pictures):
            try:
                if isinstance(pixels, UserError):
                    raise pixels
                result = segmenter(pixels, probabilities=bool(config.save_probabilities))
            except UserError as fault:
                faults.append(fault if fault.where == picture.path else _named(fault, picture))
                console.error(str(faults[-1]))
            else:
                shares[picture.name] = result.shares()
                for path, write in results_of(folder, picture.name, segmenter.class_names, config).items():
                    writer.submit(_write, path, write, result)
            bar.update()
    write_atomically(folder / SUMMARY, summary({**earlier, **shares}).encode())
    return Outcome(shares, faults)


def _named(fault: UserError, picture: ImageFile) -> UserError:
    """A fault of the model's with the picture's name before it."""
    return UserError("unclassified", str(fault), where=picture.path)


# ---- files -----------------------------------------------------------------------------------------------


Write = Callable[[pathlib.Path, Segmentation], None]


def results_of(
    folder: pathlib.Path, name: str, class_names: Sequence[str], config: PredictConfig
) -> dict[pathlib.Path, Write]:
    """The files that one picture's answer becomes, each with the function that writes it."""
    files: dict[pathlib.Path, Write] = {}
    if config.save_mask:
        files[folder / "mask" / f"{name}.png"] = lambda path, result: result.save_mask(path)
    if config.save_color:
        files[folder / "color" / f"{name}.png"] = lambda path, result: write_png(path, result.color_mask())
    if config.save_overlay:
        look = (config.overlay_opacity, config.overlay_background)
        files[folder / "overlay" / f"{name}.png"] = lambda path, result: write_png(path, result.overlay(*look))
    if config.save_probabilities == "npz":
        files[folder / "probabilities" / f"{name}.npz"] = _write_npz
    if config.save_probabilities == "png":
        for index, class_name in enumerate(class_names):
            file = folder / "probabilities" / name / f"{index:03d}_{_as_file_name(class_name)}.png"
            files[file] = _probability_png(index)
    return files


def _write(path: pathlib.Path, write: Write, result: Segmentation) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, result)


def _write_npz(path: pathlib.Path, result: Segmentation) -> None:
    """probabilities float16 [H, W, classes] and class_names."""
    buffer = io.BytesIO()
    scores = _scores(result).astype(np.float16)
    np.savez_compressed(buffer, probabilities=scores, class_names=np.array(result.class_names))
    write_atomically(path, buffer.getvalue())


def _probability_png(index: int) -> Write:
    """Writes one class's probabilities as 8-bit gray: 255 = 1.0."""

    def write(path: pathlib.Path, result: Segmentation) -> None:
        write_png(path, np.rint(_scores(result)[..., index] * 255).astype(np.uint8))

    return write


def _scores(result: Segmentation) -> np.ndarray:
    if result.probabilities is None:
        rule = "this graph has no probabilities"
        raise UserError(
            "unclassified", rule, "leave it out, or predict from the checkpoint", field="save_probabilities"
        )
    return result.probabilities


def _as_file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in text)


def refuse_to_overwrite(pictures: Sequence[ImageFile], class_names: Sequence[str], config: PredictConfig) -> None:
    """Stops when results are there already and nobody asked to replace them.

    Raises:
      UserError: with their number and the first of them.
    """
    folder = pathlib.Path(config.output_dir)
    there = [
        path for picture in pictures for path in results_of(folder, picture.name, class_names, config) if path.exists()
    ]
    if there and not config.overwrite:
        rule = f"{len(there)} results are there already, the first of them {there[0]}"
        raise UserError(
            "unclassified",
            rule,
            "`overwrite=true` replaces them; or give another `output_dir`",
            where=config.output_dir,
        )


def refuse_own_results(pictures: Sequence[ImageFile], output_dir: str) -> None:
    """Stops when the folder of results lies among the pictures, whose next run would take results for pictures.

    Raises:
      UserError: with the first picture at fault.
    """
    inside = os.path.realpath(output_dir) + os.sep
    for picture in pictures:
        if os.path.realpath(picture.path).startswith(inside):
            rule = f"{picture.path} is a picture to predict, but lies in `output_dir={output_dir}`"
            raise UserError(
                "unclassified", rule, "give an `output_dir` beside the pictures, not around them", field="input"
            )


# ---- words -----------------------------------------------------------------------------------------------


def summary(shares: dict[str, dict[str, float]]) -> str:
    """A CSV table: a line a picture, a column a class, shares from 0 to 1."""
    columns = list(dict.fromkeys(name for row in shares.values() for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["picture", *columns])
    for name, row in shares.items():
        writer.writerow([name, *(f"{row.get(column, 0.0):.6f}" for column in columns)])
    return buffer.getvalue()


def earlier_shares(path: pathlib.Path) -> dict[str, dict[str, float]]:
    """The rows of a summary that is there already, of other pictures in the same folder."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {row.pop("picture"): {n: float(v) for n, v in row.items()} for row in csv.DictReader(file)}
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, ValueError):
        raise UserError(
            "unclassified", "is no summary of this command", "move it away, or give another `output_dir`", where=path
        ) from None


def table(shares: dict[str, dict[str, float]]) -> str:
    """Each picture's classes for the terminal, the largest first; of many pictures the first ones and the mean."""
    rows = [(name, _largest(row)) for name, row in list(shares.items())[:_MOST_ROWS]]
    if len(shares) > _MOST_ROWS:
        rows.append((f"... and {len(shares) - _MOST_ROWS} more", ""))
    if len(shares) > 1:
        columns = dict.fromkeys(name for row in shares.values() for name in row)
        means = {c: sum(row.get(c, 0.0) for row in shares.values()) / len(shares) for c in columns}
        rows.append((f"mean of {len(shares)}", _largest(means)))
    return console.table(rows, ("picture", "share of each class"))


def _largest(row: dict[str, float], most: int = 6) -> str:
    present = sorted(((share, name) for name, share in row.items() if share > 0), reverse=True)
    more = f", {len(present) - most} more" if len(present) > most else ""
    return ", ".join(f"{name} {100 * share:.1f}%" for share, name in present[:most]) + more
