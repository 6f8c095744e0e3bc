"""Image files: which files are images, what format they have, how large they are, and whether they are whole.

Owns the list of formats, the search for images in folders, the check of a file's structure and the error for a file
that cannot be read. Pixels are decoded in `images.py`.
"""

from __future__ import annotations

import collections
import dataclasses
import glob
import importlib
import io
import itertools
import os
import pathlib
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from deeplab.config.fields import split_words
from deeplab.data.png_files import MAX_SIDE, png_chunks
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.extras import DISTRIBUTION
from deeplab.utils.paths import list_files, matches, require_regular, walk
from deeplab.utils.text import counted

# Pillow warns, with a line of its source, of odd files; what matters of that is counted and said once by the builders.
warnings.filterwarnings("ignore", module=r"PIL\.")

_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
# What Pillow raises on damaged files: its parsers do arithmetic on fields before they check them.
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError),
    *(RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
JPEG_EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif")
IMAGE_EXTENSIONS = (
    *(*JPEG_EXTENSIONS, ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jp2", ".npy", ".npz", ".dcm"),
)
_STARTS: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\xd8\xff", "jpeg"),
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"II[*+]\0|MM\0[*+]", "tiff"),
    (rb"RIFF....WEBP", "webp"),
    (rb"GIF8[79]a", "gif"),
    (rb"P[1-6]\s", "ppm"),
    (rb"BM", "bmp"),
    (rb"....ftypavi[fs]", "avif"),
    (rb"\0\0\0\x0cjP|\xff\x4f\xff\x51", "jpeg2000"),
    (rb"....ftyp(hei|hev|mif|msf)", "heif"),
    (rb"\x93NUMPY|PK\x03\x04.{26}[^\0]{1,200}\.npy", "npy"),
    (rb".{128}DICM", "dicom"),
)
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (rb"....ftyp|RIFF....AVI |\x1aE\xdf\xa3", "a video", "extract its frames, e.g. `ffmpeg -i VIDEO frame_%05d.png`"),
    (rb"8BPS", "a Photoshop file", ""),
    (rb"%PDF", "a PDF file", ""),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive", "unpack it"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the image", "run `git lfs pull` in its repository"),
    (rb"\s*<(!doctype html|html|\?xml)", "a web page or XML", "download the image again; the server sent a message"),
)
_SCAN, _END = 0xDA, 0xD9
_ORDINARY_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive; others are lossless or arithmetic-coded
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1
_AFTER_SCAN = re.compile(rb"\xff[^\0\xd0-\xd7\xff]", re.DOTALL)
_TRUNCATED = "truncated: the end marker is missing"
_PNG_CHANNELS, _BY_PALETTE = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}, 3  # PNG specification, table 11.1
_MAX_DEFLATE = 1032  # bytes that one byte of deflated data can stand for, RFC 1951: 258 for two bits
_MAX_JPEG_PIXELS = 2048  # pixels that one byte of a JPEG can stand for: 64 per bit at most, with a margin


@dataclass(frozen=True)
class ImageFacts:
    """What the header of a JPEG or PNG says.

    Attributes:
      format: "jpeg" or "png", whatever the file's extension.
      height, width: size in pixels, as stored: an EXIF orientation is not applied.
      orientation: EXIF orientation, 1 (upright) to 8.
      alpha: the image has an alpha channel or a transparent color, which readers drop.
      damaged: the file or its EXIF block breaks its format's rules, yet TensorFlow's decoder reads it.
      deep: 16 bits per channel, of which readers keep the upper 8.
      pages: more images follow the first one.
      cmyk: the colors are those of a printer.
      direct: TensorFlow decodes the file, which it does not with lossless and arithmetic-coded JPEG.
    """

    format: str
    height: int
    width: int
    orientation: int = 1
    alpha: bool = False
    damaged: bool = False
    deep: bool = False
    pages: bool = False
    cmyk: bool = False
    direct: bool = True

    @property
    def rotated(self) -> bool:
        """Whether the file states an EXIF orientation other than upright."""
        return self.orientation != 1


