"""Predictions as annotations: COCO, labelme, CVAT, YOLO and GeoJSON, to be opened and corrected in a tool.

To add a format, register a subclass of `AnnotationWriter`. The builders of `data/readers/` read these files back
(GeoJSON excepted), which the tests of this module check.
"""

from __future__ import annotations

import abc
import json
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr  # nosec B406  # writes; nothing is parsed

import numpy as np

from deeplab import __version__
from deeplab.inference.polygons import Region
from deeplab.utils.files import write_atomically
from deeplab.utils.registry import Registry
from deeplab.utils.remote_names import is_remote, named
from deeplab.utils.text import harmless


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """The regions of one image.

    Attributes:
      number: place of the image in the run, from 0.
      name: name of its results.
      path: the image file.
      height, width: pixels.
      regions: of all classes but the background.
    """

    number: int
    name: str
    path: str
    height: int
    width: int
    regions: Sequence[Region]

    @property
    def file_name(self) -> str:
        """The image's name with its extension, as annotation files list it."""
        return self.name + os.path.splitext(self.path)[1]


class AnnotationWriter(abc.ABC):
    """Writes the annotations of a run; `add` may be called from several threads.

    Args:
      folder: of the run's results.
      class_names: one per class.
      colors: RGB of each class, uint8 [256, 3].

    Attributes:
      published: path or remote name of the folder in which the files will be found; paths in them start there.
    """

    def __init__(self, folder: pathlib.Path, class_names: Sequence[str], colors: np.ndarray):
        self.folder, self.colors = folder, colors
        self.class_names = [harmless(name) for name in class_names]
        self.published = os.fspath(folder)
        self._lock = threading.Lock()

    @abc.abstractmethod
    def paths(self, name: str) -> list[pathlib.Path]:
        """Return the files of an image."""

    @abc.abstractmethod
    def common_paths(self) -> list[pathlib.Path]:
        """Return the files of the whole run."""

    @abc.abstractmethod
    def add(self, image: AnnotatedImage) -> None:
        """Take an image; write its files."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Write the files of the whole run."""


FORMATS: Registry[Callable[[pathlib.Path, Sequence[str], np.ndarray], AnnotationWriter]] = Registry(
    "annotation format", field="save_polygons"
)


class OneFile(AnnotationWriter):
    """Base of formats with one file for all images."""

    file_name = ""

    def __init__(self, folder: pathlib.Path, class_names: Sequence[str], colors: np.ndarray):
        super().__init__(folder, class_names, colors)
        self._images: dict[int, AnnotatedImage] = {}

    def paths(self, name: str) -> list[pathlib.Path]:
        return []

    def common_paths(self) -> list[pathlib.Path]:
        return [self.folder / self.file_name]

    def add(self, image: AnnotatedImage) -> None:
        with self._lock:
            self._images[image.number] = image

    def finish(self) -> None:
        images = [self._images[number] for number in sorted(self._images)]
        write_atomically(self.folder / self.file_name, self.content(images).encode())

    @abc.abstractmethod
    def content(self, images: Sequence[AnnotatedImage]) -> str:
        """Return the text of the file."""


class OneFilePerImage(AnnotationWriter):
    """Base of formats with a file for each image."""

    subfolder, suffix = "", ""

    def path(self, name: str) -> pathlib.Path:
        """Return the file of an image."""
        return self.folder / self.subfolder / f"{name}{self.suffix}"

    def paths(self, name: str) -> list[pathlib.Path]:
        return [self.path(name)]

    def common_paths(self) -> list[pathlib.Path]:
        return []

    def add(self, image: AnnotatedImage) -> None:
        path = self.path(image.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.text(image).encode())

    def finish(self) -> None:
        """Write nothing: all is in the files of the images."""

    @abc.abstractmethod
    def text(self, image: AnnotatedImage) -> str:
        """Return the text of an image's file."""


