"""Known datasets of a few images each, packed as the real ones are, and the labels that must come of them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from deeplab.data import dataset as datasets
from support.packing import tarred, zipped

SIDE = 16  # pixels

# ---- images ----------------------------------------------------------------------------------------


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """Pixels as the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def photo(number: int, kind: str = "jpeg") -> bytes:
    """An image that is like no other."""
    return encoded(np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8), kind)


def label(*values: int) -> np.ndarray:
    """Upright stripes of equal width, uint8 [16, 16]."""
    return np.repeat(np.array([values], np.uint8), SIDE // len(values), axis=1).repeat(SIDE, axis=0)


def colored(values: np.ndarray, colors: dict[int, tuple[int, int, int]], kind: str) -> bytes:
    """A label as an image in colors."""
    pixels = np.zeros((*values.shape, 3), np.uint8)
    for value, color in colors.items():
        pixels[values == value] = color
    return encoded(pixels, kind)


def palette_png(values: np.ndarray) -> bytes:
    """A label as PASCAL VOC stores it."""
    png = Image.fromarray(values, "P")
    png.putpalette(list(range(256)) * 3)
    buffer = io.BytesIO()
    png.save(buffer, "png")
    return buffer.getvalue()


# ---- datasets in small ------------------------------------------------------------------------------


@dataclass
class Small:
    """A dataset of a few images, packed as the real one is.

    Attributes:
      script: which script converts it.
      archives: their bytes by file name.
      labels: by split, the labels that must come out, by the names of the images.
      words: further words of the command line.
      dataset: name that dataset.yml must have.
      records: folder of the records, below the dataset's.
    """

    script: str
    archives: dict[str, bytes]
    labels: dict[str, dict[str, np.ndarray]]
    words: list[str] = field(default_factory=list)
    dataset: str = ""
    records: str = "tfrecord"


def voc2012() -> Small:
    labels = {"2007_000001": label(0, 15), "2007_000002": label(3, 255), "2007_000003": label(0, 20)}
    names = {"train": ["2007_000001", "2007_000002"], "val": ["2007_000003"]}
    names["trainval"] = names["train"] + names["val"]
    root = "VOCdevkit/VOC2012/"
    files = {f"{root}JPEGImages/{name}.jpg": photo(int(name[-1])) for name in (*labels, "2007_000004", "2007_000005")}
    files |= {f"{root}SegmentationClass/{name}.png": palette_png(values) for name, values in labels.items()}
    files |= {f"{root}ImageSets/Segmentation/{split}.txt": "\n".join(of).encode() for split, of in names.items()}
    expected = {split: {name: labels[name] for name in of} for split, of in names.items()}
    return Small("voc2012", {"VOCtrainval_11-May-2012.tar": tarred(files, "w")}, expected, dataset="pascal_voc_seg")


def voc2012_with_sbd() -> Small:
    scipy_io = pytest.importorskip("scipy.io")
    small = voc2012()
    masks = {"2007_000003": label(7), "2007_000004": label(0, 7), "2007_000005": label(0, 8)}  # the first is VOC's val
    root = "benchmark_RELEASE/dataset/"
    files = {f"{root}train.txt": b"2007_000004\n", f"{root}val.txt": b"2007_000005\n2007_000003\n"}
    for name, values in masks.items():
        buffer = io.BytesIO()
        scipy_io.savemat(buffer, {"GTcls": {"Segmentation": values}})
        files[f"{root}cls/{name}.mat"] = buffer.getvalue()
    small.archives["benchmark.tgz"] = tarred(files)
    added = {name: masks[name] for name in ("2007_000004", "2007_000005")}
    small.labels["train_aug"] = {**small.labels["train"], **added}
    small.words = ["--sbd"]
    return small


def ade20k() -> Small:
    labels = {
        "training": {"ADE_train_00000001": label(0, 1), "ADE_train_00000002": label(150, 2)},
        "validation": {"ADE_val_00000001": label(0, 4)},
    }
    files = {"ADEChallengeData2016/objectInfo150.txt": b"text"}
    for part, members in labels.items():
        for number, (name, values) in enumerate(members.items()):
            files[f"ADEChallengeData2016/images/{part}/{name}.jpg"] = photo(number)
            files[f"ADEChallengeData2016/annotations/{part}/{name}.png"] = encoded(values, "png")
    archives = {"ADEChallengeData2016.zip": zipped(files)}
    return Small("ade20k", archives, {"train": labels["training"], "val": labels["validation"]}, dataset="ade20k")


def cityscapes() -> Small:
    frames = {
        "train/aachen": "aachen_000000_000019",
        "val/frankfurt": "frankfurt_000000_000294",
        "test/bonn": "bonn_0_0",
    }
    images = {f"leftImg8bit/{place}/{name}_leftImg8bit.png": photo(0, "png") for place, name in frames.items()}
    ids = encoded(label(7, 26), "png")  # road, car
    masks = {f"gtFine/{place}/{name}_gtFine_labelIds.png": ids for place, name in frames.items()}
    archives = {
        "gtFine_trainvaltest.zip": zipped({**masks, "README": b"1", "license.txt": b"text"}),
        "leftImg8bit_trainvaltest.zip": zipped({**images, "README": b"2", "license.txt": b"text"}),
    }
    expected = {
        "train_fine": {frames["train/aachen"]: label(0, 13)},
        "val_fine": {frames["val/frankfurt"]: label(0, 13)},
    }
    return Small("cityscapes", archives, expected, dataset="cityscapes")


def coco() -> Small:
    names = {"train": ["000000000009", "000000000025"], "val": ["000000000139"]}
    categories = datasets.load_known("coco").class_names[1:]
    published_ids = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]

    def annotations(split: str) -> bytes:
        images = [{"id": int(name), "file_name": f"{name}.jpg", "height": SIDE, "width": SIDE} for name in names[split]]
        objects = [  # the right half of every image: the last category
            {
                "id": int(name),
                "image_id": int(name),
                "category_id": 90,
                "iscrowd": 0,
                "area": 128.0,
                "bbox": [8, 0, 8, 16],
                "segmentation": [[8, 0, 16, 0, 16, 16, 8, 16]],
            }
            for name in names[split]
        ]
        kinds = [{"id": number, "name": name} for number, name in zip(published_ids, categories, strict=True)]
        return json.dumps({"images": images, "annotations": objects, "categories": kinds}).encode()

    archives = {
        f"{split}2017.zip": zipped({f"{split}2017/{name}.jpg": photo(int(name)) for name in of})
        for split, of in names.items()
    }
    files = {f"annotations/instances_{split}2017.json": annotations(split) for split in names}
    archives["annotations_trainval2017.zip"] = zipped({**files, "annotations/captions_val2017.json": b"{}"})
    expected = {split: {name: label(0, 80) for name in of} for split, of in names.items()}
    return Small("coco", archives, expected, dataset="coco")


