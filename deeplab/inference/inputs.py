"""The inputs of `predict`: files, folders, patterns, `-`, addresses, pages of image files; videos are in `video.py`.

Every input is an `ImageFile` with a name for its results; `read` gives its pixels. All pixels come through
`data/images.py`.
"""

from __future__ import annotations

import glob
import os
import pathlib
import sys
import tempfile
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data import image_files, images
from deeplab.data.bands import RGB, ImageBands
from deeplab.data.given_images import to_pixels
from deeplab.data.image_files import ImageFile
from deeplab.utils import download, remote_files
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file
from deeplab.utils.remote_names import is_remote

STDIN = "-"
VIDEO_EXTENSIONS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
PAGED_EXTENSIONS = (".tif", ".tiff", ".gif", ".webp", ".png")
_MAX_BYTES = 512 << 20  # of standard input and of a download
_MAX_PAGES = 100_000
_LIMIT = download.SizeLimit(
    _MAX_BYTES, "images are not that large", "free some space in the folder for temporary files"
)


@dataclass(frozen=True)
class RemoteImage(ImageFile):
    """An image at an http or https address, which is its `path`; nothing of it stays on the disk."""


@dataclass(frozen=True)
class PipedImage(ImageFile):
    """The image that standard input holds."""


@dataclass(frozen=True)
class ImagePage(ImageFile):
    """One page or frame of an image file.

    Attributes:
      page: its number, from 0.
    """

    page: int = 0


def find_inputs(texts: Sequence[str], recursive: bool = False, all_pages: bool = False) -> list[ImageFile]:
    """The images that a person means, in the order given.

    Args:
      texts: files, folders, patterns, addresses or `-`; one text may hold several with commas between.
      recursive: search the folders inside folders as well.
      all_pages: every page or frame of an image file is an image of its own: NAME_0000, NAME_0001 ...

    Raises:
      UserError: as `image_files.find_images`; two inputs would have one result (`duplicate-names`).
    """
    found: list[ImageFile] = []
    for text in texts:
        for word in image_files.inputs_in(text):
            if word == STDIN:
                found.append(PipedImage(STDIN, "stdin"))
            elif is_address(word):
                found.append(RemoteImage(word, _name_in(word)))
            else:
                files = (
                    _in_the_cloud(word, recursive) if is_remote(word) else image_files.find_images([word], recursive)
                )
                found += [page for file in files for page in pages_of(file)] if all_pages else files
    return image_files.unique(found)


def _here(text: str, recursive: bool) -> list[ImageFile]:
    return image_files.find_images([text], recursive)


def _in_the_cloud(name: str, recursive: bool) -> list[ImageFile]:
    """The images of a remote file, folder or pattern, named as those of local ones."""
    folder = name.rstrip("/") + "/"
    found = []
    for file in remote_files.list_files(name):
        stem, extension = os.path.splitext(file)
        if extension.lower() in image_files.IMAGE_EXTENSIONS:
            inside = stem.removeprefix(folder) if file.startswith(folder) else stem.rpartition("/")[2]
            if recursive or "/" not in inside:
                found.append(ImageFile(file, inside))
    if not found:
        raise UserError("no-images", "holds no image, or does not exist", "check the name", where=name)
    return found


def _bytes_of(path: str) -> bytes:
    return remote_files.read_bytes(path) if is_remote(path) else read_file(path)


def is_address(text: str) -> bool:
    """Whether a text is an http or https address."""
    return text.lower().startswith(("http://", "https://"))


def find_videos(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The videos and cameras among inputs, with patterns such as `clips/*.mp4` resolved; and the other inputs."""
    videos: list[str] = []
    others: list[str] = []
    for text in texts:
        for word in image_files.inputs_in(text):
            if not is_video(word):
                others.append(word)
            else:
                matches = [] if os.path.lexists(word) else sorted(glob.glob(os.path.expanduser(word), recursive=True))
                videos += matches or [word]
    return list(dict.fromkeys(videos)), others


def is_video(text: str) -> bool:
    """Whether a text names a video file or a camera: a number for which there is no file."""
    if text.isascii() and text.isdigit() and not os.path.lexists(text):
        return True
    return text.lower().endswith(VIDEO_EXTENSIONS) and not os.path.isdir(text)


def pages_of(file: ImageFile) -> list[ImageFile]:
    """The pages of an image file; itself if it has one, or cannot be read, which `read` then says."""
    if not file.path.lower().endswith(PAGED_EXTENSIONS):
        return [file]
    try:
        number = images.count_pages(_bytes_of(file.path), file.path)
    except UserError:
        return [file]
    if number > _MAX_PAGES:
        rule = f"has {number:,} pages, more than {_MAX_PAGES:,}"
        raise UserError("image-too-large", rule, "cut it into several files", where=file.path, value=number)
    if number < 2:
        return [file]
    return [ImagePage(file.path, f"{file.name}_{page:04d}", page) for page in range(number)]


def read(file: ImageFile, bands: ImageBands = RGB) -> np.ndarray:
    """The pixels of an input: uint8 [H, W, 3], RGB, upright; or raw values [H, W, C] for a model of other bands.

    Raises:
      UserError: it cannot be read, is no image, or has other bands than the model.
    """
    if not bands.is_rgb:
        return _read_bands(file, bands)
    if isinstance(file, PipedImage):
        return images.decode_rgb(_standard_input(), "standard input")
    if isinstance(file, RemoteImage):
        return images.decode_rgb(_downloaded(file.path), file.path)
    if isinstance(file, ImagePage):
        return images.decode_page(_bytes_of(file.path), file.path, file.page)
    if is_remote(file.path):
        return images.decode_rgb(_bytes_of(file.path), file.path)
    return images.read_image(file.path)


def _read_bands(file: ImageFile, bands: ImageBands) -> np.ndarray:
    if isinstance(file, PipedImage):
        return to_pixels(_standard_input(), bands, "standard input")
    if isinstance(file, RemoteImage):
        return to_pixels(_downloaded(file.path), bands, file.path)
    if isinstance(file, ImagePage):
        rule, hint = "cannot be read page by page for a model of other bands than RGB", "leave it out"
        raise UserError("conflicting-settings", rule, hint, field="all_pages", where=file.path)
    return to_pixels(_bytes_of(file.path) if is_remote(file.path) else file.path, bands, file.path)


def _standard_input() -> bytes:
    data = sys.stdin.buffer.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        rule = f"holds more than {download.byte_text(_MAX_BYTES)}"
        raise UserError("file-too-large", rule, "give the path of a file", where="standard input")
    return data


def _downloaded(address: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="deeplab-") as folder:
        path = os.path.join(folder, "image")
        download.fetch(address, path, "download it with a browser, and give its path", _LIMIT, max_seconds=900)
        return pathlib.Path(path).read_bytes()


def _name_in(address: str) -> str:
    """The name for the results of an address: the last part of its path without the extension."""
    last = urllib.parse.unquote(urllib.parse.urlsplit(address).path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem = pathlib.PurePosixPath(last).stem.strip(".")
    plain = "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in stem)
    return plain or "image"
