"""Tables of images and masks: parquet files as the Hugging Face Hub has them, and Arrow files as `datasets` saves them.

A row is an image; the columns hold image files, as bytes or as the struct of the `Image` feature. Needs the extra `hf`,
which is pyarrow; nothing is downloaded.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deeplab.config.fields import Config, setting
from deeplab.data.containers import TABLE_EXTENSIONS, damaged_table, open_table
from deeplab.data.readers import register_format
from deeplab.data.readers.name_lists import canonical, paths_by_split
from deeplab.data.readers.source import UNDIVIDED, Pair, Source
from deeplab.data.split_names import split_in
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.paths import list_files

_MASK_COLUMNS = (
    "label",
    "mask",
    "annotation",
    "labels",
    "masks",
    "segmentation",
    "semantic_segmentation",
    "annotations",
)


@dataclass(frozen=True)
class BuildParquetConfig(Config):
    """Tables."""

    tables: str = setting(
        "",
        "Folder of .parquet or .arrow files (a dataset of Hugging Face), or one; train:FILE,val:FILE for splits.",
        required=True,
    )
    image_column: str = setting("image", "Column of the images.")
    mask_column: str = setting("", "Column of the masks (unset: label, mask, annotation ..., whichever there is).")


@register_format("parquet", BuildParquetConfig)
def read_parquet(config: BuildParquetConfig) -> Source:
    """Reads which rows there are; no pixels.

    Raises:
      UserError: there is no table (`no-files`), it is damaged (`unreadable-file`), or has no such column
        (`unknown-name`).
    """
    splits: dict[str, list[Pair]] = {}
    for split, path in _files(config.tables):
        try:
            splits.setdefault(split, []).extend(_rows(path, config))
        except UnicodeDecodeError as error:  # in names of columns
            raise damaged_table(path, error) from None
    if not any(splits.values()):
        raise UserError("no-pairs", "has no row", "check the files", where=config.tables)
    named = splits if UNDIVIDED not in splits else {UNDIVIDED: [pair for pairs in splits.values() for pair in pairs]}
    return Source({split: _unique(pairs) for split, pairs in named.items()})


def _files(text: str) -> Iterator[tuple[str, str]]:
    for split, path in paths_by_split(text, "tables"):
        if not os.path.isdir(path):
            if not os.path.isfile(path):
                raise UserError("file-not-found", "there is no such file or folder", "check the path", where=path)
            yield split, path
            continue
        names = sorted(name for name in list_files(path) if name.lower().endswith(TABLE_EXTENSIONS))
        names = [name for name in names if not os.path.basename(name).startswith("cache-")]
        if not names:
            rule = f"contains no table ({', '.join(TABLE_EXTENSIONS)})"
            raise UserError("no-files", rule, "check the path", where=path)
        for name in names:
            folder = os.path.basename(os.path.dirname(name))
            own = split_in(os.path.splitext(os.path.basename(name))[0].partition("-")[0]) or split_in(folder)
            yield split or own or UNDIVIDED, os.path.join(path, name)


def _rows(path: str, config: BuildParquetConfig) -> list[Pair]:
    table = open_table(path, os.stat(path).st_mtime_ns)
    schema = table.schema_arrow if hasattr(table, "schema_arrow") else table.schema
    columns = list(schema.names)
    image = _column(config.image_column, columns, "image_column", path)
    found = [name for name in _MASK_COLUMNS if name in columns]
    mask = _column(config.mask_column or (found[0] if found else "mask"), columns, "mask_column", path)
    stem = os.path.splitext(os.path.basename(path))[0]
    return [
        Pair(canonical(name or f"{stem}_{row:06d}"), f"{path}#{image}/{row}", f"{path}#{mask}/{row}")
        for row, name in enumerate(_names(table, schema, image, path))
    ]


def _column(name: str, columns: list[str], field: str, path: str) -> str:
    if name not in columns:
        rule = f"{path} has no column {name!r}; its columns are {', '.join(columns[:12])}"
        raise UserError("unknown-name", rule, nearest(name, columns), field=field, value=name)
    return name


def _names(table: Any, schema: Any, column: str, path: str) -> Iterator[str]:
    """The names of the image files in the cells, without extension, as far as they are known."""
    kind = schema.field(column).type
    number = table.metadata.num_rows if hasattr(table, "metadata") else table.num_rows
    has_path = any(kind.field(index).name == "path" for index in range(getattr(kind, "num_fields", 0)))
    if not has_path:
        yield from [""] * number
        return
    try:
        if hasattr(table, "num_row_groups"):
            cells = table.read(columns=[f"{column}.path"]).column(column)
        else:
            cells = table.column(column)
        for cell in cells:
            value = (cell.as_py() or {}).get("path") if cell.is_valid else None
            yield os.path.splitext(os.path.basename(value or ""))[0]
    except (OSError, ValueError, KeyError) as error:  # ArrowInvalid is a ValueError
        raise damaged_table(path, error) from None


def _unique(pairs: list[Pair]) -> list[Pair]:
    """Pairs whose names occur once; the others get the number of their row."""
    numbers = collections.Counter(pair.name for pair in pairs)
    if max(numbers.values(), default=0) == 1:
        return pairs
    return [Pair(f"{index:06d}_{pair.name}", pair.image, pair.mask) for index, pair in enumerate(pairs)]
