"""The command build_data: what it refuses before TensorFlow, which costs seconds, is imported."""

import json
import resource
import subprocess
import sys

import pytest
from PIL import Image

from deeplab import build_data
from deeplab.data.readers import FORMATS

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


HEAVY = ("tensorflow", "keras", "matplotlib", "rasterio", "apache_beam")
EVERY_FORMAT = """
import json, sys
from deeplab.build_data import COMMAND
heavy = {heavy!r}
for name, words in json.load(sys.stdin):
    print("FORMAT", name, file=sys.stderr, flush=True)
    sys.argv = ["build_data", name, *words]
    code = COMMAND.main()
    print(name, code, *(module for module in heavy if module in sys.modules))
"""


def test_errors_of_every_format_come_before_anything_heavy_is_imported(tmp_path):
    """One file of each format is damaged; where annotations are no files, one is missing."""
    from tests.deeplab.data.readers.test_reader_battery import CASES, VARIANTS

    commands = []
    for case in (*CASES, *VARIANTS):
        root = tmp_path / case.name
        root.mkdir()
        settings = case.write(root)
        spoilt = [root / name for name in case.annotations] or [path for path in root.rglob("*") if path.is_file()][:1]
        for path in spoilt:
            path.write_bytes(b"\x00{ no such thing [")
        words = [f"--{name}={value}" for name, value in settings.items()]
        commands.append((case.format, [*words, f"--output_dir={tmp_path}/out"]))
    code = EVERY_FORMAT.format(heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(commands), capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines() if line.split()[0] in FORMATS.names()]
    assert [name for name, *_ in lines] == [name for name, _ in commands]
    assert all(len(line) == 2 and line[1] in ("1", "2") for line in lines), lines
    parts = done.stderr.split("FORMAT ")[1:]
    assert all("error: " in part and "Traceback" not in part for part in parts), done.stderr


@pytest.mark.parametrize(
    ("name", "code"),
    [("coco", "invalid-json"), ("cvat", "invalid-xml"), ("yolo", "wrong-type"), ("voc", "files-missing")],
)
def test_an_error_about_data_takes_little_time(tmp_path, name, code):
    """1.5 seconds of processor time at most, start of the interpreter included: the best of three."""
    from tests.deeplab.data.readers.test_reader_battery import CASES

    case = next(case for case in CASES if case.format == name)
    words = [f"--{key}={value}" for key, value in case.write(tmp_path).items()]
    (tmp_path / case.annotations[-1]).write_text("{ typo")
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "deeplab", "build-data", name, *words, f"--output_dir={tmp_path}/out"],
            capture_output=True,
            text=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        assert done.returncode == 1 and f"[{code}]" in done.stderr, done.stderr
    assert min(times) < 1.5


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
