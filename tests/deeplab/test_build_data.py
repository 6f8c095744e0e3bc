"""The command build_data: what it refuses before TensorFlow, which costs seconds, is imported."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from deeplab import build_data

SCRIPT = """
import importlib, pkgutil, sys
import deeplab.check_data, deeplab.data.conversion, deeplab.data.readers, deeplab.data.validation
from deeplab.build_data import COMMAND
for words in {commands!r}:
    sys.argv = ["build_data", *words]
    print("CODE", COMMAND.main(), flush=True)
for room in (deeplab.data.readers, deeplab.data.conversion, deeplab.data.validation):
    for module in pkgutil.iter_modules(room.__path__):
        importlib.import_module(f"{{room.__name__}}.{{module.name}}")
print("TENSORFLOW", "tensorflow" in sys.modules)
"""


def test_errors_about_data_come_before_tensorflow_is_imported(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for index in range(3):
        Image.new("RGB", (40, 40)).save(images / f"{index}.jpg")
        Image.new("L", (40, 40), 9).save(masks / f"{index}.png")
    (tmp_path / "typo.json").write_text('{"images": [}')
    (tmp_path / "gone.json").write_text(json.dumps({"a.jpg0": {"filename": "a.jpg", "size": 0, "regions": []}}))
    folders = [f"--image_folder={images}", f"--mask_folder={masks}"]
    commands = [
        ["coco", f"--annotations={tmp_path}/typo.json", f"--image_folder={images}"],
        ["via", f"--annotations={tmp_path}/gone.json", f"--image_folder={images}"],
        ["folder", *folders, "--class_names=nobody.txt"],
        ["folder", *folders, "--num_classes=2"],  # every mask has the value 9
    ]
    commands = [[*words, f"--output_dir={tmp_path}/out"] for words in commands]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(commands=commands)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("CODE") == 4 and "CODE 0" not in done.stdout
    codes = ["invalid-json", "image-not-found", "file-not-found", "label-out-of-range"]
    assert [code for code in codes if f"[{code}]" in done.stderr] == codes, done.stderr
    assert "TENSORFLOW False" in done.stdout


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        (["train", "val"], None),
        (["train", "trainval", "val"], None),
        (["train", "test"], "eval_split=test"),
        (["train_fine", "val_fine"], "train_split=train_fine; eval_split=val_fine"),
        (["all"], "train_split=all; eval_split=all, as there is no other split"),
    ],
)
def test_a_build_tells_the_splits_that_train_and_eval_need(splits, said, capsys):
    build_data._tell_splits(splits)
    err = capsys.readouterr().err.replace("`", "").replace("--", "")  # whichever way settings are spelled
    assert (said in err) if said else not err
