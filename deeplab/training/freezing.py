"""Which variables are frozen, until which step, and which ones are trained.

A frozen variable keeps its value, gets no gradient, and its batch norm keeps its statistics. Used by the loop, which
makes one step function for the frozen part of the training and one for the rest.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np

from deeplab.checkpoint.names import HEAD_SCOPES, LOGITS_SCOPE, in_scopes
from deeplab.training.precise_bn import batch_norm_layers
from deeplab.utils.errors import UserError
from slim.layers import variable_name

# Names of the freeze levels of tf-keras-deeplabv3p-model-set.
LEVELS = {"0": "none", "1": "backbone", "2": "all_but_logits"}


def frozen_names(freeze: str, names: Collection[str]) -> frozenset[str]:
    """The names of the frozen variables.

    Args:
      freeze: none, backbone, all_but_logits, a level of `LEVELS`, or a regular expression searched in names.
      names: TensorFlow-1 names of the trainable variables.

    Raises:
      UserError: an expression that fits no name (`unknown-name`), or one that fits all (`nothing-to-train`).
    """
    freeze = LEVELS.get(freeze, freeze)
    if freeze in ("", "none"):
        return frozenset()
    if freeze == "backbone":
        found = frozenset(name for name in names if not in_scopes(name, HEAD_SCOPES))
    elif freeze == "all_but_logits":
        found = frozenset(name for name in names if not in_scopes(name, (LOGITS_SCOPE,)))
    else:
        found = frozenset(name for name in names if re.search(freeze, name))
    if not found:
        rule = f"{freeze!r} is in no variable's name"
        hint = f"names look like {sorted(names)[0]}; or give none, backbone or all_but_logits"
        raise UserError("unknown-name", rule, hint, field="freeze", value=freeze)
    if len(found) == len(names):
        rule = f"{freeze!r} freezes every variable, so that the training would change nothing"
        raise UserError("nothing-to-train", rule, "freeze fewer", field="freeze", value=freeze)
    return found


def hold_statistics(model: keras.Model, frozen: Collection[str], train_batch_norm: bool) -> None:
    """Makes batch norms whose variables are frozen keep their statistics, and the others as `train_batch_norm` says.

    It takes effect in functions that are traced afterwards.
    """
    for layer in batch_norm_layers(model):
        trains = train_batch_norm and variable_name(layer.gamma) not in frozen
        layer.norm = dataclasses.replace(layer.norm, train_statistics=trains)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):  # of keras.applications
            names = [variable_name(variable) for variable in (layer.gamma, layer.beta) if variable is not None]
            layer.trainable = not any(name in frozen for name in names)


def counts_text(variables: Mapping[str, Any], frozen: Collection[str], until: int) -> str:
    """One line: how many parameters are trained and frozen.

    Args:
      variables: trainable variables by name.
      frozen: names of those that are frozen.
      until: the step at which they are released; 0 = never.
    """
    sizes = {name: int(np.prod(variable.shape)) for name, variable in variables.items()}
    held = sum(size for name, size in sizes.items() if name in frozen)
    trained = sum(sizes.values()) - held
    if not held:
        return f"{trained:,} parameters are trained"
    release = f" until step {until}" if until else ""
    return f"{trained:,} parameters are trained, {held:,} are frozen{release}"