def kind_of(data: bytes, where: str) -> str:
    """The format of an image by its first bytes, whatever its extension.

    Returns:
      jpeg, png, tiff, webp, gif, ppm, bmp, avif, jpeg2000 or heif: formats that can be decoded here.

    Raises:
      UserError: an empty file (`unreadable-image`), or another format (`unsupported-format`), which is named where it
        is known.
    """
    if not data:
        raise UserError("unreadable-image", "is empty", "copy the file again", where=where)
    for start, kind in _STARTS:
        if re.match(start, data, re.DOTALL):
            if kind == "heif":
                _require_heif(where)
            return kind
    for start, name, hint in _OTHERS:
        if re.match(start, data, re.DOTALL | re.IGNORECASE):
            hint = hint or "convert it to PNG (lossless) first"
            raise UserError("unsupported-format", f"is {name}, whatever its extension", hint, where=where)
    rule = f"is in none of the formats that are read here, whatever its extension{_first_words(data)}"
    hint = "convert it to PNG (lossless) first, or copy the file again"
    raise UserError("unsupported-format", rule, hint, where=where)


def _require_heif(where: str) -> None:
    """Teaches Pillow to read HEIC files, if the library for it is installed."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        rule = "is a HEIC image, as iPhones write them, and the library for them is not installed"
        hint = f"pip install '{DISTRIBUTION}[heif]', or save the image as JPEG"
        raise UserError("unsupported-format", rule, hint, where=where) from None


def _first_words(data: bytes) -> str:
    start = " ".join(data[:40].decode("ascii", "replace").split())
    return f": it is text, {start!r} ..." if start.isprintable() and data[:40].isascii() else ""


def inspect_image(data: bytes, where: str, decode: bool = False) -> ImageFacts:
    """Format and size of a JPEG or PNG, after a check that it is whole.

    The check follows the file's structure to its end and asks TensorFlow's decoder only in doubt. It finds every
    truncated file, and damage inside the compressed data, in a sixth of the time of decoding. Damaged decoding
    tables in a file's head are found with `decode` only.

    Args:
      data: the file's bytes.
      where: its name, for messages.
      decode: decode the image as well.

    Raises:
      UserError: neither JPEG nor PNG (`unsupported-format`), truncated or damaged (`unreadable-image`), or with too
        many pixels (`image-too-large`).
    """
    kind = kind_of(data, where)
    if kind not in ("jpeg", "png"):
        rule = f"is {kind.upper()} inside and neither JPEG nor PNG, whatever its extension"
        raise UserError("unsupported-format", rule, "convert it to PNG (lossless) first", where=where)
    try:
        image = Image.open(io.BytesIO(data), formats=(kind.upper(),))
        require_short_sides(image)
        _require_enough_bytes(data, kind, image)
        facts = _jpeg_facts(data, image) if kind == "jpeg" else _png_facts(data, image)
        if decode and facts.direct:
            _decode(data, kind)
        return facts
    except Exception as error:  # on files made to harm, Pillow raises nearly anything
        raise unreadable(where, error, kind) from None


def unreadable(where: str, error: Exception, kind: str = "") -> UserError:
    """The error for an image that cannot be decoded, with the reason in plain words.

    Args:
      where: the file.
      error: what Pillow raised.
      kind: the file's format, where it is known.
    """
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        size = f"has {int(pixels[1]):,} pixels" if pixels else "has too many pixels"
        rule = f"{size}; more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} are not read"
        return UserError("image-too-large", rule, "cut it into tiles, or make it smaller", where=where)
    hint = "save or copy the file again"
    if "identify image" in str(error):
        reason = f"its {kind.upper()} header is damaged or of an unknown kind" if kind else "its format is not known"
    elif isinstance(error, UNREADABLE) and " " in str(error):
        reason = str(error)
    else:  # codes of a decoder, or what Python raises where a library does not check
        reason = f"it is truncated, damaged, or encoded in an unknown way ({type(error).__name__}: {error})"
    return UserError("unreadable-image", f"cannot be read as an image: {reason}", hint, where=where)


def read_orientation(image: Image.Image) -> tuple[int, bool]:
    """EXIF orientation of an opened image, 1 (upright) to 8, and whether its EXIF block can be read at all."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow does not document what it raises on broken blocks, and they must not stop us
        return 1, False
    return (found if found in range(1, 9) else 1), True


def require_short_sides(image: Image.Image) -> None:
    """Refuses images that no libpng, TensorFlow's among them, would read as PNG."""
    if max(image.size) > MAX_SIDE:
        raise ValueError(f"{image.width}x{image.height} pixels: no side may be above {MAX_SIDE:,}")


