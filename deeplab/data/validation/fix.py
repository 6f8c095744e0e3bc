"""`fix=FOLDER`: a mended copy of a dataset, as far as the hint is certain.

    FOLDER/images, FOLDER/masks   plain parallel folders; masks that were changed are palette PNGs of class indices
    FOLDER/lists/SPLIT.txt        the names of each split
    FOLDER/classes.txt            class names, for `class_names`; dataset.yml has their colors, too
    FOLDER/mended.txt             what was done, set by set and file by file
    FOLDER/left_out.txt           pairs whose hint is not certain, and why; what lists and folders hold that is none

What is certain: values numbered in their order and known palettes (`fix_plan.py`), colors within the tolerance that
the user has stated, photos turned upright where the mask fits that, masks of 16 bits or with an alpha channel that
says nothing, and wrong extensions. All else is copied byte for byte, or left out. Nothing of the original is touched.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from deeplab.data import dataset as datasets
from deeplab.data.colormaps import colors_for
from deeplab.data.image_files import kind_of
from deeplab.data.images import PreparedImage, prepare
from deeplab.data.labels import DecodedLabel, decode_label, decode_values, encode_index_png, encode_label, to_label
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.fix_folder import finish, opened, write
from deeplab.data.validation.fix_plan import Plan, colors_of, plan_for
from deeplab.data.validation.items import Item, Loaded
from deeplab.data.validation.pair_checks import is_its_mask
from deeplab.data.validation.rules import ABOUT_FILES
from deeplab.data.validation.subject import Subject
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.parallel import ordered_map
from deeplab.utils.text import counted

IMAGES, MASKS, LISTS = "images", "masks", "lists"
CLASSES, DONE, LEFT_OUT = "classes.txt", "mended.txt", "left_out.txt"
_LONGEST_PART = 200  # characters of a name; file systems take 255 bytes
_EXTENSIONS: Mapping[str, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg"),
    "tiff": (".tif", ".tiff"),
    "ppm": (".ppm", ".pgm"),
}


Change = tuple[str, str]  # "image", "mask" or "list", and what was done to it


@dataclass(frozen=True)
class MendedPair:
    """A pair that is fit for training.

    Attributes:
      name: of both files, without extension; subfolders with slashes.
      split: its split.
      image, mask: the bytes of the two files.
      image_extension, mask_extension: with the dot.
      done: which file was changed, "image" or "mask", and how; empty where both are as they were.
      snapped: pixels whose color was not in the palette and became the nearest that is.
    """

    name: str
    split: str
    image: bytes
    image_extension: str
    mask: bytes
    mask_extension: str
    done: Sequence[Change] = ()
    snapped: int = 0

    @property
    def digest(self) -> bytes:
        """Of both files."""
        return hashlib.blake2b(self.image + b"\0" + self.mask, digest_size=16).digest()


@dataclass(frozen=True)
class LeftOut:
    """A pair whose hint is not certain.

    Attributes:
      name: its name, or where it stands.
      split: its split.
      why: what is wrong, and what could be done.
    """

    name: str
    split: str
    why: str


@dataclass
class Mended:
    """What came of it.

    Attributes:
      folder: of the copy.
      names: names of the pairs of each split.
      done: changes of single files: (file, change).
      for_all: changes that all masks share.
      left_out: pairs that are not in the copy.
      unlisted: faults of the lists and folders: what they name, or hold, that is no pair.
      snapped: pixels that took the nearest color.
      command: builds records of the copy.
    """

    folder: pathlib.Path
    names: dict[str, list[str]] = field(default_factory=dict)
    done: list[tuple[str, Change]] = field(default_factory=list)
    for_all: Sequence[str] = ()
    left_out: list[LeftOut] = field(default_factory=list)
    unlisted: list[LeftOut] = field(default_factory=list)
    snapped: int = 0
    command: str = ""

    def text(self) -> str:
        """What was done, for the terminal."""
        changes = collections.Counter(change for _, change in self.done)
        number = sum(map(len, self.names.values()))
        mended = counted(len({file for file, _ in self.done}), "file")
        lines = [f"{self.folder}: {counted(number, 'pair')}, {mended} mended"]
        lines += [f"  {sentence}" for sentence in self.for_all]
        lines += [
            f"  {times} {kind}{'s' if times > 1 else ''}: {what}" for (kind, what), times in changes.most_common()
        ]
        lines += [f"  {self.snapped} pixels took the nearest color of the palette"] if self.snapped else []
        if self.left_out:
            pairs = counted(len(self.left_out), "pair")
            lines.append(f"  {pairs} left out, because no hint is certain: see {LEFT_OUT}")
        if self.unlisted:
            faults = counted(len(self.unlisted), "fault")
            lines.append(f"  {faults} of lists and folders: see {LEFT_OUT}")
        return "\n".join([*lines, "records are built from it with", f"  {self.command}"])


def fix(subject: Subject, folder: str | os.PathLike, workers: int = 1) -> Mended:
    """Writes a mended copy of a dataset into a new or empty folder.

    A run that was stopped is gone on with by running it again; its folder is known by a file that goes when all is
    written. Pairs of records and of files are mended alike.

    Args:
      subject: the dataset.
      folder: where to.
      workers: pairs in work at the same time.

    Raises:
      UserError: the folder holds something else, is in use or cannot be written to; it cannot be told what the labels
        are to hold; or not one pair can be mended.
    """
    folder = pathlib.Path(folder)
    with opened(folder, subject):
        plan = plan_for(subject, workers)
        mended = _write_pairs(subject, plan, folder, workers)
        if not any(mended.names.values()):
            first = mended.left_out[0] if mended.left_out else LeftOut(subject.checked, "", "holds no pair")
            raise UserError(
                "unclassified", f"no pair can be mended for certain; {first.name}: {first.why}", field="fix"
            )
        _write_words(mended, plan, subject.checked, folder)
        finish(folder)
    return mended


# --- One pair -------------------------------------------------------------------------------------------------


def mend(item: Item, plan: Plan) -> MendedPair | LeftOut:
    """One pair, mended."""
    loaded = item.load()
    name = safe_name(loaded.name or loaded.where)
    if loaded.image is None or loaded.mask is None:
        why = "; ".join(_sentence(finding.text, finding.hint) for finding in loaded.findings)
        return LeftOut(loaded.name or loaded.where, loaded.split, why or "has no label")
    try:
        return _mended(loaded, name, plan)
    except UserError as fault:
        return LeftOut(loaded.name or loaded.where, loaded.split, _sentence(f"{fault.where}: {fault.rule}", fault.hint))


def _sentence(rule: str, hint: str) -> str:
    return f"{rule}; {hint}" if hint else rule


def _mended(loaded: Loaded, name: str, plan: Plan) -> MendedPair:
    assert loaded.image is not None
    assert loaded.mask is not None
    if isinstance(loaded.mask, bytes):
        decoded, unchanged, done = _read_mask(loaded.mask, loaded, plan)
        picture = prepare(loaded.image, loaded.where, decoded.label.shape, plan.exif, decode=True)
    else:
        picture = prepare(loaded.image, loaded.where, loaded.mask.size, plan.exif, decode=True)
        decoded, unchanged, done = _drawn_mask(loaded, picture, plan), False, []
    height, width = decoded.label.shape
    if (height, width) != (picture.height, picture.width):
        rule = f"the mask is {width} wide and {height} high, its image {picture.width} wide and {picture.height} high"
        raise UserError("unclassified", rule, "resize or turn one of the two", where=loaded.mask_where)
    if is_its_mask(loaded, picture, decoded.label):
        raise UserError(
            "unclassified",
            f"holds the same pixels as {loaded.mask_where}",
            "put the photo in its place",
            where=loaded.where,
        )
    image, image_extension, changes = _image_file(loaded, picture)
    colors = colors_for(plan.classes.colors, 0)
    mask = loaded.mask if unchanged and isinstance(loaded.mask, bytes) else encode_index_png(decoded.label, colors)
    return MendedPair(name, loaded.split, image, image_extension, mask, ".png", [*changes, *done], decoded.snapped)


def _read_mask(data: bytes, loaded: Loaded, plan: Plan) -> tuple[DecodedLabel, bool, list[Change]]:
    """The label, whether its file can stay as it is, and what is changed."""
    where, in_colors = loaded.mask_where, colors_of(data) is not None
    rule = plan.of_colors if in_colors else plan.classes.rule
    decoded = decode_label(data, where, rule)
    if in_colors:
        return decoded, False, [("mask", "colors became class indices")]
    if rule.mapping or rule.table or rule.ignore_bad:
        values = decode_values(data, where, dataclasses.replace(rule, table=None))
        if not np.array_equal(values, decoded.label):
            return decoded, False, [("mask", "values became class indices")]
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[24:26] not in (b"\x08\x00", b"\x08\x03"):  # gray or palette
        return decoded, False, [("mask", "became an 8-bit PNG of class indices")]
    extension = _extension(loaded, where)
    return decoded, True, [] if extension.lower() in (".png", "") else [("mask", f"PNG, was called {extension}")]


def _extension(loaded: Loaded, where: str) -> str:
    """Of a file; a place in a shard has none."""
    return os.path.splitext(where)[1] if loaded.fields is None else ""


def _drawn_mask(loaded: Loaded, picture: PreparedImage, plan: Plan) -> DecodedLabel:
    """A label out of shapes."""
    assert loaded.mask is not None and not isinstance(loaded.mask, bytes)
    height, width = loaded.mask.size or (picture.height, picture.width)
    painter = plan.classes.painter
    label, counts = to_label(loaded.mask.draw(painter, height, width), loaded.mask_where, painter.rule)
    return DecodedLabel(label, counts, encode_label(label))


def _image_file(loaded: Loaded, picture: PreparedImage) -> tuple[bytes, str, list[Change]]:
    """Bytes and extension of the image's file, and what was changed: only what is turned is encoded anew."""
    assert loaded.image is not None
    if "turned" in picture.notes:
        return picture.data, _usual(picture.format), [("image", "turned upright")]
    kind = kind_of(loaded.image, loaded.where)
    given = _extension(loaded, loaded.where)
    if given.lower() in _EXTENSIONS.get(kind, (f".{kind}",)):
        return loaded.image, given, []
    changes = [("image", f"{kind.upper()}, was called {given}")] if given else []
    return loaded.image, _usual(kind), changes


