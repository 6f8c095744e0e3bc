"""HTML reports, each one file without scripts, fonts or images from elsewhere.

`page.html.j2` is the skeleton and the style of all reports, `blocks.html.j2` holds what they share: tiles, tables,
galleries, charts. A report is a template that extends the skeleton; the check of datasets and the evaluation have one.
This module renders it. Jinja2 is imported only when a page is written.

The pages that segment images, the server's and the exported one, have scripts and are not reports. `INTERACTIVE_STYLE`
is the style sheet that they share.
"""

from __future__ import annotations

import base64
import io
import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from deeplab import __version__
from deeplab.utils import console
from deeplab.visualization.image_grid import within
from deeplab.visualization.label_rendering import percent

_FOLDER = pathlib.Path(__file__).parent
INTERACTIVE_STYLE = _FOLDER / "interactive_page.css"
_JPEG_QUALITY = 85
_FILTERS: dict[str, Callable] = {
    "base64": lambda data: base64.b64encode(data).decode(),
    "commas": lambda number: f"{number:,}",
    "percent": percent,
    "spelled": console.spelled,
}


def render(
    template: str | os.PathLike, values: Mapping[str, Any], filters: Mapping[str, Callable] | None = None
) -> str:
    """Render a report.

    Every value is escaped. Beside the given ones, templates have the filters `base64` (of bytes), `commas`, `percent`
    (of a fraction) and `spelled` (settings as this program shows them).

    Args:
      template: path of the template; it may extend `page.html.j2` and import from `blocks.html.j2`.
      values: its variables.
      filters: further filters by name.
    """
    import jinja2

    path = pathlib.Path(template)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path.parent, _FOLDER]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {**_FILTERS, **(filters or {})}
    return environment.get_template(path.name).render(version=__version__, **values) + "\n"


def _printable(value: Any) -> Any:
    """Text in which what HTML forbids (control characters, halves of characters) is replaced by a sign for it."""
    if type(value) is not str:  # numbers, and markup of macros
        return value
    text = "".join("\ufffd" if ord(char) < 32 and char not in "\t\n" else char for char in value)
    return text.encode("utf-8", "replace").decode()


def hex_color(color: np.ndarray | tuple[int, ...]) -> str:
    """A color for a style sheet, `#ff0000`, from RGB, 0..255."""
    red, green, blue = (int(value) for value in color)
    return f"#{red:02x}{green:02x}{blue:02x}"


# --- Images -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """Some images of one thing, for the block `gallery`.

    Attributes:
      images: pairs of a title and the bytes of a JPEG file.
      caption: the line below them.
    """

    images: tuple[tuple[str, bytes], ...]
    caption: str


def jpeg(pixels: np.ndarray, max_side: int = 320, smooth: bool = True) -> bytes:
    """The bytes of a JPEG file of an image, uint8 [H, W, 3], shrunk to fit a square.

    Args:
      pixels: RGB.
      max_side: largest height and width.
      smooth: average pixels; False for labels in colors, where averages are colors of no class.
    """
    height, width = within(pixels.shape, min(max_side, max(pixels.shape[:2])))
    image = Image.fromarray(pixels)
    if (height, width) != pixels.shape[:2]:
        image = image.resize((width, height), Image.Resampling.BOX if smooth else Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0 if not smooth else 2)
    return buffer.getvalue()