def _require_enough_bytes(data: bytes, kind: str, image: Image.Image) -> None:
    """Refuses sizes that so few bytes cannot fill: the file is cut off, or made to harm."""
    width, height = image.size
    bits = data[24] * _PNG_CHANNELS.get(data[25], 1) if kind == "png" else 0
    min_bytes = height * (width * bits // 8) / _MAX_DEFLATE if bits else height * width / _MAX_JPEG_PIXELS
    if min_bytes > len(data):
        raise ValueError(f"truncated: {width}x{height} pixels cannot come from {len(data)} bytes")


def _tensorflow_reads(data: bytes) -> bool:
    import tensorflow as tf

    try:
        tf.io.decode_image(data, channels=3)
        return True
    except tf.errors.InvalidArgumentError:
        return False


def _decode(data: bytes, kind: str) -> None:
    if kind == "png":
        if not _tensorflow_reads(data):  # Pillow fills gaps silently
            raise ValueError("damaged: its pixels cannot be decoded")
        return
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.draft("L", (1, 1))  # every coefficient is read, but only 1/64 of the pixels are computed
    image.load()


def numpy_array(data: bytes, where: str) -> np.ndarray:
    """The array of an `.npy` file, or the only one of an `.npz` file.

    Raises:
      UserError: it cannot be read (`unreadable-image`), or holds several arrays (`unsupported-pixels`).
    """
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            names = loaded.files
            if len(names) != 1:
                rule = f"holds {len(names)} arrays: {', '.join(names[:6])}"
                raise UserError("unsupported-pixels", rule, "save one array per file", where=where, value=len(names))
            loaded = loaded[names[0]]
    except UserError:
        raise
    except Exception as error:  # damaged files raise ValueError, BadZipFile, EOFError, MemoryError and others
        rule = f"cannot be read as a NumPy array: {' '.join(str(error).split())[:200]}"
        raise UserError("unreadable-image", rule, "save it again with numpy.save", where=where) from None
    return loaded


# --- PNG ---------------------------------------------------------------------------------------------------


def _png_facts(data: bytes, image: Image.Image) -> ImageFacts:
    chunks: dict[bytes, bytes] = {}
    damaged = False
    try:
        for kind, body in png_chunks(data):
            chunks[kind] = body if kind == b"IDAT" else chunks.get(kind, b"") + body
        if b"IDAT" not in chunks or (data[25] == _BY_PALETTE and b"PLTE" not in chunks):
            raise ValueError("damaged: its pixels or its palette are missing")
    except UNREADABLE:
        if not _tensorflow_reads(data):
            raise
        damaged = True
    orientation, sound = read_orientation(image) if _may_be_turned(chunks) else (1, True)
    return ImageFacts(
        "png",
        image.height,
        image.width,
        orientation,
        alpha="A" in image.mode or b"tRNS" in chunks,
        damaged=damaged or not sound,
        deep=data[24] == 16,
        pages=b"acTL" in chunks,  # an animation; decoders show its first image
    )


def _may_be_turned(chunks: dict[bytes, bytes]) -> bool:
    """Whether there may be an EXIF block: to look for one, Pillow decodes the whole image."""
    texts = b"".join(chunks.get(kind, b"") for kind in (b"tEXt", b"zTXt", b"iTXt"))
    return b"eXIf" in chunks or b"Raw profile type exif" in texts or b"XML:com.adobe.xmp" in texts


# --- JPEG ---------------------------------------------------------------------------------------------------


def _jpeg_facts(data: bytes, image: Image.Image) -> ImageFacts:
    orientation, sound = read_orientation(image)
    facts = ImageFacts("jpeg", image.height, image.width, orientation, cmyk=image.mode == "CMYK", damaged=not sound)
    try:
        frames = check_jpeg_structure(data) & _FRAMES
    except UNREADABLE:
        if not _tensorflow_reads(data):
            raise
        return dataclasses.replace(facts, damaged=True)
    return facts if frames <= _ORDINARY_FRAMES else dataclasses.replace(facts, direct=_tensorflow_reads(data))


def check_jpeg_structure(data: bytes) -> set[int]:
    """Follows the markers of a JPEG file from the first to the last (ITU-T T.81, annex B).

    Bytes after the end marker are accepted: phones store a second image there.

    Returns:
      The codes of the markers before the end.

    Raises:
      ValueError: the chain of segments breaks, or the file ends before its end marker.
    """
    seen: set[int] = set()
    position = 2
    while True:
        if data[position : position + 1] != b"\xff":
            raise ValueError(f"damaged at byte {position} of {len(data)}" if position < len(data) else _TRUNCATED)
        code = data[position + 1] if position + 1 < len(data) else 0
        if code == 0xFF:  # fill byte
            position += 1
            continue
        if code == _END and _SCAN in seen:
            return seen
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if code < 0xC0 or 0xD0 <= code <= _END or length < 2:
            raise ValueError(f"damaged at byte {position} of {len(data)}")
        seen.add(code)
        position += 2 + length
        if code == _SCAN:
            position = _after_scan(data, position)


def _after_scan(data: bytes, position: int) -> int:
    """Position of the first marker after compressed data, in which FF comes before 00 or restart markers only."""
    found = _AFTER_SCAN.search(data, position)
    if not found:
        raise ValueError(_TRUNCATED)
    return found.start()


# --- Finding files ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageFile:
    """An image file, and the name for its results: the path inside the folder that was given, without extension."""

    path: str
    name: str


def find_images(inputs: Sequence[str], recursive: bool = False) -> list[ImageFile]:
    """The image files that a person means, in the order given, those of a folder sorted by name.

    Files of a folder that are left out are counted in a note: those without an image's extension, and what is no
    regular file. Folders that links lead to are searched once.

    Args:
      inputs: files, folders, or patterns such as `holiday/*.jpg`; one text may hold several with commas between.
      recursive: search the folders inside folders as well.

    Raises:
      UserError: nothing is found (`file-not-found`), a folder has no image (`no-images`), a name is no regular file
        (`not-a-file`), or two images would have one result (`duplicate-names`).
    """
    return unique([file for text in inputs for part in inputs_in(text) for file in _images_of(part, recursive)])


def inputs_in(text: str) -> list[str]:
    """The inputs that a text names: one that exists under this name, else those between commas."""
    return [text] if os.path.lexists(text) else split_words(text)


def unique(found: Sequence[ImageFile]) -> list[ImageFile]:
    """The files without repetitions.

    Raises:
      UserError: two files would have one result (`duplicate-names`).
    """
    by_name: dict[str, str] = {}
    for file in found:
        other = by_name.setdefault(file.name, file.path)
        if other != file.path:
            rule = f"{other} and {file.path} would both have the result {file.name!r}"
            hint = "predict them in two runs with two output folders"
            raise UserError("duplicate-names", rule, hint, field="input", value=file.name)
    return list(dict.fromkeys(found))


def _images_of(text: str, recursive: bool) -> list[ImageFile]:
    text = os.path.expanduser(text)
    if os.path.isdir(text):
        return _in_folder(pathlib.Path(text), recursive)
    if os.path.lexists(text):
        require_regular(text)
        return [ImageFile(text, pathlib.Path(text).stem)]
    matches = _matches_below(text) if "**" in text else sorted(filter(os.path.isfile, glob.glob(text)))
    if not matches:
        rule = f"there is no file, folder or match of {text!r}"
        raise UserError("file-not-found", rule, _content_near(text), field="input", value=text)
    return [ImageFile(path, pathlib.Path(path).stem) for path in matches]


def _in_folder(folder: pathlib.Path, recursive: bool) -> list[ImageFile]:
    found: list[ImageFile] = []
    others: list[str] = []
    for inside, names in itertools.islice(walk(folder), None if recursive else 1):
        for path in (pathlib.Path(inside, name) for name in names):
            if not os.path.isfile(folder / path):
                others.append("no regular file")
            elif path.suffix.lower() not in IMAGE_EXTENSIONS:
                others.append(path.suffix.lower() or "no extension")
            else:
                found.append(ImageFile(str(folder / path), path.with_suffix("").as_posix()))
    left_out = ", ".join(f"{what} {number}" for what, number in collections.Counter(others).most_common())
    if not found:
        inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
        deeper = f"`recursive=true` searches its folders as well ({', '.join(inner[:3])})"
        hint = deeper if inner and not recursive else "check the path"
        rule = f"holds no image ({', '.join(IMAGE_EXTENSIONS)})" + (f", only {left_out}" if others else "")
        raise UserError("no-images", rule, hint, where=folder)
    if others:
        console.note(f"{folder}: {counted(len(others), 'file')} left out: {left_out}")
    return found


def _matches_below(pattern: str) -> list[str]:
    """Files that match a pattern with `**`; `glob` would follow links that form loops without end."""
    parts = pathlib.Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    folder = pathlib.Path(*parts[:fixed])
    rest = "/".join(parts[fixed:])
    found = (name for name in list_files(folder) if matches(name, rest))
    return sorted(str(folder / name) for name in found if os.path.isfile(folder / name))


def _content_near(text: str) -> str:
    """What the nearest existing folder of a path holds."""
    folder = pathlib.Path(text).parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    names = sorted(path.name for path in folder.iterdir())
    return f"{folder} holds {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}" if names else "check the path"