def _usual(kind: str) -> str:
    return _EXTENSIONS.get(kind, (f".{kind}",))[0]


def safe_name(name: str) -> str:
    """A name that stays inside the folder on every system: no `..`, no drive, no backslash, no control character.

    Nor anything that is no Unicode, as names of files may hold.
    """
    parts = [re.sub(r'[\x00-\x1f\x7f\ud800-\udfff\\:*?"<>|]', "_", part).strip() for part in name.split("/")]
    kept = [part[:_LONGEST_PART] for part in parts if part.strip(".")]
    return "/".join(kept) or "image"


# --- All pairs ------------------------------------------------------------------------------------------------


def _write_pairs(subject: Subject, plan: Plan, folder: pathlib.Path, workers: int) -> Mended:
    """Mends all pairs, and writes those that can be."""
    mended = Mended(folder, for_all=plan.said(), unlisted=_unlisted(subject))
    written: dict[str, bytes] = {}
    listed: dict[str, dict[str, None]] = {}  # names of each split in order, none twice
    pairs = ordered_map(lambda item: _or_finding(item, plan), subject.items(), workers)
    for pair in console.progress(pairs, total=subject.total, what="mending", unit="pair"):
        if isinstance(pair, MendedPair) and written.get(pair.name, pair.digest) != pair.digest:
            pair = LeftOut(pair.name, pair.split, "another pair of this name has other contents; give each its own")
        if isinstance(pair, LeftOut):
            mended.left_out.append(pair)
            continue
        if pair.name not in written:
            _write_pair(folder, pair, mended)
            written[pair.name] = pair.digest
        names = listed.setdefault(pair.split, {})
        if pair.name in names:
            mended.done.append((f"{LISTS}/{pair.split}.txt", ("list", "a name stood there twice")))
        names[pair.name] = None
    mended.names = {split: list(names) for split, names in listed.items()}
    return mended


