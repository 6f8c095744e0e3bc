"""Kills writers of results before each operation that changes the disk; prints what is found, one JSON line per kill.

Run as a program with `drawing` (the images of `vis`) or `report` (the files of `eval`) and a folder: every run is a
fork that ends without clean-up, over the results of an earlier one. A line holds the files that are damaged after the
kill, all files after the next run, and of `report` the evaluations that its files are of once the commit is undone.
"""

import csv
import io
import json
import pathlib
import shutil
import sys
from collections.abc import Callable
from unittest import mock

import numpy as np
from PIL import Image

from deeplab.evaluation import ConfusionMatrix, plots, report_files, report_scalars
from deeplab.evaluation.report import Report
from deeplab.utils.files import locked_folder, roll_back
from deeplab.visualization import prediction_images
from support.killed_transaction import die_at


def draw(folder: pathlib.Path, step: int) -> None:
    del step  # every run draws the same
    label = np.array([[0, 1, 1], [0, 0, 1]], np.int32)
    image = np.zeros((2, 3, 3), np.uint8)
    images = [prediction_images.PredictedImage(number, f"{number}", image, label, label) for number in range(2)]
    drawing = prediction_images.Drawing(folder, np.zeros((256, 3), np.uint8), raw_folder=folder / "raw")
    with locked_folder(folder, "drawing"):  # as the command does
        prediction_images.draw(images, ("ground", "disc"), drawing)


def report(folder: pathlib.Path, step: int) -> None:
    """Without TensorBoard's events and real plots, which need large libraries in every fork; all name the step."""
    made = Report(ConfusionMatrix(2, 255, np.eye(2, dtype=np.int64)), ("a", "b"), "x", step, "val", 1)
    png = io.BytesIO()
    Image.fromarray(np.full((2, 2), step, np.uint8)).save(png, "PNG")
    drawn = mock.Mock(return_value=png.getvalue())
    with (
        mock.patch.multiple(plots, confusion_png=drawn, iou_png=drawn),
        mock.patch.object(report_scalars, "write_scalars"),
    ):
        report_files.write_report(made, folder, page=str(step))


def steps(folder: pathlib.Path) -> list[str]:
    """The evaluations that the metrics, a plot and the page are of."""
    if not (folder / "metrics.json").exists():
        return []
    metrics = json.loads((folder / "metrics.json").read_text())
    plot = np.asarray(Image.open(folder / "class_iou.png"))
    return [str(metrics["step"]), str(plot[0, 0]), (folder / "report.html").read_text()]


def listed(folder: pathlib.Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def damaged(folder: pathlib.Path) -> list[str]:
    """The files under their names that cannot be read."""
    found = []
    for name in listed(folder):
        path = folder / name
        try:
            if path.suffix == ".png":
                np.asarray(Image.open(path))
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".csv":
                list(csv.reader(path.open()))
        except Exception as problem:
            found.append(f"{name}: {problem}")
    return found


def main(write: Callable[[pathlib.Path, int], None], folder: pathlib.Path) -> None:
    for count in range(1, 200):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        die_at(0, lambda: write(folder, 1))
        killed = die_at(count, lambda: write(folder, 2))
        found = damaged(folder)
        roll_back(folder)
        after = steps(folder)
        die_at(0, lambda: write(folder, 2))
        print(json.dumps([found, listed(folder), after]), flush=True)
        if not killed:
            break


if __name__ == "__main__":
    main({"drawing": draw, "report": report}[sys.argv[1]], pathlib.Path(sys.argv[2]))
