"""Makes TFRecords of a dataset in any usual layout.

    python -m deeplab.build_data FORMAT --flag=value ...
    python -m deeplab.build_data folder --image_folder=photos --mask_folder=masks --output_dir=tfrecord
    python -m deeplab.build_data coco --annotations=instances.json --image_folder=images --output_dir=tfrecord

Without a format it lists them; `FORMAT --help` lists a format's flags.

Beside the shards stands dataset.yml: classes, colors, images of each split, pixels of each class; the other commands
read it. Bad files are named with the hint, and nothing is left half written: a build that was stopped is simply run
again. The records are then checked (`deeplab check_data`).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config import flags
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest


def build_data(format_name: str, config: Any, labels: Any, splits: Any, records: Any) -> None:
    """Builds the records that the settings describe, and checks them.

    Args:
      format_name: a name in `deeplab.data.readers.FORMATS`.
      config: an instance of that format's settings group.
      labels, splits, records: LabelConfig, SplitConfig and RecordConfig.

    Raises:
      UserError: as `engine.build`, and as the format's reader; or the records are there, but not fit for training.
    """
    from deeplab.data.conversion import local, summary
    from deeplab.data.conversion.splits import read_sources
    from deeplab.data.readers import FORMATS

    form = FORMATS.get(format_name)
    output_dir = records.output_dir or form.output_dir
    if not output_dir:
        raise UserError("missing-setting", "must be given", "it is the folder of the records", field="output_dir")
    records = dataclasses.replace(records, num_shards=records.num_shards or form.num_shards)
    unfit = []
    for subfolder, source in read_sources(format_name, config, labels, splits).items():
        folder = os.path.join(output_dir, subfolder) if subfolder else output_dir
        if records.resume and local.is_built(source, folder):
            console.note(f"{folder} is built already (--overwrite=true builds it anew)")
            continue
        name = records.name or local.name_of(pathlib.Path(output_dir))
        named = dataclasses.replace(records, name=f"{name}_{subfolder}" if subfolder else name)
        dataset = local.build(source, folder, labels, named)
        if not records.check:
            print(summary.fraction_table(dataset))
        elif not _is_fit(folder, list(source.splits), records.num_workers):
            unfit.append(folder)
    if unfit:
        rule = "the records are written, but not fit for training: see the errors above"
        raise UserError(
            "unfit-dataset", rule, "mend the data and build again with --overwrite=true", where=", ".join(unfit)
        )
    split = "" if "train" in source.splits else f" --split={shlex.quote(next(iter(source.splits)))}"
    console.note(f"to look at them: deeplab browse_data --dataset_dir={shlex.quote(folder)}{split}")


def _is_fit(folder: str, splits: Sequence[str], num_workers: int) -> bool:
    """Checks records, prints what is found, and tells whether training may start."""
    from deeplab.check_data import check_records
    from deeplab.config.validation_config import CheckConfig, RecordsToCheck

    return not check_records(CheckConfig(split=",".join(splits), num_workers=num_workers), RecordsToCheck(folder))


def run_format(format_name: str, argv: Sequence[str] | None = None, purpose: str | None = None) -> int:
    """The command for one format.

    Args:
      format_name: a name in `deeplab.data.readers.FORMATS`.
      argv: the words of the command line, the program's name first (default: `sys.argv`).
      purpose: opens the help page (default: what the format is).

    Returns:
      The process's exit code.
    """
    from deeplab.config.conversion_config import LabelConfig, RecordConfig, SplitConfig
    from deeplab.data.readers import FORMATS

    groups: tuple[type, ...] = (FORMATS.get(format_name).config, LabelConfig, SplitConfig, RecordConfig)
    return flags.run_given(
        lambda given: build_data(format_name, *flags.settings_from(given, groups)),
        groups,
        argv,
        purpose or _purpose(format_name),
    )


def _purpose(format_name: str) -> str:
    """What opens the help page of a format: what it is, how its command looks, and what all formats have in common."""
    from deeplab.data.readers import FORMATS

    fields = dataclasses.fields(FORMATS.get(format_name).config)
    needed = [*(field.name for field in fields if field.metadata["required"]), "output_dir"]
    command = " ".join([f"python -m deeplab.build_data {format_name}", *(f"--{name}=..." for name in needed)])
    common = (__doc__ or "").partition("flags.\n\n")[2]
    return f"Makes TFRecords of a dataset in this form: {FORMATS.summary(format_name)}.\n\n    {command}\n\n{common}"


def main() -> int:
    """Runs the format that the first word names; returns the exit code."""
    from deeplab.data.readers import FORMATS

    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in ("--help", "-h", "-help", "help"):
        print(formats_text())
        return 0
    name = word.replace("-", "_").lower() if not word.startswith("-") else word
    if name not in FORMATS:
        rule = "the format comes first, its flags after it" if word.startswith("-") else "there is no such format"
        console.error(f"{word}: {rule}\n  hint: {nearest(word, list(FORMATS))}")
        return 1
    return run_format(name, [f"{sys.argv[0]} {name}", *sys.argv[2:]])


def formats_text() -> str:
    """The list of formats."""
    from deeplab.data.readers import FORMATS

    width = max(map(len, FORMATS))
    lines = [f"  {name:<{width}}   {FORMATS.summary(name)}" for name in FORMATS]
    ending = ["", "`FORMAT --help` lists its flags; all take --config: a YAML file of their values."]
    return "\n".join([(__doc__ or "").strip(), "", "Formats:", *lines, *ending])


if __name__ == "__main__":
    sys.exit(main())
