"""Kills predictions of a folder before each operation that changes the disk; prints what is found afterwards.

Run as a program with a folder that has `album/`: every prediction is a fork of it that ends without clean-up. Each line
is a JSON list: the images with a whole mask, those that the summary lists, and the unfinished files after the next run.
"""

import csv
import json
import pathlib
import shutil
import sys

import numpy as np
from PIL import Image

from deeplab import Segmenter
from deeplab.config.prediction_config import PredictConfig
from deeplab.data.image_files import find_images
from deeplab.inference.folder_prediction import predict_files
from support.killed_transaction import die_at
from support.threshold_predictor import ByRed


def predict(root: pathlib.Path) -> None:
    config = PredictConfig(input=("album",), output_dir=str(root / "out"), overwrite=True)
    predict_files(Segmenter(ByRed()), find_images([str(root / "album")]), config)


def listed(folder: pathlib.Path) -> list[str]:
    path = folder / "summary.csv"
    return [row["image"] for row in csv.DictReader(path.open())] if path.exists() else []


def whole(folder: pathlib.Path) -> list[str]:
    """The images with a mask; one that cannot be decoded ends the program."""
    return sorted(path.stem for path in folder.glob("mask/[!.]*") if np.array(Image.open(path)).any())


def main(root: pathlib.Path) -> None:
    out = root / "out"
    for count in range(1, 200):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        killed = die_at(count, lambda: predict(root))
        found = [whole(out), listed(out)]
        die_at(0, lambda: predict(root))
        unfinished = sorted(path.name for path in out.rglob("*.partial"))
        print(json.dumps([*found, whole(out), listed(out), unfinished]), flush=True)
        if not killed:
            break


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
