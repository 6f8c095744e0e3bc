"""Which classes the labels have, from everything that the user and the data say about them."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.config.conversion_config import LabelConfig
from deeplab.config.fields import split_words
from deeplab.data import dataset as datasets
from deeplab.data.class_names import is_background, names_in, with_background
from deeplab.data.colormaps import ColorTable, colors_for, read_color_table, table_of
from deeplab.data.dataset import Color, Dataset
from deeplab.data.label_bits import IGNORE_8_BIT, IGNORE_16_BIT, bits_of, usual_ignore_label
from deeplab.data.labels import LabelSpec, Merges, are_gray_levels, parse_label_map, spread_map
from deeplab.data.merged_classes import MergedClasses, merge
from deeplab.data.readers.annotation_values import require_plain
from deeplab.data.readers.source import Painter, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.text import shorten

_VOC_NAME = re.compile(r"^20\d\d_\d{6}$")
_MADE_UP = re.compile(r"background|class_\d+")


@dataclass(frozen=True)
class DatasetClasses:
    """What is known about the classes before the masks are read.

    Attributes:
      num_classes: None if the highest label will decide.
      names: empty if there are none.
      colors: empty if there are none.
      rule: how mask pixels become labels.
      drawn: labels are drawn from shapes, not read from mask files.
      merged: what the setting `classes` made of the classes; None without it.
    """

    num_classes: int | None
    names: tuple[str, ...]
    colors: tuple[Color, ...]
    rule: LabelSpec
    drawn: bool = False
    merged: MergedClasses | None = None

    @property
    def painter(self) -> Painter:
        """What masks that are drawn need to know."""
        return Painter(self.names, self.rule, self.merged.values if self.merged and self.drawn else {})


def classes_from(
    config: LabelConfig, source: Source, other_splits: Dataset | None = None, tell: bool = True
) -> DatasetClasses:
    """Returns the classes on which config, files, the format and an existing description agree.

    Args:
      config: the config; it comes first.
      source: the format's own classes; PASCAL VOC is recognized by the names of its images, too.
      other_splits: description of splits that the output folder contains already and that stay there.
      tell: print what was guessed.

    Raises:
      UserError: two sources contradict each other.
    """
    # A palette that was only found beside the masks does not replace the classes of a known dataset.
    palette = config.palette or ("" if config.dataset and not source.known else source.palette)
    table = read_color_table(palette) if palette else None
    described = _described(config, None if config.classes else other_splits, source) or _voc(
        config, table, source, tell
    )
    names = _names(config, table, described, source.drawn)
    if config.classes and config.num_classes and not names and described:
        names = described.class_names  # `num_classes` is that after merging
    if source.drawn and not names and source.class_names:
        rule = f"is {config.num_classes}, but the annotations have {len(source.class_names)} classes"
        hint = "leave it out, or set `class_names` as well"
        rule = f"{rule}: {shorten(source.class_names, 8)}"
        raise UserError("class-count-mismatch", rule, hint, field="num_classes", value=config.num_classes)
    merged = _merged(config, names, described, source.drawn)
    _require_few(names, source.drawn, merged)
    num_classes = _agreed_number(None if merged else config.num_classes, names, described)
    colors = table.class_colors() if table else described.colors if described else ()
    ignore_label = _ignore_label(config, described, num_classes, tell)
    rule_of_labels = LabelSpec(
        num_classes=num_classes,
        ignore_label=ignore_label,
        mapping=parse_label_map(config.label_map) or source.label_map or None,
        table=table or _table_of(described if config.dataset or source.known else None),
        tolerance=config.color_tolerance,
        ignore_bad=config.on_bad_label == "ignore",
    )
    found = DatasetClasses(num_classes, names, colors, rule_of_labels, source.drawn)
    if merged:
        found = _with_merged(found, merged)
        _agreed_number(config.num_classes, found.names, None)
    _require_agreement(found, other_splits)
    return found


def _ignore_label(config: LabelConfig, described: Dataset | None, num_classes: int | None, tell: bool) -> int:
    """Returns the ignore label; beyond 256 classes, 255 is a class, so that the usual one is 65535."""
    if config.ignore_label != IGNORE_8_BIT:
        return config.ignore_label
    found = described.ignore_label if described else IGNORE_8_BIT
    if found == IGNORE_8_BIT and (described is None or num_classes != described.num_classes):
        found = usual_ignore_label(num_classes)
    if tell and found == IGNORE_16_BIT and bits_of(num_classes) == 16:
        console.note(f"{num_classes} classes: labels have 16 bits, 255 is a class, and the ignore label is {found}")
    return found


def _described(config: LabelConfig, other_splits: Dataset | None, source: Source) -> Dataset | None:
    if config.dataset:
        return datasets.find(config.dataset)
    if other_splits is not None:
        return other_splits
    if source.known:
        return datasets.load_known(source.known)
    if source.class_names:
        is_usual = source.ignore_label == IGNORE_8_BIT
        ignore_label = usual_ignore_label(len(source.class_names)) if is_usual else source.ignore_label
        return Dataset("", source.class_names, source.colors, ignore_label)
    return None


def _voc(config: LabelConfig, table: ColorTable | None, source: Source, tell: bool) -> Dataset | None:
    """Returns PASCAL VOC if nothing is said about the classes and all images are named like its images."""
    told = table or config.class_names or config.num_classes or config.ignore_label != 255 or config.label_map
    if told or not all(_VOC_NAME.match(pair.name) for pairs in source.splits.values() for pair in pairs):
        return None
    known = datasets.load_known(datasets.DEFAULT_NAME)
    if tell:
        console.note(
            f"the images are named like PASCAL VOC's: using its {known.num_classes} classes (set `num_classes` or "
            "`class_names` for others)"
        )
    return known


def _names(config: LabelConfig, table: ColorTable | None, described: Dataset | None, drawn: bool) -> tuple[str, ...]:
    if config.class_names:
        names = _read_names(config.class_names)
        return with_background(names) if drawn and not any(map(is_background, names)) else names
    if table:
        return table.names
    if described and config.num_classes in (None, described.num_classes):
        return described.class_names
    return ()


def _read_names(text: str) -> tuple[str, ...]:
    if os.path.isfile(text):
        names = names_in(text)
    elif "," in text:
        names = tuple(split_words(text))
    else:
        hint = "set a file with one name per line, or a list such as background,hair,skin"
        raise UserError("file-not-found", f"no such file: {text}", hint, field="class_names", value=text)
    repeated = sorted(name for name, number in collections.Counter(names).items() if number > 1)
    if repeated:
        rule, hint = f"{text} names {', '.join(repeated)} more than once", "give each class a name of its own"
        raise UserError("duplicate-name", rule, hint, field="class_names", value=tuple(repeated))
    if not names:
        raise UserError("missing-class-names", f"{text} names no class", "list the classes", field="class_names")
    for name in names:
        require_plain(name, "a class name", field="class_names")
    return names


def _merged(config: LabelConfig, names: Sequence[str], described: Dataset | None, drawn: bool) -> MergedClasses | None:
    """Returns what `classes` makes of the classes. Where nothing names them, their label values are their names."""
    if not config.classes:
        return None
    if names:
        ignored = described.ignore_label if described and not drawn else -1
        return merge(config.classes, [name for value, name in enumerate(names) if value != ignored])
    number = LabelSpec(config.num_classes, config.ignore_label).limit
    return merge(config.classes, [str(value) for value in range(number) if value != config.ignore_label], True)


def _with_merged(found: DatasetClasses, merged: MergedClasses) -> DatasetClasses:
    """Returns the classes after merging."""
    before, number = found.rule, len(merged.names)
    ignore = before.ignore_label if before.ignore_label >= number else usual_ignore_label(number)
    if found.num_classes is not None and before.ignore_label < found.num_classes:  # ADE20K's 0: a class might get it
        ignore = usual_ignore_label(number)
    if ignore == IGNORE_16_BIT and bits_of(found.num_classes) == 16:  # few of many classes need 8 bits only
        ignore = usual_ignore_label(number)
    rule = dataclasses.replace(before, num_classes=number, ignore_label=ignore)
    old = found.names or tuple(map(str, range(before.limit)))
    if not found.drawn:
        new = {place: merged.values[name] for place, name in enumerate(old) if name in merged.values}
        values = {place: ignore if value is None else value for place, value in new.items()}
        rule = dataclasses.replace(rule, merges=Merges(before, values | {before.ignore_label: ignore}))
    colors = dict(zip(old, found.colors, strict=False)) if found.colors else {}
    members = [merged.first_member(place, colors) for place in range(number)]
    return DatasetClasses(
        number,
        merged.names,
        tuple(colors[member] for member in members if member) if all(members) else (),
        rule,
        found.drawn,
        merged,
    )


def _require_few(names: Sequence[str], drawn: bool, merged: MergedClasses | None) -> None:
    """Raises a UserError if labels of 16 bits cannot tell the classes apart."""
    kept = merged.names if merged else names
    if len(kept) <= datasets.MAX_CLASSES:
        return
    if not drawn:
        rule = f"there are {len(kept)} class names; labels of 16 bits hold {datasets.MAX_CLASSES}"
        raise UserError("too-many-classes", rule, "use fewer classes", field="class_names", value=len(kept))
    rule = f"there are {len(kept)} classes with the background; labels of 16 bits hold {datasets.MAX_CLASSES}"
    hint = "merge or drop some with `classes`, e.g. `classes='car=car|truck,background=*'`"
    raise UserError("too-many-classes", rule, hint, where="annotations", value=len(kept))


def _agreed_number(num_classes: int | None, names: Sequence[str], described: Dataset | None) -> int | None:
    if names and num_classes not in (None, len(names)):
        rule = f"is {num_classes}, but there are {len(names)} class names ({', '.join(names[:8])})"
        hint = "the background counts as a class, the ignore label does not"
        raise UserError("class-count-mismatch", rule, hint, field="num_classes", value=num_classes)
    if names:
        return len(names)
    return num_classes or (described.num_classes if described else None)


def _table_of(described: Dataset | None) -> ColorTable | None:
    if described is None or not described.colors or len(set(described.colors)) < described.num_classes:
        return None
    return table_of(described)


def _require_agreement(found: DatasetClasses, other_splits: Dataset | None) -> None:
    if other_splits is None:
        return
    ours = (found.num_classes, found.rule.ignore_label)
    theirs = (other_splits.num_classes, other_splits.ignore_label)
    held = f"the existing records (splits {', '.join(other_splits.splits)}) have"
    hint = "write into another folder, or use the same classes"
    if ours != theirs:
        rule = f"{held} {theirs[0]} classes and ignore label {theirs[1]}, these would have {ours[0]} and {ours[1]}"
        raise UserError("class-mismatch", rule, hint, field="output_dir", value=theirs)
    for index, (name, other) in enumerate(zip(found.names, other_splits.class_names, strict=False)):
        if name != other and not (_MADE_UP.fullmatch(name) or _MADE_UP.fullmatch(other)):
            rule = f"{held} {other!r} as class {index}, these would have {name!r}"
            raise UserError("class-mismatch", rule, hint, field="output_dir", value=other)


# --- After the masks were read ------------------------------------------------------------------------------


def settle(classes: DatasetClasses, counts: np.ndarray) -> DatasetClasses:
    """Returns the classes with number, names and colors filled in from what the labels contain.

    Args:
      classes: what was known before.
      counts: pixels of each label value over all splits, int64 [256], or [65536] of 16 bits.

    Raises:
      UserError: the labels cannot be right: they have one class only, or values that are not class indices.
    """
    ignore = classes.rule.ignore_label
    present = [int(value) for value in np.flatnonzero(counts) if value != ignore]
    require_several_classes(present, counts, ignore, classes.drawn)
    number = classes.num_classes or present[-1] + 1
    if classes.num_classes is None:
        _require_indices(present, ignore)
        console.note(f"labels go up to {present[-1]}: using num_classes={number} (the background counts)")
    names = classes.names or ("background", *(f"class_{index}" for index in range(1, number)))
    colors = classes.colors
    if len(colors) != number:
        colors = tuple((int(r), int(g), int(b)) for r, g, b in colors_for(None, number)[:number])
    return dataclasses.replace(classes, num_classes=number, names=names, colors=colors)


def require_several_classes(present: Sequence[int], counts: np.ndarray, ignore_label: int, drawn: bool = False) -> None:
    """Raises a UserError if all labeled pixels have the same class, from which nothing can be learned."""
    if len(present) > 1:
        return
    where = "annotations" if drawn else "masks"
    ignored = int(counts[ignore_label])
    if not present:
        hint = "check which classes and shapes mean ignored pixels" if drawn else "check `ignore_label`"
        rule = f"every pixel has the ignore label {ignore_label}"
        raise UserError("single-class", rule, hint, where=where, value=ignore_label)
    rule, hint = f"every pixel that counts is class {present[0]}", "check that these are the right files"
    if ignored and drawn:
        rule += f": all shapes become ignored pixels ({ignore_label})"
        hint = "check classes that mean ignored pixels, such as 'void', and crowd regions"
    elif ignored:
        rule += f": the masks contain only {present[0]} and {ignore_label}, and {ignore_label} is the ignore label"
        hint = f"`label_map={ignore_label}:1` if {ignore_label} means class 1"
    raise UserError("single-class", rule, hint, where=where, value=present[0])


def _require_indices(present: Sequence[int], ignore_label: int) -> None:
    """Refuses values such as 0, 150, 250, which are gray tones."""
    if not are_gray_levels(present):
        return
    highest = present[-1]
    shown = ", ".join(map(str, present[:8])) + (" ..." if len(present) > 8 else "")
    rule = f"contain the values {shown}: as class indices they would mean {highest + 1} classes"
    hint = f"`label_map={spread_map(present)}` to number them, or `num_classes={highest + 1}` if that is right"
    raise UserError("not-indices", rule, hint, where="masks", value=tuple(present))
