r"""Shows what a checkpoint is: its model, the flags that build it, its variables; or how two differ.

Examples, some seconds each; `values` and `other` read all bytes:

    python deeplab/inspect_checkpoint.py --checkpoint=runs/first
    python deeplab/inspect_checkpoint.py --checkpoint=runs/first --other=runs/second --filter=logits

A checkpoint is a training folder, a prefix, one of its files (V1 files too) or a name of the model zoo. The exit code
is 0 without `other` or without a difference, 3 if the two differ.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections import Counter
from typing import TYPE_CHECKING

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.checkpoint.find import require_something
from deeplab.config import run_file
from deeplab.config.command_line import CHECK_FAILED, OK, Command, Given, configs_from
from deeplab.config.conversion_config import compiled_pattern
from deeplab.config.inspection_config import InspectConfig
from deeplab.utils import console

if TYPE_CHECKING:
    from deeplab.checkpoint.bundle import Checkpoint
    from deeplab.checkpoint.infer_config import Description

GROUPS = (InspectConfig,)


def run(given: Given) -> int:
    """Runs the command; returns the exit code, which says whether two checkpoints differ."""
    (config,) = configs_from(given, GROUPS)
    wanted = compiled_pattern(config.filter, "filter")
    for path in (config.checkpoint, config.other):
        require_something(path)
    console.import_tensorflow()
    from deeplab import checkpoint

    first = checkpoint.open(config.checkpoint)
    print(summary(first))
    if not config.other:
        print("\n" + variables(first, [name for name in first.shapes if wanted.search(name)], config.values))
        return OK
    second = checkpoint.open(config.other)
    print("\n" + summary(second) + "\n")
    names = sorted(filter(wanted.search, {*first.shapes, *second.shapes}))
    return CHECK_FAILED if tell_difference(first, second, names) else OK


def summary(reader: Checkpoint) -> str:
    """Return what a checkpoint is, one fact per line."""
    from deeplab.checkpoint import compare, names
    from deeplab.checkpoint.bundle import step_in_name
    from deeplab.checkpoint.foreign.sources import ImportedCheckpoint
    from deeplab.checkpoint.infer_config import describe

    found = describe(reader)
    model = [name for name in reader.shapes if not names.is_bookkeeping(name)]
    folder = os.path.dirname(reader.prefix) or "."
    saved = os.path.join(folder, run_file.FILE_NAME) if run_file.load(folder) else "none beside it"
    step = found.step if "global_step" in reader or step_in_name(reader.prefix) else "unknown"
    facts = [
        ("checkpoint", reader.prefix),
        ("model", found.sentence()),
        ("flags", flags_text(found)),
        ("config", saved),
        ("step", step),
        ("classes", found.num_classes or found.image_classes or "none"),
        ("parameters", f"{compare.parameters(reader, model):,} in {len(model)} variables"),
        ("training state", f"{len(reader.shapes) - len(model)} variables"),
    ]
    if reader.averages_alone:
        facts.append(("averages", f"of {len(reader.averages_alone)} variables alone, which are taken as the weights"))
    if isinstance(reader, ImportedCheckpoint):
        flags = console.spelled(" ".join(reader.setting_texts()))
        facts[2:4] = [("flags", flags), ("source", reader.source.title)]
    return "\n".join(f"{name + ':':18}{value}" for name, value in facts)


def flags_text(found: Description) -> str:
    """Return the flags that build the model, and a remark on those that a checkpoint cannot show."""
    if not found.model_variant:
        return "no flags build it"
    guess = found.settings.get("atrous_rates") or found.settings.get("dense_prediction_cell_json")
    remark = "  (the number of branches is certain, the rates or the cell are not)" if guess else ""
    return console.spelled(" ".join(found.setting_texts())) + remark


def variables(reader: Checkpoint, names: list[str], values: bool) -> str:
    """Return the variables as a table."""
    from deeplab.checkpoint import compare

    if not names:
        return console.spelled("no variable's name matches `filter`")
    shown_names = console.progress(names, what="reading", unit="variable") if values else names
    rows = [compare.variable_row(reader, name, values) for name in shown_names]
    return console.table(rows, compare.HEADER + compare.VALUES_HEADER * values)


def tell_difference(first: Checkpoint, second: Checkpoint, names: list[str]) -> bool:
    """Prints what differs, and the number of equal variables; returns whether anything differs."""
    from deeplab.checkpoint import compare

    found = compare.differences(first, second, console.progress(names, what="comparing", unit="variable"))
    differing = [entry for entry in found if entry.kind != compare.SAME]
    if differing:
        rows = [
            (entry.name, entry.kind, *map(compare.shape_text, (entry.first, entry.second)), shown(entry.largest))
            for entry in differing
        ]
        print(console.table(rows, ("name", "difference", "first", "second", "largest")) + "\n")
    print(", ".join(f"{count} {kind}" for kind, count in Counter(entry.kind for entry in found).items()) or "nothing")
    return bool(differing)


def shown(largest: float | None) -> str:
    """Return the largest difference with four digits."""
    return "" if largest is None else f"{largest:.4g}"


COMMAND = Command("inspect_checkpoint", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
