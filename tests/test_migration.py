"""docs/migration/: every command line of the pages runs, in the order of the work, on a few small images.

What is replaced is only what makes it large: the backbone and its initial weights, crops, steps and batches.
"""

from __future__ import annotations

import importlib
import io
import json
import pathlib
import re
import shlex
import shutil
import sys
import tarfile
import zipfile

import cv2
import numpy as np
import pytest
from support import small_datasets, tiny_backbone

from deeplab import __main__ as program
from deeplab.data import sample_dataset

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(path.stem for path in (ROOT / "docs" / "migration").glob("*.md") if path.stem != "index")
ORDER = ("convert_color_masks", "build_data", "train", "fit", "eval", "vis", "export", "predict", "serve")
_TINY = {"model_variant": "tiny"}
_TRAINING = {
    **_TINY, "tf_initial_checkpoint": "", "train_crop_size": "33,33", "train_batch_size": 2, "aspp_convs_filters": 8,
}  # fmt: skip
ALWAYS = {"train": _TRAINING, "fit": {**_TRAINING, "training_number_of_steps": 1, "formats": "frozen_graph"}}
WHERE_GIVEN = {
    **_TINY, "training_number_of_steps": 1, "training_epochs": 2, "freeze_steps": "1 epochs",
    "eval_crop_size": "33,33", "vis_crop_size": "33,33", "crop_size": 33,
}  # fmt: skip


def lines_of(page: str) -> list[list[str]]:
    """The words of the page's command lines, which are in blocks or in backquotes; without `deeplab` or `python`."""
    text = (ROOT / "docs" / "migration" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    spans = re.findall(r"`(deeplab [a-z_]+ [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    found = [shlex.split(line) for line in [*"".join(blocks).splitlines(), *spans]]
    assert all(words[0] in ("deeplab", "python") for words in found)
    named = [[pathlib.Path(words[1]).stem, *words[2:]] for words in found]
    named = [[words[0].replace("export_model", "export"), *words[1:]] for words in named]
    return sorted(named, key=lambda words: ORDER.index(words[0]))


def smaller(words: list[str]) -> list[str]:
    """The command line with what makes it large replaced."""
    name, *rest = words
    always = dict(ALWAYS.get(name, {}))
    if name == "train" and not any(word.startswith(("--training_epochs", "--training_number")) for word in rest):
        always["training_number_of_steps"] = 1
    replaced, kept = {**WHERE_GIVEN, **always}, []
    for word in (word.replace("model.ckpt-30000", "model.ckpt-1") for word in rest):
        flag = word.removeprefix("--").partition("=")[0]
        if not word.startswith("--") or flag not in replaced:
            kept.append(word)
        elif flag not in always:
            always[flag] = replaced[flag]
    return [name, *kept, *(f"--{flag}={value}" for flag, value in always.items())]


def run(words: list[str]) -> int:
    return program.command_of(words[0]).main(words[1:])


# --- Datasets under the names that the pages use ----------------------------------------------------------------


def voc_with_sbd(folder):
    for content in small_datasets.voc2012_with_sbd().archives.values():
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(folder, filter="data")
    (folder / "VOCdevkit" / "VOC2012").rename(folder / "VOC2012")


def voc_records(folder):
    voc_with_sbd(folder)
    (build,) = (words for words in lines_of("resnet_v2") if words[0] == "build_data")
    assert run(build) == 0


def portraits(folder):
    sample_dataset.write_sample_set(folder, 6)
    (folder / "color_masks").rename(folder / "masks")
    shutil.copytree(ROOT / "datasets", folder / "datasets", ignore=shutil.ignore_patterns("*.py", "*.sh"))


def discs(folder):
    """Images of one disc each, its masks in black and white, and its outline in labelme's JSON."""
    for name in ("images", "masks", "annotations"):
        (folder / name).mkdir()
    for number in range(6):
        mask = cv2.circle(np.zeros((40, 48), np.uint8), (16 + 3 * number, 20), 10, 255, -1)
        noise = np.random.default_rng(number).integers(0, 60, (40, 48, 3))
        image = (mask[..., None] * 0.6 + noise).astype(np.uint8)
        points = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0][0][:, 0].tolist()
        shape = {"label": "disc", "points": points, "shape_type": "polygon"}
        content = {"imagePath": f"{number}.png", "imageHeight": 40, "imageWidth": 48, "shapes": [shape]}
        (folder / "annotations" / f"{number}.json").write_text(json.dumps(content))
        for place in ("images", "annotations"):
            cv2.imwrite(str(folder / place / f"{number}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{number}_segmentation.png"), mask)


def clothes(folder):
    for content in small_datasets.deepfashion2().archives.values():
        zipfile.ZipFile(io.BytesIO(content)).extractall(folder / "DeepFashion2")
    shutil.copy(folder / "DeepFashion2" / "train" / "image" / "000001.jpg", folder / "x.jpg")


DATA = {
    "research_deeplab": voc_records,
    "hair_and_skin": portraits,
    "skin_lesions": discs,
    "deepfashion2": clothes,
    "resnet_v2": voc_with_sbd,
    "keras_model_set": discs,
}


def test_every_page_has_data():
    assert sorted(DATA) == PAGES and all(lines_of(page) for page in PAGES)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_line_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    serve = importlib.import_module("deeplab.serve")
    served = []
    monkeypatch.setattr(serve, "_serve", lambda app, listener, settings: served.append(app))  # not until it is stopped
    with tiny_backbone.registered():
        DATA[page](tmp_path)
        for words in map(smaller, lines_of(page)):
            words += ["--port=0"] if words[0] == "serve" else []
            monkeypatch.setattr(sys, "argv", ["deeplab", *words])
            assert run(words) == 0, shlex.join(words)
    assert len(served) == sum(words[0] == "serve" for words in lines_of(page))
