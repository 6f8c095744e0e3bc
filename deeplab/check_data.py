r"""Checks a dataset and reports errors, warnings and advice before training.

    python -m deeplab.check_data --dataset_dir=tfrecord
    python -m deeplab.check_data --image_folder=photos --mask_folder=masks --class_names=background,hair,skin
    python -m deeplab.check_data FORMAT --flag=value ...      the flags of build_data, before there are records

Checks every image and label: unreadable files, sizes, values that are not classes, blurred masks, absent and rare
classes, images in two splits, crops that do not suit the images. Prints class frequencies, recommended class weights
and crop sizes, every problem with its file, rule and hint, and the build-data command that repairs what flags can
repair. --html=report.html shows all of it with images, --json=report.json is for programs. Examines about 300
images of PASCAL VOC's size per second on two processor cores.

The exit code says whether training may start: 0 if so (there may be warnings), 3 if not.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config.command_line import CHECK_FAILED, OK, Command, Given, UsageError, Word, configs_from
from deeplab.config.conversion_config import LabelConfig, SplitConfig
from deeplab.config.fields import Config
from deeplab.config.validation_config import CheckConfig, RecordsToCheck
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from deeplab.data.validation.check_report import CheckReport


def check_records(config: CheckConfig, records: RecordsToCheck) -> int:
    """The command for a folder of records.

    Args:
      config: a CheckConfig.
      records: a RecordsToCheck.

    Returns:
      The exit code.

    Raises:
      UserError: flags that cannot be followed.
    """
    from deeplab.data.validation import analysis, subject

    folder, dataset = folder_of(records.dataset_dir, records.dataset)
    found = subject.of_records(folder, dataset=dataset, num_classes=records.num_classes, splits=config.splits)
    if found.total:  # only reading the records takes TensorFlow
        console.import_tensorflow()
    return conclude(analysis.check(found, config), config)


def folder_of(dataset_dir: str, dataset: str) -> tuple[str, str]:
    """The folder of the records, and the dataset whose classes they have; `dataset` alone may name the folder.

    Raises:
      UserError: neither flag says where the records are.
    """
    if dataset_dir:
        return dataset_dir, dataset
    path = pathlib.Path(dataset)
    if dataset and path.is_dir():
        return dataset, ""
    if dataset and path.suffix in (".yml", ".yaml") and path.is_file():
        return str(path.parent), dataset
    if dataset:
        raise UserError(
            "not-a-dataset",
            f"{dataset} is no folder of records, nor a dataset.yml in one",
            "give `dataset_dir`",
            field="dataset",
        )
    hint = "`dataset_dir=FOLDER` checks records; `image_folder=...` and `mask_folder=...` check files"
    raise UsageError("missing-setting", "nothing was given to check", hint, field="dataset_dir")


def check_files(
    format_name: str, settings: Config, labels: LabelConfig, splits: SplitConfig, config: CheckConfig
) -> int:
    """The command for a dataset before it becomes records.

    Args:
      format_name: a name in `deeplab.data.readers.FORMATS`.
      settings: an instance of that format's config class.
      labels, splits: LabelConfig and SplitConfig.
      config: a CheckConfig.

    Returns:
      The exit code.

    Raises:
      UserError: flags that cannot be followed.
    """
    from deeplab.data.bands import parse_bands
    from deeplab.data.conversion.summary import print_merged
    from deeplab.data.readers.classes import classes_from
    from deeplab.data.validation import analysis, subject
    from deeplab.data.validation.listing import listed

    source, met = listed(format_name, settings, labels, splits)
    checked = getattr(settings, "image_folder", "") or format_name
    if source is None:
        found = subject.of_nothing(checked, met)
    else:
        classes = classes_from(labels, source)
        found = subject.of_source(
            source,
            classes,
            checked,
            exif=labels.exif,
            splits=config.splits,
            findings=met,
            bands=parse_bands(config.bands),
        )
    report = analysis.check(found, config)
    if found.classes.merged:
        print_merged(found.classes.merged, report.dataset, sys.stderr if config.json == "-" else sys.stdout)
    command = build_command(format_name, (settings, labels, splits), report.repair, config.bands)
    return conclude(dataclasses.replace(report, command=command), config)


def build_command(format_name: str, groups: Sequence[Config], repair: Mapping[str, str], bands: str = "") -> str:
    """The `build-data` command line that repairs a dataset; empty where no setting repairs anything.

    Args:
      format_name: a name in `deeplab.data.readers.FORMATS`.
      groups: the config objects that `build-data` takes, as they were given to the check.
      repair: settings that replace or extend them.
      bands: as in `CheckConfig`.
    """
    from deeplab.data.readers import FORMATS

    if not repair:
        return ""
    fields = ((field, getattr(group, field.name)) for group in groups for field in dataclasses.fields(group))
    values = {field.name: _flag_text(value) for field, value in fields if value != field.default}
    values |= {
        **({"bands": bands} if bands else {}),
        **repair,
        "output_dir": FORMATS.get(format_name).output_dir or "tfrecord",
    }
    return shlex.join(["deeplab", "build-data", format_name, *(f"--{name}={text}" for name, text in values.items())])


def _flag_text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def conclude(report: CheckReport, config: CheckConfig) -> int:
    """Prints and writes what was found.

    Args:
      report: the result of the check.
      config: a CheckConfig.

    Returns:
      The exit code.

    Raises:
      UserError: a file cannot be written.
    """
    from deeplab.data.validation import render_json, render_text

    stream = sys.stderr if config.json == "-" else sys.stdout
    console.result(render_text.text(report, render_text.wants_color(stream)), stream)
    if config.json == "-":
        console.result(render_json.text(report).rstrip())
    elif config.json:
        _write(config.json, render_json.text(report))
    if config.html:
        from deeplab.data.validation import render_html

        _write(config.html, render_html.page(report))
    return OK if report.may_train else CHECK_FAILED


def _write(path: str, text: str) -> None:
    from deeplab.utils.files import write_atomically

    write_atomically(path, text)
    console.note(f"wrote {path}")


# --- Command line -------------------------------------------------------------------------------------------


def run(format_name: str, given: Given) -> int:
    """Runs the command; returns the exit code, which says whether training may start."""
    configs = configs_from(given, groups(format_name))
    if format_name:
        return check_files(format_name, *configs)
    return check_records(*configs)


def groups(format_name: str) -> tuple[type, ...]:
    """Return the config dataclasses of a format; "" = records."""
    from deeplab.data.readers import FORMATS

    if not format_name:
        return CheckConfig, RecordsToCheck
    return FORMATS.get(format_name).config, LabelConfig, SplitConfig, CheckConfig


def formats() -> dict[str, str]:
    """Return the names of the formats, with one line on each."""
    from deeplab.data.readers import FORMATS

    return {name: FORMATS.summary(name) for name in FORMATS}


def format_of(flags: Collection[str]) -> str:
    """Return the format when no word names one: a folder of files if flags name one, else records."""
    return "folder" if {"image_folder", "mask_folder"} & set(flags) else ""


def _instead_of(word: str, formats: Iterable[str]) -> str:
    """Return what to write in place of a word that is no format; people like to give a folder without a flag."""
    if not pathlib.Path(word).is_dir():
        return nearest(word, formats)
    if any(pathlib.Path(word).glob("*.tfrecord")):
        return f"`dataset_dir={word}` checks records"
    return f"`image_folder=...` `mask_folder=...` for files in {word}, or a format: {', '.join(sorted(formats))}"


COMMAND = Command("check_data", run, groups, __doc__, Word("FORMAT", formats, format_of, _instead_of))


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
