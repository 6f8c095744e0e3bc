"""Kills builds that replace records, before each operation that changes the disk; prints what readers find afterwards.

Run as a program with a folder that has `images/` and `masks/`: every build is a fork of it that ends without clean-up.
Each line is the JSON text of what the first reader after one kill finds: images by split, as counted in dataset.yml and
as stored in the shards.
"""

import json
import pathlib
import shutil
import sys

from deeplab.config.conversion_config import LabelConfig, RecordConfig
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.conversion import local
from deeplab.data.readers.source import Pair, Source
from support.killed_transaction import die_at

FIRST = {"train": ["a", "b"], "val": ["c"]}
SECOND = {"train": ["d"], "val": ["a", "c"]}


def build(root: pathlib.Path, splits: dict[str, list[str]], shards: int, **settings) -> None:
    pairs = {
        split: [Pair(name, f"{root}/images/{name}.png", f"{root}/masks/{name}.png") for name in names]
        for split, names in splits.items()
    }
    config = RecordConfig(num_shards=shards, num_workers=1, **settings)
    local.build(Source(pairs), root / "out", LabelConfig(num_classes=2), config)


def found(folder: pathlib.Path, first: str) -> dict[str, list]:
    """Images of each split by the shards and by dataset.yml, whichever a command reads first."""

    def described():
        return dict(datasets.load(folder / "dataset.yml").splits)

    def stored():
        return {
            split: [record[records.FILENAME].decode() for path in paths for record in records.read_shard(path)]
            for split, paths in ((split, records.list_shards(folder, split)) for split in FIRST)
        }

    steps = {"described": described, "stored": stored}
    values = {name: steps[name]() for name in sorted(steps, key=lambda name: name != first)}
    return {split: [values["described"][split], values["stored"][split]] for split in FIRST}


def main(root: pathlib.Path) -> None:
    for count in range(1, 200):
        shutil.rmtree(root / "out", ignore_errors=True)
        build(root, FIRST, shards=2)
        killed = die_at(count, lambda: build(root, SECOND, shards=1, overwrite=True))
        print(json.dumps(found(root / "out", ("described", "stored")[count % 2])), flush=True)
        if not killed:
            break
    build(root, SECOND, shards=1, overwrite=True)
    print(json.dumps(sorted(path.name for path in (root / "out").iterdir())))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
