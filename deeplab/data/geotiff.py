"""TIFF files of any bands, types and size, read and written window by window, with their georeference (extra `geo`).

Owns all use of rasterio: opening, windows, nodata, georeferences, and the GeoTIFF that a prediction becomes.
`images.py` reads images through it, `large_images.py` predictions. Without the extra, TIFF is read as 8-bit RGB only.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.utils.errors import UserError
from deeplab.utils.extras import DISTRIBUTION, require
from deeplab.utils.files import partial_path, writing

Window = tuple[int, int, int, int]  # top, left, height, width in pixels

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BLOCK = 256  # side of the tiles that are written, in pixels
_CACHE_MB = 64  # of GDAL, for blocks that were read; its default is 5 % of the memory


def is_tiff(path: str | os.PathLike) -> bool:
    """Whether a file begins as TIFF and BigTIFF files do."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in _STARTS
    except OSError:
        return False


def is_available() -> bool:
    """Whether the extra `geo` is installed."""
    try:
        require("rasterio", "geo")
    except UserError:
        return False
    return True


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[Any]:
    """An open TIFF, a `rasterio.DatasetReader`.

    Raises:
      UserError: the extra `geo` is not installed (`missing-library`), or the file cannot be read (`unreadable-image`),
        when it is opened or in the block.
    """
    try:
        rasterio = require("rasterio", "geo")
    except UserError as error:
        rule = "is a TIFF whose bands are to be read as they are, which needs rasterio"
        hint = f"pip install '{DISTRIBUTION}[geo]'"
        raise UserError("missing-library", rule, hint, where=path, value=error.where) from None
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE_MB, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        warnings.simplefilter("ignore")  # of files without a georeference
        try:
            with rasterio.open(os.path.abspath(path), driver="GTiff") as dataset:
                yield dataset
        except rasterio.errors.RasterioError as error:
            text = " ".join(str(error.__cause__ or error).split())[:200]
            rule = f"cannot be read as a TIFF: {text}"
            raise UserError("unreadable-image", rule, "save or copy the file again", where=path) from None


def size_and_bands(path: str | os.PathLike) -> tuple[int, int, int]:
    """Height, width and number of bands, from the header."""
    with opened(path) as dataset:
        return dataset.height, dataset.width, dataset.count


def read(path: str | os.PathLike, numbers: Sequence[int], window: Window | None = None) -> np.ndarray:
    """The values of some bands, [H, W, C], of the file's own type.

    Args:
      path: the file.
      numbers: of the bands, from 1; empty = all.
      window: the part to read; None = all of it.
    """
    with opened(path) as dataset:
        return _read(dataset, numbers or dataset.indexes, window)


def read_valid(
    path: str | os.PathLike, numbers: Sequence[int], window: Window | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """As `read`, and where some band has a value: bool [H, W]; None if the file marks no pixel as missing.

    Pixels are missing by the file's nodata value, or by a mask inside it.
    """
    with opened(path) as dataset:
        chosen = list(numbers or dataset.indexes)
        pixels = _read(dataset, chosen, window)
        flags = {flag.name for index in chosen for flag in dataset.mask_flag_enums[index - 1]}
        if not flags & {"nodata", "per_dataset"} or "alpha" in flags:
            return pixels, None
        masks = dataset.read_masks(chosen, window=_as_rasterio(window))
        return pixels, np.asarray((masks > 0).any(axis=0))


def _read(dataset: Any, numbers: Sequence[int], window: Window | None) -> np.ndarray:
    values = dataset.read(list(numbers), window=_as_rasterio(window))
    return np.ascontiguousarray(values.transpose(1, 2, 0))


def _as_rasterio(window: Window | None) -> Any:
    if window is None:
        return None
    top, left, height, width = window
    return ((top, top + height), (left, left + width))


# --- Writing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Georeference:
    """Where on the earth an image is, as rasterio has it: `crs`, the affine `transform`, or ground control points."""

    profile: Mapping[str, Any]


def georeference(path: str | os.PathLike) -> Georeference | None:
    """The georeference of a TIFF; None if it has none."""
    with opened(path) as dataset:
        points, points_crs = dataset.gcps
        if dataset.crs is not None or not dataset.transform.is_identity:
            return Georeference({"crs": dataset.crs, "transform": dataset.transform})
        return Georeference({"gcps": points, "crs": points_crs}) if points else None


@contextlib.contextmanager
def writing_labels(
    path: str | os.PathLike,
    size: tuple[int, int],
    place: Georeference | None,
    colors: np.ndarray | None,
    nodata: int | None = None,
) -> Iterator[Any]:
    """A GeoTIFF of labels to write into by windows; it appears whole or not at all.

    Args:
      path: the file.
      size: height and width.
      place: its georeference.
      colors: RGB of each class, uint8 [256, 3], as the file's palette; None: labels have 16 bits and no palette.
      nodata: the label of pixels without a value; None = all have one.

    Yields:
      A function of a window and its labels [H, W], which writes them.
    """
    rasterio = require("rasterio", "geo")
    temporary = partial_path(path)
    profile = {
        "driver": "GTiff",
        "height": size[0],
        "width": size[1],
        "count": 1,
        "dtype": "uint16" if colors is None else "uint8",
        "compress": "deflate",
        "BIGTIFF": "IF_SAFER",
        "tiled": True,
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
        **(place.profile if place else {}),
        **({} if nodata is None else {"nodata": nodata}),
    }
    try:
        with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE_MB), writing(path):
            warnings.simplefilter("ignore")
            try:
                with rasterio.open(os.path.abspath(temporary), "w", **profile) as file:
                    if colors is not None:
                        file.write_colormap(1, {index: (*color, 255) for index, color in enumerate(colors.tolist())})
                    yield lambda window, labels: file.write(labels, 1, window=_as_rasterio(window))
            except rasterio.errors.RasterioError as error:
                raise OSError(str(error)) from None
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
