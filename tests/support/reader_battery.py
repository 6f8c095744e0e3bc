"""What every reader of annotations must do, tested on a minimal dataset of its format.

A reader joins with one `ReaderCase` in tests/deeplab/data/readers/test_reader_battery.py: a function that writes a
dataset of one or two images and returns the config, and what must come of it.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pathlib
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deeplab.config.conversion_config import DrawnConfig, LabelConfig
from deeplab.data.labels import LabelSpec, to_label
from deeplab.data.readers import FORMATS
from deeplab.data.readers.classes import classes_from
from deeplab.data.readers.shapes import ShapesMask
from deeplab.data.readers.source import Painter, Source
from deeplab.utils.errors import UserError

MUTANTS = 100  # of each annotation file; tests/fuzz reads about 400 more, mutated in other ways
SIZE = 8, 8  # height and width on which labels are drawn
_READ_PIXELS = {"checked_runs", "coco_runs", "brush_pixels", "png_bitmap", "Bitmap"}  # of readers/bitmaps.py
_STRANGE: tuple[Any, ...] = (
    *(None, True, False, "", "text", "\x00", "nan", "../../x", 0, -1, 0.5, 1e308, -1e308, 10**30, -(10**30)),
    *([], {}, [[]], [None], [[[[1]]]], {"a": {}}, [1, 2], "0", "é" * 50, 2**31, 1e-300),
)


@dataclass(frozen=True)
class ReaderCase:
    """A format, a minimal dataset of it, and what must be read from it.

    Attributes:
      format: name in FORMATS.
      write: writes the dataset into a folder and returns the config's values. Images must be empty files.
      splits: number of pairs of each split.
      class_names: of the source.
      annotations: the annotation files, as paths in the folder, that are mutated.
      in_tables: images are members of a file that is no image, and cannot be empty.
      variant: what tells this case from others of the format.
      empty_code: code of the error for a dataset whose files are missing.
    """

    format: str
    write: Callable[[pathlib.Path], dict[str, Any]]
    splits: dict[str, int]
    class_names: tuple[str, ...] = ()
    annotations: tuple[str, ...] = field(default=())
    empty_codes: tuple[str, ...] = ("no-files", "no-pairs")
    in_tables: bool = False
    variant: str = ""

    @property
    def name(self) -> str:
        """Of the case, for the names of tests and folders."""
        return f"{self.format}_{self.variant}".strip("_")

    def read(self, settings: dict[str, Any]) -> Source:
        form = FORMATS.get(self.format)
        return form.read(form.config(**settings))


def check_minimal(case: ReaderCase, root: pathlib.Path) -> None:
    """Splits, classes, names and files are those that were written."""
    source = case.read(case.write(root))
    assert {split: len(pairs) for split, pairs in source.splits.items()} == case.splits
    assert source.class_names == case.class_names
    for pairs in source.splits.values():
        assert len({pair.name for pair in pairs}) == len(pairs)
    for pair in source.pairs():
        assert file_of(pair.image).is_file() and pair.mask_file


def file_of(image: str) -> pathlib.Path:
    """The file that an image is, or is a member of."""
    return pathlib.Path(image if pathlib.Path(image).exists() else image.rpartition("#")[0])


def check_no_pixels(case: ReaderCase, root: pathlib.Path) -> None:
    """Images are empty files, so that reading a pixel would fail; nothing is written either."""
    settings = case.write(root)
    before = sorted(path for path in root.rglob("*"))
    source = case.read(settings)
    assert case.in_tables or all(file_of(pair.image).stat().st_size == 0 for pair in source.pairs())
    assert sorted(path for path in root.rglob("*")) == before


def check_picklable(case: ReaderCase, root: pathlib.Path) -> None:
    """The source travels to worker processes and draws the same labels there."""
    source = case.read(case.write(root))
    other = pickle.loads(pickle.dumps(source))
    assert [pair.name for pair in other.pairs()] == [pair.name for pair in source.pairs()]
    if source.drawn:
        for one, two in zip(drawn(source), drawn(other), strict=True):
            np.testing.assert_array_equal(one, two)


def check_empty(case: ReaderCase, root: pathlib.Path) -> None:
    """A dataset without any file is refused by a code."""
    settings = case.write(root)
    for path in root.rglob("*"):
        if path.is_file():
            path.unlink()
    try:
        case.read(settings)
    except UserError as error:
        assert error.code in case.empty_codes, error
    else:
        raise AssertionError("a dataset without files was read")


def check_named_splits(case: ReaderCase, root: pathlib.Path) -> None:
    """`train:PATH,val:PATH` names splits, of every format whose annotations are files or a folder of them."""
    settings = case.write(root)
    for name in _named_by_split(case) & settings.keys():
        both = {**settings, name: f"train:{settings[name]},val:{settings[name]}"}
        splits = {split: len(pairs) for split, pairs in case.read(both).splits.items()}
        assert splits == dict.fromkeys(("train", "val"), case.splits[""])


def check_several_files(case: ReaderCase, root: pathlib.Path) -> None:
    """Two annotation files of one split, with images of the same names in folders of their own."""
    both = []
    for part in ("one", "two"):
        (root / part).mkdir()
        both.append(case.write(root / part))
    for name in _named_by_split(case) & both[0].keys():
        joined = {**both[0], name: ",".join(f"train:{settings[name]}" for settings in both)}
        for folder in {"image_folder": ("", str(root))}.get(
            "image_folder" if "image_folder" in joined else "", (None,)
        ):
            settings = joined if folder is None else {**joined, "image_folder": folder}
            pairs = case.read(settings).splits["train"]
            assert len({pair.name for pair in pairs}) == len(pairs) == 2 * case.splits[""]
            assert len({pair.image for pair in pairs}) == len(pairs)


def _named_by_split(case: ReaderCase) -> set[str]:
    """Settings of a format whose help says that they take train:PATH,val:PATH, apart from folders of images."""
    fields = dataclasses.fields(FORMATS.get(case.format).config)
    return {each.name for each in fields if "train:F" in each.metadata["help"] and each.name != "image_folder"}


def check_matrix(case: ReaderCase, page: str) -> None:
    """The row of the format in the matrix of docs/data.md says what the reader does."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith(f"| `{case.format}` |")]
    (row,) = [row for row in rows if len(row) == 7]
    is_drawn = issubclass(FORMATS.get(case.format).config, DrawnConfig)
    assert (row[3] == "mask files") == (not is_drawn)
    if is_drawn:  # what the reader's module imports, it draws
        names = set(vars(inspect.getmodule(FORMATS.get(case.format).reader)))
        assert row[1].startswith("yes") == bool(names & {"polygon", "polygons"})
        assert row[2] != "no" or not names & {"rectangle", "ellipse"}
        assert (row[3] == "no") == (not names & _READ_PIXELS)
    assert (row[4] == "yes") == (is_drawn and "annotations" in _named_by_split(case))
    assert ("`train:`" in row[5]) == bool(_named_by_split(case))
    assert row[6] == "yes"  # which `check_merged` tests