def _unlisted(subject: Subject) -> list[LeftOut]:
    """What was found while listing, and cannot be in the copy."""
    return [
        LeftOut(item.where, item.split, _sentence(item.text, item.hint))
        for item in subject.findings
        if item.rule in ABOUT_FILES
    ]


def _or_finding(item: Item | Finding, plan: Plan) -> MendedPair | LeftOut:
    if isinstance(item, Finding):
        return LeftOut(item.where, item.split, _sentence(item.text, item.hint))
    return mend(item, plan)


def _write_pair(folder: pathlib.Path, pair: MendedPair, mended: Mended) -> None:
    image = pathlib.Path(IMAGES, pair.name + pair.image_extension)
    mask = pathlib.Path(MASKS, pair.name + pair.mask_extension)
    write(folder / image, pair.image)
    write(folder / mask, pair.mask)
    mended.snapped += pair.snapped
    mended.done += [(str(mask if change[0] == "mask" else image), change) for change in pair.done]


def _write_words(mended: Mended, plan: Plan, checked: str, folder: pathlib.Path) -> None:
    """Lists, classes, what was done and what was left out; works out the command."""
    lists = {split: folder / LISTS / f"{safe_name(split) if split else 'all'}.txt" for split in mended.names}
    for split, names in mended.names.items():
        write(lists[split], "".join(f"{name}\n" for name in names).encode())
    classes = plan.classes
    described = datasets.Dataset(folder.resolve().name, classes.names, tuple(classes.colors), classes.rule.ignore_label)
    datasets.save(described, folder / datasets.FILE_NAME)
    plain = [name.replace("#", "＃").strip() or f"class_{index}" for index, name in enumerate(classes.names)]
    write(folder / CLASSES, "".join(f"{name}\n" for name in plain).encode())  # `#` would begin a remark there
    done = [f"a mended copy of {checked}", *mended.for_all, *(f"{file}: {what}" for file, (_, what) in mended.done)]
    write(folder / DONE, "\n".join([*done, ""]).encode("utf-8", "replace"))
    entries = [*mended.left_out, *mended.unlisted]
    left = [f"{entry.name}{f' (split {entry.split})' if entry.split else ''}: {entry.why}" for entry in entries]
    write(folder / LEFT_OUT, "".join(" ".join(line.split()) + "\n" for line in left).encode("utf-8", "replace"))
    mended.command = _command(folder, list(lists.values()), classes.rule.ignore_label)


def _command(folder: pathlib.Path, lists: Sequence[pathlib.Path], ignore_label: int) -> str:
    words = [
        *("python", "-m", "deeplab.build_data", "folder"),
        f"`image_folder={folder / IMAGES}`",
        f"`mask_folder={folder / MASKS}`",
        f"`list_files={','.join(map(str, lists))}`",
        f"`class_names={folder / CLASSES}`",
        *([f"`ignore_label={ignore_label}`"] if ignore_label != 255 else []),
        f"`output_dir={folder / 'tfrecord'}`",
    ]
    return shlex.join(words)
