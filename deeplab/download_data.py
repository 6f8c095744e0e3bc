"""Fetches a known dataset, checks what arrived, and unpacks it.

    python -m deeplab.download_data voc2012 --output_dir=data/voc2012/raw
    python -m deeplab.download_data cityscapes --output_dir=data/cityscapes/raw --archives=Downloads

Published addresses, checksums and numbers of files are in deeplab/data/catalog.yml. A download that was stopped
goes on where it stopped; a set that is complete is left as it is. Datasets that must be asked for are taken from
`--archives`, and the message says where their archives are had. datasets/download_and_convert_*.sh do this and make
TFRecords of it.
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
    """A command line whose first word, if it is no flag, has become `--name=WORD`; one without words asks for help."""
    words = list(argv)
    if len(words) == 1:
        return [*words, "--help"]
    if not words[1].startswith("-"):
        words[1] = f"--name={words[1].replace('-', '_').lower()}"
    return words


def purpose() -> str:
    """What opens the help page: this module's text, and the names."""
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
