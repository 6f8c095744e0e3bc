"""Download a public dataset, check its archives, and unpack them.

    python -m deeplab.download_data voc2012 --output_dir=data/voc2012/raw
    python -m deeplab.download_data cityscapes --output_dir=data/cityscapes/raw --archives=Downloads

Published addresses, checksums and file counts are in deeplab/data/catalog.yml. A download that was stopped is resumed;
a complete dataset is left as it is. Archives that must be requested from their owners are read from `--archives`; the
error names where to get them. datasets/download_and_convert_*.sh run this command and convert the result to TFRecords.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config import flags
from deeplab.data import catalog
from deeplab.data.catalog_download import DownloadConfig, obtain

GROUPS = (DownloadConfig,)


def with_name(argv: Sequence[str]) -> list[str]:
    """Return the command line with a first word turned into `--name=WORD`; without words it asks for help."""
    words = list(argv)
    if len(words) == 1:
        return [*words, "--help"]
    if not words[1].startswith("-"):
        words[1] = f"--name={words[1].replace('-', '_').lower()}"
    return words


def purpose() -> str:
    """Head of the help page: this module's text and the names of the datasets."""
    rows = [f"  {name:<20} {catalog.find(name).title}" for name in catalog.names()]
    return "\n".join([(__doc__ or "").strip(), "", "Datasets:", *rows])


def main() -> int:
    """Entry point; returns the exit code."""
    return flags.run_given(
        lambda given: obtain(*flags.settings_from(given, GROUPS)),
        GROUPS,
        with_name(sys.argv),
        purpose(),
        needs_tensorflow=False,
    )


if __name__ == "__main__":
    sys.exit(main())
