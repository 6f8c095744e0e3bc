r"""Builds TFRecords from a dataset in any common format.

Examples:

    python -m deeplab.build_data folder --image_folder=photos --mask_folder=masks --output_dir=tfrecord
    python -m deeplab.build_data coco --annotations=instances.json --image_folder=images --output_dir=tfrecord

dataset.yml beside the shards lists classes, colors, images per split and pixels per class; the other commands read it.
Files that cannot be used are named, with a hint. A build that was stopped leaves nothing behind: run it again. The
records are then checked as by `deeplab check_data`; the exit code is 3 if they are unfit for training.

`deeplab build_data FORMAT --help` lists the flags of a format.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config.command_line import Command, Given, UsageError, Word, configs_from
from deeplab.config.conversion_config import LabelConfig, RecordConfig, SplitConfig
from deeplab.config.fields import Config
from deeplab.utils import console
from deeplab.utils.errors import UserError


def build_data(
    format_name: str, config: Config, labels: LabelConfig, splits: SplitConfig, records: RecordConfig
) -> None:
    """Builds the records that the configs describe, and checks them.

    Args:
      format_name: a name in `deeplab.data.readers.FORMATS`.
      config: an instance of that format's config dataclass.
      labels, splits, records: what labels mean, which image goes to which split, how records are written.

    Raises:
      UserError: as `local.build` and the format's reader; or the records are written, but unfit for training.
    """
    from deeplab.data.conversion import local, summary
    from deeplab.data.conversion.splits import read_sources
    from deeplab.data.readers import FORMATS
    from deeplab.data.records import shards_by_split

    form = FORMATS.get(format_name)
    output_dir = records.output_dir or form.output_dir
    if not output_dir:
        raise UsageError("missing-setting", "must be given", "it is the folder of the records", field="output_dir")
    records = dataclasses.replace(records, num_shards=records.num_shards or form.num_shards)
    unfit = []
    for subfolder, source in read_sources(format_name, config, labels, splits).items():
        folder = os.path.join(output_dir, subfolder) if subfolder else output_dir
        if records.resume and local.is_built(source, folder, bool(records.tile_size)):
            console.note(f"{folder} is built already (`overwrite=true` builds it again)")
            continue
        name = records.name or local.name_of(pathlib.Path(output_dir))
        named = dataclasses.replace(records, name=f"{name}_{subfolder}" if subfolder else name)
        dataset = local.build(source, folder, labels, named)
        if not records.check:
            print(summary.fraction_table(dataset))
        elif not _is_fit(folder, list(source.splits), records):
            unfit.append(folder)
    if unfit:
        rule = "the records are written, but unfit for training: see the errors above"
        raise UserError("unfit-dataset", rule, "correct the data and add `overwrite=true`", where=", ".join(unfit))
    _tell_splits(list(shards_by_split(folder)))
    split = "" if "train" in source.splits else f" --split={shlex.quote(next(iter(source.splits)))}"
    console.note(f"to look at them: deeplab browse_data --dataset_dir={shlex.quote(folder)}{split}")


def _tell_splits(splits: Sequence[str]) -> None:
    """Says which settings train and eval need where splits are not called train and val."""
    from deeplab.data.split_names import in_order, training_split

    training = training_split(splits)
    evaluated = next((split for split in reversed(in_order(splits)) if split != training), "")
    evaluated = "val" if "val" in splits else evaluated
    needed = [f"`train_split={shlex.quote(training)}`"] * ("train" not in splits)
    if evaluated != "val":
        text = f"`eval_split={shlex.quote(evaluated or training)}`"
        needed.append(text if evaluated else f"{text}, as there is no other split")
    if needed:
        held = ", ".join(in_order(splits))
        console.note(f"the splits are {held}, while train looks for train, eval and vis for val: {'; '.join(needed)}")


def _is_fit(folder: str, splits: Sequence[str], records: RecordConfig) -> bool:
    """Checks records, prints the findings, notes the errors in `dataset.yml`; returns whether training may start."""
    from deeplab.check_data import conclude
    from deeplab.config.validation_config import CheckConfig
    from deeplab.data import dataset as datasets
    from deeplab.data.validation import analysis, subject

    config = CheckConfig(split=",".join(splits), num_workers=records.num_workers, max_leak=records.max_leak)
    report = analysis.check(subject.of_records(folder, splits=config.splits), config)
    conclude(report, config)
    datasets.note_errors(folder, {split: report.errors_of(split) for split in splits})
    return report.may_train


def run(format_name: str, given: Given) -> None:
    """Runs the command."""
    config, records, labels, splits = configs_from(given, groups(format_name))
    build_data(format_name, config, labels, splits, records)


def groups(format_name: str) -> tuple[type, ...]:
    """Return the config dataclasses of a format."""
    from deeplab.data.readers import FORMATS

    return FORMATS.get(format_name).config, RecordConfig, LabelConfig, SplitConfig


def formats() -> dict[str, str]:
    """Return the names of the formats, with one line on each."""
    from deeplab.data.readers import FORMATS

    return {name: FORMATS.summary(name) for name in FORMATS}


COMMAND = Command("build_data", run, groups, __doc__ or "", Word("FORMAT", formats))


def main_of_format(format_name: str, purpose: str) -> int:
    """Runs the command for one format on the words of the command line; returns the exit code.

    Args:
      format_name: a name in `deeplab.data.readers.FORMATS`.
      purpose: text for the help page.
    """
    name = pathlib.Path(sys.argv[0]).stem
    return Command(name, lambda given: run(format_name, given), groups(format_name), purpose).main()


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
