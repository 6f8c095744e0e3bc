r"""Downloads a public dataset, checks what arrived, and unpacks it.

Examples:

    python -m deeplab.download_data voc2012 --output_dir=data/voc2012/raw
    python -m deeplab.download_data cityscapes --output_dir=data/cityscapes/raw --archives=Downloads

Published addresses, checksums and numbers of files are in deeplab/data/catalog.yml. A download that was stopped resumes
where it stopped; a complete dataset is left as it is. Archives that their owners give on request are taken from the
folder `archives`; the message says where to ask for them. datasets/download_and_convert_*.sh do this and build
TFRecords.
"""

from __future__ import annotations

import pathlib
import sys

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config.command_line import Command, Given, Word, configs_from
from deeplab.config.data_config import DownloadConfig
from deeplab.data import catalog


def run(name: str, given: Given) -> None:
    """Runs the command."""
    (config,) = configs_from({**given, "name": name or given.get("name")}, [DownloadConfig])
    from deeplab.data.catalog_download import obtain

    obtain(config)


def names() -> dict[str, str]:
    """Return the names of the datasets, with their titles."""
    return {name: catalog.find(name).title for name in catalog.names()}


COMMAND = Command(
    "download_data",
    run,
    (DownloadConfig,),
    __doc__ or "",
    Word("DATASET", names, lambda flags: "" if "name" in flags else None),
)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
