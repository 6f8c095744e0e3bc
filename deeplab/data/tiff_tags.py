"""Tags of TIFF files: what they say about the values, and which files cannot be read as 8-bit RGB.

Owns the numbers of the tags (TIFF 6.0) and the refusals that follow from them alone. `images` asks it before Pillow
decodes. It decodes no pixels; GeoTIFF, whose values are read without loss, is in `geotiff`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import TiffImagePlugin

from deeplab.utils.errors import UserError

# Numbers of tags, and some of their values (TIFF 6.0).
BITS, PHOTOMETRIC, CHANNELS, _PLANAR, _COMPRESSION, _KIND, SUBFILE = 258, 262, 277, 284, 259, 339, 254
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_OF_VALUES = (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, BITS, PHOTOMETRIC, CHANNELS, _PLANAR, _COMPRESSION, _KIND)
WHITE_IS_ZERO, _APART, _UNCOMPRESSED, _UNSIGNED = 0, 2, 1, 1
_KINDS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
COPY_OR_MASK = 1 | 4  # bits of the subfile type
# Most bytes of pixels that one stored byte can give, by compression: none, PackBits, LZW, deflate (two numbers).
_MAX_PER_BYTE = {_UNCOMPRESSED: 1, 32773: 64, 5: 2560, 8: 1032, 32946: 1032}


def read_tags(data: bytes) -> dict[int, Any]:
    """What the first image of a TIFF says about its values; Pillow does not say it where it cannot read the pixels."""
    try:
        stream = io.BytesIO(data)
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if 43 in data[2:4] else data[:8])
        stream.seek(tags.next)
        tags.load(stream)
        return {tag: tags[tag] for tag in _OF_VALUES if tag in tags}
    except Exception:  # as with images: broken files raise nearly anything
        return {}


def numbers(tags: Mapping[int, Any], tag: int, default: int) -> tuple[int, ...]:
    """The whole numbers of a tag, at least one; the default where the tag is missing or holds something else."""
    found = tags.get(tag, default)
    values = found if isinstance(found, tuple) else (found,)
    return values if values and all(isinstance(value, int) for value in values) else (default,)


def require_plain(tags: Mapping[int, Any], where: str) -> None:
    """Refuses TIFFs whose values have no plain meaning as 8-bit RGB, and a kind that Pillow reads wrongly.

    Raises:
      UserError: too many channels, floating point, signed, above 16 bits, or 16-bit channels stored apart.
    """
    channels, bits = numbers(tags, CHANNELS, 1)[0], max(numbers(tags, BITS, 8))
    signs = {sign for sign in numbers(tags, _KIND, _UNSIGNED) if sign in _KINDS}
    if channels > 4:
        hint = "`bands=all` builds records of all channels, `bands=3,2,1` of these three"
        rule = f"has {channels} channels, and nothing says which are red, green and blue"
        raise UserError("unsupported-pixels", rule, hint, where=where, value=channels)
    if signs or bits > 16:
        values = f"{_KINDS[min(signs)] if signs else 'unsigned'} values of {bits} bits"
        hint = "`bands=all` and `scale_from=LOW,HIGH` build records of such values"
        rule = f"holds {values}, and nothing says which value is black and which is white"
        raise UserError("unsupported-pixels", rule, hint, where=where, value=bits)
    apart = numbers(tags, _PLANAR, 1)[0] == _APART and channels > 1
    if apart and bits == 16 and numbers(tags, _COMPRESSION, 1)[0] == _UNCOMPRESSED:
        hint = "save it with the channels of a pixel side by side (planar configuration 1), or as 16-bit PNG"
        rule = f"stores its {channels} channels of 16 bits apart, which cannot be read"
        raise UserError("unsupported-pixels", rule, hint, where=where, value=channels)


def require_all_rows(tags: Mapping[int, Any], where: str, length: int) -> None:
    """Refuses sizes that the file's bytes, as many as `length`, cannot fill.

    Pillow would leave missing rows of uncompressed TIFFs black, and allocate memory for the others.

    Raises:
      UserError: the file is truncated, or made to harm (`unreadable-image`).
    """
    width, height, channels = (numbers(tags, tag, 1)[0] for tag in (_WIDTH, _HEIGHT, CHANNELS))
    stored = max(width, numbers(tags, _TILE_WIDTH, 0)[0]) * max(height, numbers(tags, _TILE_HEIGHT, 0)[0])
    min_bytes = stored * channels * min(numbers(tags, BITS, 1)) // 8
    max_per_byte = _MAX_PER_BYTE.get(numbers(tags, _COMPRESSION, 0)[0])
    if max_per_byte and min_bytes > max_per_byte * length:
        rule = f"is truncated: {width}x{height} pixels cannot come from {length:,} bytes"
        raise UserError("unreadable-image", rule, "copy the file again", where=where)