def check_merged(case: ReaderCase, root: pathlib.Path) -> None:
    """The setting `classes` makes one class of all, by name, or by value where nothing names the classes."""
    source = case.read(case.write(root))
    classes = classes_from(LabelConfig(classes=("thing=*",)), source)
    assert classes.names in (("background", "thing"), ("thing",))
    if source.drawn:
        values = [set(np.unique(label).tolist()) for label in drawn(source, classes.painter)]
        assert not values or 1 in set().union(*values) <= {0, 1, 255}
    else:
        values = np.array([[0, 1, classes.rule.before.ignore_label]], np.uint8)
        label, _ = to_label(values, "a.png", classes.rule)
        assert set(np.unique(label)) <= {0, 1, 255}


def check_mutants(case: ReaderCase, root: pathlib.Path) -> None:
    """Mutated annotation files give a source or a UserError, never another exception."""
    settings = case.write(root)
    for name in case.annotations:
        path = root / name
        original = path.read_bytes()
        for mutant in mutants(original, path.suffix, MUTANTS):
            path.write_bytes(mutant)
            try:
                source = case.read(settings)
                if source.drawn:
                    drawn(source)
            except UserError as error:
                assert error.code != "unclassified"
        path.write_bytes(original)


def drawn(source: Source, painter: Painter | None = None) -> list[np.ndarray]:
    """The labels of all pairs that are drawn from shapes, on images of a small size."""
    painter = painter or Painter(source.class_names, LabelSpec())
    return [
        pair.mask.draw(painter, *(pair.mask.size if _is_small(pair.mask.size) else SIZE))
        for pair in source.pairs()
        if isinstance(pair.mask, ShapesMask)
    ]


def _is_small(size: tuple[int, int] | None) -> bool:
    return size is not None and max(size) < 1000


def mutants(original: bytes, suffix: str, number: int) -> Iterator[bytes]:
    """Variants of a file: values of other types and missing keys where it is JSON, damaged bytes in any file."""
    rng = random.Random(0)
    for index in range(number):
        if suffix == ".json" and index % 4:
            content = json.loads(original)
            for _ in range(rng.choice((1, 1, 2))):
                content = _changed(content, rng)
            yield json.dumps(content).encode("utf-8", "surrogatepass")
        else:
            yield _damaged(original, rng)


def _changed(content: Any, rng: random.Random) -> Any:
    """A copy in which one value, anywhere in the tree, is replaced, removed, doubled or nested."""
    places = list(_places(content))
    if not places:
        return rng.choice(_STRANGE)
    content = copy.deepcopy(content)
    way, key = rng.choice(places)
    holder = content
    for step in way:
        holder = holder[step]
    kind = rng.randrange(5)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif kind == 2:
        holder[key] = [holder[key]]
    else:
        holder[key] = copy.deepcopy(rng.choice(_STRANGE))
    return content


def _places(content: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield way, key
        yield from _places(value, (*way, key))


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes in which a part is cut, doubled or replaced by words that mean something in some format."""
    words = (b"", b"-1", b"1e999", b"nan", b'"', b"<", b">", b"&a;", b"\xff\xfe", b"\x00", b"999999999999", b"[" * 600)
    start = rng.randrange(len(data) + 1)
    stop = min(len(data), start + rng.choice((0, 1, 1, 3, 20)))
    part = data[start:stop] * 2 if rng.random() < 0.2 else rng.choice(words)
    return data[:start] + part + data[stop:]
