"""Which checkpoint of a training folder is meant: the latest, the best, or the average of the last.

A training keeps the best in `best/` and the average in `averaged/`, each a folder like a training folder. Used by what
predicts and exports. It opens no checkpoint.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from deeplab.checkpoint import hub, manager
from deeplab.utils import console
from deeplab.utils.errors import UserError

LATEST, BEST, AVERAGED = "latest", "best", "averaged"
RECORD = "best.json"  # in the folder of the best: step, metric, value
_MADE_BY = {BEST: "train with `eval_every`", AVERAGED: "train with `average_checkpoints`"}


def chosen(source: str, which: str = LATEST) -> str:
    """Return the folder of the checkpoint that is meant; a note names the best one where the latest is taken.

    Args:
      source: training folder; anything else is returned as it is if the latest is wanted, but for a model on the
        hub, which is downloaded.
      which: latest, best or averaged.

    Raises:
      UserError: the folder has no such checkpoint, or `source` is no folder (`checkpoint-not-found`).
    """
    source = hub.local(source)
    folder = pathlib.Path(os.path.expanduser(source))
    if which == LATEST:
        _tell_of_best(folder)
        return source
    inside = folder / which
    if not (inside.is_dir() and manager.all_checkpoints(inside)):
        rule = f"holds no checkpoint in {which}/" if folder.is_dir() else "is no training folder"
        hint = f"leave `checkpoint` out, or {_MADE_BY[which]}"
        raise UserError("checkpoint-not-found", rule, hint, field="checkpoint", where=str(folder), value=which)
    best = read_best(folder) if which == BEST else {}
    about = f", step {best['step']}, {best['metric']} {best['value']:.4f}" if best else ""
    latest = manager.read_state(str(folder))
    console.note(f"checkpoint: {inside}{about}; the latest is {latest.latest if latest else 'not there'}")
    return str(inside)


def read_best(folder: pathlib.Path) -> dict[str, Any]:
    """Return the record of a training folder's best checkpoint: step, metric, value, split; empty if it has none."""
    try:
        found = json.loads((folder / BEST / RECORD).read_text(encoding="utf-8"))
        record = {"metric": "mean_iou", "value": found.get("mean_iou"), **found}
        return record | {"step": int(record["step"]), "value": float(record["value"])}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # none, or damaged
        return {}


def _tell_of_best(folder: pathlib.Path) -> None:
    best = read_best(folder)
    latest = manager.read_state(str(folder)) if best else None
    if latest and not latest.latest.endswith(f"-{best['step']}"):
        console.note(
            f"checkpoint: {latest.latest}, the latest; the best by {best['metric']} is of step {best['step']}, "
            f"{best['value']:.4f} (`checkpoint=best`)"
        )