def camvid() -> Small:
    colors = {0: (128, 128, 128), 10: (0, 128, 192), 255: (0, 0, 0)}  # sky, bicyclist, void
    frames = {"train": "0001TP_006690", "val": "0016E5_07959", "test": "Seq05VD_f00000"}
    values = label(0, 10, 255, 0)
    archives = {
        "701_StillsRaw_full.zip": zipped(
            {f"701_StillsRaw_full/{name}.png": photo(0, "png") for name in frames.values()}
        ),
        "LabeledApproved_full.zip": zipped(
            {f"{name}_L.png": colored(values, colors, "png") for name in frames.values()}
        ),
    }
    return Small("camvid", archives, {split: {name: values} for split, name in frames.items()}, dataset="camvid")


def lfw_parts() -> Small:
    people = {"train": ("Ann_Lee", 12), "val": ("Bo", 1), "test": ("Cy_van_Ek", 2)}
    colors = {0: (0, 0, 255), 1: (255, 0, 0), 2: (0, 255, 0)}
    labels = {"train": label(0, 1, 2, 0), "val": label(1, 2, 0, 0), "test": label(0, 2, 1, 0)}
    names = {split: f"{person}_{number:04}" for split, (person, number) in people.items()}
    masks = {
        f"parts_lfw_funneled_gt_images/{name}.ppm": colored(labels[split], colors, "ppm")
        for split, name in names.items()
    }
    images = {
        f"lfw_funneled/{person}/{person}_{number:04}.jpg": photo(number) for person, number in people.values()
    } | {"lfw_funneled/Di/Di_0001.jpg": photo(0)}
    archives = {"parts_lfw_funneled_gt_images.tgz": tarred(masks), "lfw-funneled.tgz": tarred(images)}
    for file, split in (("train", "train"), ("validation", "val"), ("test", "test")):
        person, number = people[split]
        archives[f"parts_{file}.txt"] = f"{person} {number}\n".encode()
    expected = {split: {name: labels[split]} for split, name in names.items()}
    return Small("lfw_parts", archives, expected, dataset="lfw_parts")


