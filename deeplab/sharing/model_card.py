"""The model card: the page that says what a model is, how good it is, and how to use it.

Owns the card's text and the reading of `metrics.json`; push calls it. What only a person can say (what the model is
for, where the images come from) is left as a line to fill in, never invented. It measures nothing.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from deeplab import __version__
from deeplab.checkpoint.hub import Address
from deeplab.data.class_names import MANY_CLASSES
from deeplab.evaluation.metrics import best_and_worst
from deeplab.sharing.model_files import ModelFiles
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_text
from deeplab.utils.text import harmless, shorten

METRICS_FILE = "metrics.json"
_MAX_LISTED = 40  # classes that are listed, of more than 160
_SETTINGS = ("model_variant", "depth_multiplier", "output_stride", "atrous_rates", "decoder_output_stride")
_TRAINING = (
    *("train_crop_size", "train_batch_size", "training_number_of_steps", "optimizer", "base_learning_rate"),
    *("learning_policy", "loss", "class_balance", "augmentation", "ema_decay", "random_seed"),
)
_ZOO = (
    "a checkpoint of TensorFlow's model zoo ({name}); the zoo states no license for its weights, the code beside them "
    "is under Apache-2.0, and the terms of the images that they were trained on (ImageNet, COCO, VOC, ...) apply"
)
_WEIGHTS = {
    "": "none; trained from random values",
    "imagenet": "a backbone trained on ImageNet, whose images are for research only; the weights themselves come from "
    "TensorFlow's model zoo or from Keras, whose code is under Apache-2.0",
}


def read_metrics(path: str, model: ModelFiles) -> dict[str, Any]:
    """Return the content of a `metrics.json`.

    Args:
      path: the file, or the folder that it is in (`eval_logdir`).
      model: what was evaluated.

    Raises:
      UserError: there is no such file, it is damaged, or another checkpoint was evaluated (`metrics-of-another-model`).
    """
    file = pathlib.Path(path, METRICS_FILE) if os.path.isdir(path) else pathlib.Path(path)
    try:
        content = json.loads(read_text(file))
        names = [str(each["name"]) for each in content["classes"]]
        content["mean_iou"] = float("nan" if content["mean_iou"] is None else content["mean_iou"])
        content["split"], content["num_images"] = str(content["split"]), int(content["num_images"])
    except (ValueError, KeyError, TypeError) as error:
        rule, hint = "was not written by `deeplab eval`", "evaluate again"
        raise UserError("unreadable-file", rule, hint, field="metrics", where=file) from error
    own = model.facts.get("class_names") or model.facts.get("classes") or names
    hash_of_model = model.sha256()
    known = hash_of_model and content.get("checkpoint_sha256")
    if list(own) != names or (known and known != hash_of_model):
        rule = f"was measured with another model: {harmless(str(content.get('checkpoint')))}"
        hint = "evaluate this model, and give its `eval_logdir`"
        raise UserError("metrics-of-another-model", rule, hint, field="metrics", where=file)
    return content


def render(
    model: ModelFiles,
    address: Address,
    license_name: str = "",
    metrics: Mapping[str, Any] | None = None,
    data_license: str = "",
) -> str:
    """Return the card as Markdown with the header that the hub reads.

    Args:
      model: what is given away.
      address: where it will be.
      license_name: of the weights, as the hub names it (`apache-2.0`, `cc-by-nc-4.0`); "" = not stated.
      metrics: from `read_metrics`; None = it was not evaluated, which the card says.
      data_license: of the images and labels that it was trained on; "" = not stated.
    """
    import jinja2

    environment = jinja2.Environment(  # nosec B701  # Markdown, whose signs the filter `cell` takes out
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"json": _json, "cell": _cell, "number": _number}
    facts = model.facts
    start = str(facts.get("tf_initial_checkpoint") or "")
    name = address.repository.rpartition("/")[2]
    classes = facts.get("class_names") or facts.get("classes") or ()
    return environment.get_template("model_card.md.j2").render(
        name=name,
        at=f"hf://{address.repository}{f'@{address.revision}' if address.revision else ''}"
        f"{f'/{address.folder}' if address.folder else ''}",
        kind=model.kind,
        facts=facts,
        classes=classes,
        listed=classes if len(classes) <= MANY_CLASSES else shorten([str(one) for one in classes], _MAX_LISTED),
        settings={key: facts[key] for key in _SETTINGS if facts.get(key) not in (None, "", [], ())}
        or facts.get("model")
        or {},
        training={key: facts[key] for key in _TRAINING if facts.get(key) not in (None, "", [], ())},
        weights=_WEIGHTS.get(start) or (_ZOO.format(name=start) if start.startswith("zoo:") else "another checkpoint")
        if "tf_initial_checkpoint" in facts
        else "",
        license=license_name,
        data_license=data_license,
        metrics=metrics,
        rows=_rows(metrics) if metrics else (),
        interval=_interval((metrics.get("intervals") or {}).get("mean_iou")) if metrics else "",
        version=__version__,
    )


def _rows(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, IoU and interval of every class; of more than 160, of those with the highest and the lowest IoU."""
    intervals = (metrics.get("intervals") or {}).get("class_iou") or {}
    rows = [
        (str(each["name"]), _number(each.get("iou")), _interval(intervals.get(each["name"])))
        for each in metrics["classes"]
    ]
    if len(rows) <= MANY_CLASSES:
        return rows
    known = [each.get("iou") for each in metrics["classes"]]
    iou = np.array([value if isinstance(value, (int, float)) else np.nan for value in known], float)
    return [rows[index] for index in best_and_worst(iou, _MAX_LISTED)]


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) and value == value else "no pixels"


def _interval(ends: Any) -> str:
    return f"{_number(ends[0])} to {_number(ends[1])}" if isinstance(ends, list) and len(ends) == 2 else "not measured"


def _json(value: Any) -> str:
    """A value as YAML and JSON both read it; a name can end neither the line nor the header."""
    return json.dumps(value, ensure_ascii=False)


def _cell(value: Any) -> str:
    """A value as a table's cell."""
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return harmless(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
