"""Kills exports that replace one, before each operation that changes the disk; prints what is there afterwards.

Run as a program with a folder: every export is a fork of it that ends without clean-up. The model's part, which would
hang in a fork of TensorFlow, is replaced by files of one text.
"""

import json
import pathlib
import shutil
import sys
from types import SimpleNamespace
from unittest import mock

from deeplab.config.export_config import ExportConfig
from deeplab.export import exporter
from deeplab.export.metadata import labels_text
from deeplab.utils.files import roll_back
from support.killed_transaction import content, die_at

OLD, NEW = ("cat", "dog"), ("hair", "skin")


def export(folder: pathlib.Path, names: tuple[str, ...]) -> None:
    text = "-".join(names)

    def write(job, cases, staging, files):
        for name in (*job.target.formats, job.target.beside("metadata.json")):
            pathlib.Path(staging, name).write_text(text)
        pathlib.Path(staging, "labels.txt").write_bytes(labels_text(names).encode())
        return {}, {}, True

    config = ExportConfig(export_path=str(folder), formats=("frozen_graph",), overwrite=True)
    predictor = SimpleNamespace(model=SimpleNamespace(_flatten_layers=tuple), checkpoint="runs", num_classes=2)
    nothing = mock.Mock(return_value={})
    parts = {"_write_and_compare": write, "_judge": mock.Mock(return_value=([], []))}
    parts |= dict.fromkeys(("_cases", "_describe", "variables_by_name", "require_finite"), nothing)
    with mock.patch.multiple(exporter, **parts):
        exporter.export(predictor, None, config, exporter.NamedClasses(names, ()))


def main(folder: pathlib.Path) -> None:
    for count in range(1, 100):
        shutil.rmtree(folder, ignore_errors=True)
        export(folder, OLD)
        killed = die_at(count, lambda: export(folder, NEW))
        roll_back(folder)
        print(json.dumps(content(folder)), flush=True)
        if not killed:
            break


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
