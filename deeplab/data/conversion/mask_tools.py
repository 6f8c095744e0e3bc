"""Conversion of mask folders: colors to class indices, palette masks to gray ones."""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Callable

import numpy as np

from deeplab.config.conversion_config import ColorMaskConfig, RemoveColormapConfig
from deeplab.data.colormaps import colors_for, read_color_table
from deeplab.data.image_files import JPEG_EXTENSIONS
from deeplab.data.labels import LabelSpec
from deeplab.data.mask_files import decode_label, encode_index_png
from deeplab.data.readers.pairs import MASK_EXTENSIONS
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import made_folder, write_atomically
from deeplab.utils.parallel import ordered_map
from deeplab.utils.paths import files_of, read_file, require_folder
from deeplab.utils.text import counted, percent, shorten

Transform = Callable[[bytes, str], tuple[bytes, np.ndarray]]  # data, file name -> PNG, pixels of each value


def convert_color_masks(config: ColorMaskConfig) -> np.ndarray:
    """Write every color mask of a folder as palette PNG of class indices, and print the fraction of each class.

    Returns:
      Pixels of each label value over all masks, int64 [256].

    Raises:
      UserError: no masks (`no-images`), a color that is not in the palette (`unknown-color`), or masks that exist
        already (`would-overwrite`); the output folder is then unchanged.
    """
    table = read_color_table(config.palette)
    spec = LabelSpec(
        len(table.names), config.ignore_label, table=table, tolerance=config.color_tolerance, by_color=True
    )
    colors = colors_for(table.class_colors(), len(table.names))

    def transform(data: bytes, where: str) -> tuple[bytes, np.ndarray]:
        decoded = decode_label(data, where, spec)
        return encode_index_png(decoded.label, colors), decoded.counts

    masks = _masks_in(config.mask_folder, "mask_folder", (*MASK_EXTENSIONS, *JPEG_EXTENSIONS))
    counts = transform_all(masks, config.output_dir, transform, config.num_workers, config.overwrite)
    rows = [[index, name, percent(counts[index] / counts.sum())] for index, name in enumerate(table.names)]
    print(console.table(rows, ["label", "class", "pixels"]))
    return counts


def remove_colormap(config: RemoveColormapConfig) -> None:
    """Write every palette PNG of a folder as gray PNG of its indices.

    Raises:
      UserError: no masks (`no-images`), masks that cannot be read, or masks that exist already (`would-overwrite`); the
        output folder is then unchanged.
    """

    def transform(data: bytes, where: str) -> tuple[bytes, np.ndarray]:
        decoded = decode_label(data, where, LabelSpec())
        return decoded.gray_png, decoded.counts

    extensions = ("." + config.segmentation_format.lower().lstrip("."),)
    masks = _masks_in(config.original_gt_folder, "original_gt_folder", extensions)
    transform_all(masks, config.output_dir, transform, config.num_workers, config.overwrite)


def _masks_in(folder: str, field: str, extensions: tuple[str, ...]) -> list[pathlib.Path]:
    require_folder(folder, f"`{field}`")
    masks = [pathlib.Path(folder, name) for name in files_of(folder) if name.lower().endswith(extensions)]
    if not masks:
        raise UserError("no-images", f"{folder} holds no file with {', '.join(extensions)}", field=field, value=folder)
    stems = [path.stem for path in masks]
    double = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    if double:
        rule = f"{folder} holds two masks of one name: {shorten(double)}"
        raise UserError("duplicate-names", rule, "remove one of each", field=field, value=double)
    return masks


def transform_all(
    masks: list[pathlib.Path], output_dir: str, transform: Transform, num_workers: int, overwrite: bool
) -> np.ndarray:
    """Write each mask, transformed, as NAME.png into a folder; when one fails, all that were written are removed.

    Returns:
      Pixels of each value over all masks, int64 [256].
    """
    target = pathlib.Path(output_dir)
    there = [path.stem for path in masks if (target / f"{path.stem}.png").exists()]
    if there and not overwrite:
        rule = f"{target} already holds {len(there)} of these masks: {shorten(there)}"
        hint = "`overwrite=true` replaces them; or give another folder"
        raise UserError("would-overwrite", rule, hint, field="output_dir", value=there)
    with made_folder(target):
        total = _write_all(masks, target, transform, num_workers, there)
    console.note(f"wrote {counted(len(masks), 'mask')} into {target}")
    return total


def _write_all(
    masks: list[pathlib.Path], target: pathlib.Path, transform: Transform, num_workers: int, there: list[str]
) -> np.ndarray:
    total = np.zeros(256, np.int64)
    with contextlib.ExitStack() as undo, console.progress(total=len(masks), what="masks", unit="mask") as bar:
        work = functools.partial(_transform_one, transform=transform)
        for path, (data, counts) in zip(masks, ordered_map(work, masks, num_workers), strict=True):
            written = target / f"{path.stem}.png"
            if path.stem not in there:
                undo.callback(written.unlink, missing_ok=True)
            write_atomically(written, data)
            total += counts
            bar.update()
        undo.pop_all()
    return total


def _transform_one(path: pathlib.Path, transform: Transform) -> tuple[bytes, np.ndarray]:
    return transform(read_file(path), str(path))
