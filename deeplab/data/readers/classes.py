"""Which classes the labels have, from everything that the user and the data say of them."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.config.conversion_config import LabelConfig
from deeplab.data import dataset as datasets
from deeplab.data.colormaps import ColorTable, colors_for, read_color_table, table_of
from deeplab.data.dataset import Color, Dataset
from deeplab.data.labels import LabelRule, parse_label_map, spread_map
from deeplab.data.readers.annotation_files import require_plain
from deeplab.data.readers.source import BACKGROUND, Painter, Source, indices_of, with_background
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_text, shorten

_VOC_NAME = re.compile(r"^20\d\d_\d{6}$")
_REMARK = re.compile(r"(^|\s)#.*")  # not that of the class C#
_MADE_UP = re.compile(r"background|class_\d+")


@dataclass(frozen=True)
class Classes:
    """What is known of the classes before the masks are read.

    Attributes:
      num_classes: None where the highest label will decide.
      names: empty where there are none.
      colors: empty where there are none.
      rule: how mask pixels become labels.
    """

    num_classes: int | None
    names: tuple[str, ...]
    colors: tuple[Color, ...]
    rule: LabelRule

    @property
    def painter(self) -> Painter:
        """What masks that are drawn need to know."""
        return Painter(indices_of(self.names, self.rule.ignore_label), self.rule.ignore_label, self.rule)


def classes_from(
    config: LabelConfig, source: Source, other_splits: Dataset | None = None, tell: bool = True
) -> Classes:
    """The classes that flags, files, the layout and an existing description agree on.

    Args:
      config: the flags; they come first.
      source: the layout's own classes; PASCAL VOC is known by the names of its images, too.
      other_splits: description of splits that the output folder holds already and that stay there.
      tell: say what was guessed.

    Raises:
      UserError: two sources that contradict each other, with both numbers.
    """
    palette = config.palette or source.palette
    table = read_color_table(palette) if palette else None
    described = _described(config, other_splits, source) or _voc(config, table, source, tell)
    names = _names(config, table, described, source.drawn)
    if source.drawn and not names and source.class_names:
        text = f"is {config.num_classes}, but the annotations have {len(source.class_names)} classes"
        classes = shorten(source.class_names, 8)
        raise UserError(
            "unclassified", f"{text}: {classes}", "leave it out, or give `class_names` as well", field="num_classes"
        )
    num_classes = _agreed_number(config, names, described)
    colors = table.class_colors() if table else described.colors if described else ()
    ignore_label = described.ignore_label if described and config.ignore_label == 255 else config.ignore_label
    rule = LabelRule(
        num_classes=num_classes,
        ignore_label=ignore_label,
        mapping=parse_label_map(config.label_map) or source.label_map or None,
        table=table or _table_of(described if config.dataset or source.known else None),
        tolerance=config.color_tolerance,
        ignore_bad=config.on_bad_label == "ignore",
    )
    found = Classes(num_classes, names, colors, rule)
    _require_agreement(found, other_splits)
    return found


def _described(config: LabelConfig, other_splits: Dataset | None, source: Source) -> Dataset | None:
    if config.dataset:
        return datasets.find(config.dataset)
    if other_splits is not None:
        return other_splits
    if source.known:
        return datasets.load_known(source.known)
    if source.class_names:
        return Dataset("", source.class_names, source.colors, source.ignore_label)
    return None


def _voc(config: LabelConfig, table: ColorTable | None, source: Source, tell: bool) -> Dataset | None:
    """PASCAL VOC, where nothing is said of the classes and all images are named as its."""
    said = table or config.class_names or config.num_classes or config.ignore_label != 255 or config.label_map
    if said or not all(_VOC_NAME.match(pair.name) for pair in source.pairs()):
        return None
    known = datasets.load_known(datasets.DEFAULT_NAME)
    if tell:
        console.note(
            f"the images are named as PASCAL VOC's: taking its {known.num_classes} classes (`num_classes` or "
            "`class_names` say otherwise)"
        )
    return known


def _names(config: LabelConfig, table: ColorTable | None, described: Dataset | None, drawn: bool) -> tuple[str, ...]:
    if config.class_names:
        names = _read_names(config.class_names)
        return with_background(names) if drawn and BACKGROUND not in names else names
    if table:
        return table.names
    if described and config.num_classes in (None, described.num_classes):
        return described.class_names
    return ()


def _read_names(text: str) -> tuple[str, ...]:
    if os.path.isfile(text):
        names = [_REMARK.sub("", line).strip() for line in read_text(text).splitlines()]
    elif "," in text:
        names = [name.strip() for name in text.split(",")]
    else:
        raise UserError(
            "unclassified",
            f"no such file: {text}",
            "one name a line, or give background,hair,skin",
            field="class_names",
        )
    names = [name for name in names if name]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        rule = f"{text} names {', '.join(repeated)} more than once" if repeated else f"{text} names no class"
        raise UserError("unclassified", rule, "each class needs a name of its own", field="class_names")
    for name in names:
        require_plain(name, "a class name", "`class_names`")
    return tuple(names)


def _agreed_number(config: LabelConfig, names: Sequence[str], described: Dataset | None) -> int | None:
    if names and config.num_classes not in (None, len(names)):
        rule = f"is {config.num_classes}, but there are {len(names)} class names ({', '.join(names[:8])})"
        raise UserError(
            "unclassified", rule, "the background counts as a class, the ignore label does not", field="num_classes"
        )
    if names:
        return len(names)
    return config.num_classes or (described.num_classes if described else None)


def _table_of(described: Dataset | None) -> ColorTable | None:
    if described is None or not described.colors or len(set(described.colors)) < described.num_classes:
        return None
    return table_of(described)


def _require_agreement(found: Classes, other_splits: Dataset | None) -> None:
    if other_splits is None:
        return
    ours = (found.num_classes, found.rule.ignore_label)
    theirs = (other_splits.num_classes, other_splits.ignore_label)
    held = f"the records there (splits {', '.join(other_splits.splits)}) have"
    hint = "write into another folder, or give the same classes"
    if ours != theirs:
        rule = f"{held} {theirs[0]} classes and ignore label {theirs[1]}, these would have {ours[0]} and {ours[1]}"
        raise UserError("unclassified", rule, hint, field="output_dir")
    for index, (name, there) in enumerate(zip(found.names, other_splits.class_names, strict=False)):
        if name != there and not (_MADE_UP.fullmatch(name) or _MADE_UP.fullmatch(there)):
            raise UserError(
                "unclassified",
                f"{held} {there!r} as class {index}, these would have {name!r}",
                hint,
                field="output_dir",
            )


# --- After the masks were read ------------------------------------------------------------------------------


def settle(classes: Classes, counts: np.ndarray) -> Classes:
    """Number, names and colors, filled in from what the labels hold.

    Args:
      classes: what was known before.
      counts: pixels of each label value over all splits, int64 [256].

    Raises:
      UserError: the labels cannot be what is meant: one class only, or values that are no class indices.
    """
    ignore = classes.rule.ignore_label
    present = [int(value) for value in np.flatnonzero(counts) if value != ignore]
    require_several_classes(present, counts, ignore)
    number = classes.num_classes or present[-1] + 1
    if classes.num_classes is None:
        _require_indices(present, ignore)
        console.note(f"labels go up to {present[-1]}: taking num_classes={number} (the background counts)")
    names = classes.names or ("background", *(f"class_{index}" for index in range(1, number)))
    colors = classes.colors
    if len(colors) != number:
        colors = tuple((int(r), int(g), int(b)) for r, g, b in colors_for(None, number)[:number])
    return dataclasses.replace(classes, num_classes=number, names=names, colors=colors)


def require_several_classes(present: Sequence[int], counts: np.ndarray, ignore_label: int) -> None:
    """Stops where all labeled pixels are one class: nothing could be learned."""
    if len(present) > 1:
        return
    ignored = int(counts[ignore_label])
    if not present:
        raise UserError(
            "unclassified", f"every pixel has the ignore label {ignore_label}", "check `ignore_label`", where="masks"
        )
    rule = f"every pixel that counts is class {present[0]}"
    if ignored:
        rule += f": the masks hold only {present[0]} and {ignore_label}, and {ignore_label} is the ignore label"
        raise UserError(
            "unclassified", rule, f"`label_map={ignore_label}:1` if {ignore_label} means class 1", where="masks"
        )
    raise UserError(
        "unclassified",
        f"{rule}; there is nothing to tell apart",
        "check that these are the right mask files",
        where="masks",
    )


def _require_indices(present: Sequence[int], ignore_label: int) -> None:
    """Values such as 0, 150, 250 are gray tones, not indices; a few gaps are classes that do not occur."""
    highest = present[-1]
    if highest < 8 or 2 * len(present) >= highest:
        return
    shown = ", ".join(map(str, present[:8])) + (" ..." if len(present) > 8 else "")
    rule = f"hold the values {shown}: as class indices they would mean {highest + 1} classes"
    hint = f"`label_map={spread_map(present)}` to number them, or `num_classes={highest + 1}` if that is meant"
    raise UserError("unclassified", rule, hint, where="masks")