def celeba_hair_skin() -> Small:
    grays = label(0, 128, 255, 0)
    grays[0, 0] = 120  # a bad pixel: skin is nearest
    values = label(0, 2, 1, 0)
    values[0, 0] = 2
    names = ["000003", "000007"]
    masks = {f"masks/{name}.bmp": encoded(grays, "bmp") for name in names}
    images = {f"img_align_celeba/00000{number}.jpg": photo(number) for number in range(1, 9)}
    archives = {"celeba_hair_masks.zip": zipped(masks), "img_align_celeba.zip": zipped(images)}
    return Small("celeba_hair_skin", archives, {"": dict.fromkeys(names, values)}, dataset="celeba_hair_skin")


def isic2018(parts: dict[str, str], task: int = 1) -> Small:
    masks = {"segmentation": label(0, 255)} if task == 1 else {}
    for number, name in enumerate(datasets.load_known("isic2018_task2").class_names[1:] if task == 2 else ()):
        masks[f"attribute_{name}"] = label(*(255 * (place == number) for place in range(8)))
    values = label(0, 1) if task == 1 else label(1, 2, 3, 4, 5, 0, 0, 0)
    archives, expected = {}, {}
    for number, (part, split) in enumerate(parts.items()):
        names = [f"ISIC_000000{number}", f"ISIC_001000{number}"]
        of = f"ISIC2018_Task{task}_{part}_GroundTruth" + ("_v3" if (task, part) == (2, "Training") else "")
        images = {f"ISIC2018_Task1-2_{part}_Input/{name}.jpg": photo(int(name[-5:])) for name in names}
        archives[f"ISIC2018_Task1-2_{part}_Input.zip"] = zipped({**images, "ISIC2018/LICENSE.txt": b"text"})
        archives[f"{of}.zip"] = zipped(
            {f"{of}/{name}_{kind}.png": encoded(mask, "png") for name in names for kind, mask in masks.items()}
        )
        expected[split] = dict.fromkeys(names, values)
    if task == 1:
        return Small("isic2018", archives, expected, dataset="isic2018_task1")
    return Small("isic2018", archives, expected, ["--task=2"], "isic2018_task2", "tfrecord_task2")


def deepfashion2() -> Small:
    item = {"category_name": "sling dress", "category_id": 13, "segmentation": [[8, 0, 16, 0, 16, 16, 8, 16]]}
    content = json.dumps({"source": "user", "pair_id": 1, "item1": item}).encode()
    archives = {
        f"{part}.zip": zipped({f"{part}/image/000001.jpg": photo(len(part)), f"{part}/annos/000001.json": content})
        for part in ("train", "validation")
    }
    expected = {split: {"000001": label(0, 13)} for split in ("train", "val")}
    return Small("deepfashion2", archives, expected, dataset="deepfashion2")


PARTS = {"Training": "train", "Validation": "val", "Test": "test"}
SMALL = {
    "voc2012": voc2012,
    "ade20k": ade20k,
    "cityscapes": cityscapes,
    "coco": coco,
    "camvid": camvid,
    "lfw_parts": lfw_parts,
    "celeba_hair_skin": celeba_hair_skin,
    "isic2018_task1": lambda: isic2018(PARTS),
    "isic2018_task1_training_only": lambda: isic2018({"Training": ""}),
    "isic2018_task2": lambda: isic2018(PARTS, task=2),
    "deepfashion2": deepfashion2,
}