@FORMATS.register("coco")
class CocoWriter(OneFile):
    """COCO's JSON of objects: each region is an annotation, class numbers are category ids."""

    file_name = "coco.json"

    def content(self, images: Sequence[AnnotatedImage]) -> str:
        entries = [
            {"id": number, "file_name": image.file_name, "width": image.width, "height": image.height}
            for number, image in enumerate(images, 1)
        ]
        annotations: list[dict[str, Any]] = []
        for number, image in enumerate(images, 1):
            for region in image.regions:
                low, high = region.outline.min(axis=0), region.outline.max(axis=0)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": region.index,
                        "segmentation": [_plain(region.ring().ravel())],
                        "area": region.area,
                        "bbox": _plain(np.concatenate([low, high - low])),
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": index, "name": name} for index, name in enumerate(self.class_names) if index]
        content = {"info": _INFO, "images": entries, "annotations": annotations, "categories": categories}
        return json.dumps(content, ensure_ascii=False) + "\n"


@FORMATS.register("labelme")
class LabelmeWriter(OneFilePerImage):
    """labelme: a JSON file beside no image; its `imagePath` leads to the image."""

    subfolder, suffix = "labelme", ".json"

    def text(self, image: AnnotatedImage) -> str:
        shapes: list[dict[str, Any]] = [
            {
                "label": self.class_names[region.index],
                "points": _plain(region.ring()),
                "group_id": None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for region in image.regions
        ]
        content: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": self._path_from_here(image),
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        return json.dumps(content, ensure_ascii=False) + "\n"

    def _path_from_here(self, image: AnnotatedImage) -> str:
        """The path from an image's file to the image; its remote name where one of them is remote."""
        path, folder = named(image.path), named(self.published)
        if is_remote(path) != is_remote(folder):
            return path
        place = os.path.dirname(f"{folder}/{self.subfolder}/{image.name}")
        return pathlib.Path(os.path.relpath(path, place)).as_posix()


@FORMATS.register("cvat")
class CvatWriter(OneFile):
    """CVAT for images 1.1: one XML file."""

    file_name = "cvat.xml"

    def content(self, images: Sequence[AnnotatedImage]) -> str:
        lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
        lines += ["  <meta><task><labels>"]
        for index, name in enumerate(self.class_names):
            if index:
                color = "#{:02x}{:02x}{:02x}".format(*self.colors[index].tolist())
                lines.append(
                    f"    <label><name>{_escaped(name)}</name><color>{color}</color><type>polygon</type></label>"
                )
        lines += ["  </labels></task></meta>"]
        for number, image in enumerate(images):
            size = f'width="{image.width}" height="{image.height}"'
            lines.append(f'  <image id="{number}" name={quoteattr(image.file_name)} {size}>')
            for region in image.regions:
                points = ";".join(f"{x:g},{y:g}" for x, y in region.ring().tolist())
                label = quoteattr(self.class_names[region.index])
                lines.append(f'    <polygon label={label} source="auto" occluded="0" points="{points}" z_order="0"/>')
            lines.append("  </image>")
        return "\n".join([*lines, "</annotations>", ""])


@FORMATS.register("yolo")
class YoloWriter(OneFilePerImage):
    """YOLO: a text file per image, and `classes.txt`; class numbers count from the first class after the background."""

    subfolder, suffix = "yolo", ".txt"

    def common_paths(self) -> list[pathlib.Path]:
        return [self.folder / self.subfolder / "classes.txt"]

    def text(self, image: AnnotatedImage) -> str:
        scale = np.array([image.width, image.height])
        lines = [
            f"{region.index - 1} " + " ".join(f"{value:.9g}" for value in (region.ring() / scale).ravel().tolist())
            for region in image.regions
        ]
        return "".join(f"{line}\n" for line in lines)

    def finish(self) -> None:
        (path,) = self.common_paths()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(f"{name}\n" for name in self.class_names[1:]).encode())


@FORMATS.register("geojson")
class GeojsonWriter(OneFilePerImage):
    """GeoJSON (RFC 7946 but for the coordinates, which are pixels with y down): a feature per region, with holes."""

    subfolder, suffix = "geojson", ".geojson"

    def text(self, image: AnnotatedImage) -> str:
        features = [
            {
                "type": "Feature",
                "properties": {"class": region.index, "name": self.class_names[region.index], "area": region.area},
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [_plain(np.concatenate([r, r[:1]])) for r in (region.outline, *region.holes)],
                },
            }
            for region in image.regions
        ]
        return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False) + "\n"


_INFO = {"description": f"predicted by deeplab {__version__}"}


def _plain(values: np.ndarray) -> list[Any]:
    """Numbers for JSON: whole ones as integers."""
    whole = values.astype(np.int64)
    return whole.tolist() if (whole == values).all() else values.tolist()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
