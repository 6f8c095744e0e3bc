"""The settings that build a bare checkpoint's network: what its variables show, and a question for what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deeplab.checkpoint.infer_config import Description
from deeplab.config.model_config import ModelConfig
from deeplab.utils import console
from deeplab.utils.errors import UserError

USUAL_RATES, USUAL_STRIDE = (6, 12, 18, 24), 16  # the DeepLab papers' rates, and the output stride they belong to
PUBLISHED_CELL = "dense_prediction_cell_branch5_top1_cityscapes.json"


def settings_to_build(found: Description, checkpoint: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `ModelConfig` for a checkpoint without a `config.yml`, those that were given left out.

    Args:
      found: what `describe` tells of it.
      checkpoint: its prefix, for messages.
      given: settings by name that the user has given.

    Raises:
      UserError: the variables do not show a setting that changes the answers: atrous rates, the dense prediction
        cell; the hint names the flag.
    """
    shown = {"model_variant": found.model_variant, **found.settings}
    shown = {name: value for name, value in shown.items() if value is not None and name not in given}
    if shown.pop("dense_prediction_cell_json", ""):
        rule = "has a dense prediction cell, but does not say which"
        raise UserError(
            "unclassified",
            rule,
            f"`dense_prediction_cell_json={PUBLISHED_CELL}` is the published one",
            where=checkpoint,
        )
    if shown.get("atrous_rates"):
        raise _rates_wanted(len(shown["atrous_rates"]), checkpoint, given.get("output_stride"))
    if shown:
        console.note(f"{checkpoint} has no config.yml beside it; its variables show {found.sentence()}")
    unseen = [f"--{name}={value}" for name, value in _without_trace(found, given).items()]
    if unseen:
        console.note(
            f"taking {' '.join(unseen)}, which a checkpoint does not show; give it if it was trained otherwise"
        )
    return shown


def rates_at(rates: tuple[int, ...], trained_stride: int, stride: int) -> tuple[int, ...]:
    """Atrous rates that see as far at another output stride: 6, 12, 18 at 16 are 12, 24, 36 at 8."""
    return tuple(max(1, round(rate * trained_stride / stride)) for rate in rates)


def _rates_wanted(count: int, checkpoint: str, stride: int | None) -> UserError:
    """The question for atrous rates, with the answer that is likely."""
    usual = tuple(USUAL_RATES[index] if index < len(USUAL_RATES) else 6 * (index + 1) for index in range(count))
    rule = f"has {count} atrous branch{'es' * (count > 1)}, whose rates leave no trace in a checkpoint"

    def flag(at: int) -> str:
        return "`atrous_rates=`" + ",".join(map(str, rates_at(usual, USUAL_STRIDE, at)))

    if stride:
        return UserError(
            "unclassified", rule, f"add {flag(stride)}, the usual rates at `output_stride={stride}`", where=checkpoint
        )
    hint = f"add {flag(16)} `output_stride=16`, the usual ones (or {flag(8)} `output_stride=8`: finer, slower)"
    return UserError("unclassified", rule, hint, where=checkpoint)


def _without_trace(found: Description, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that change the answers of such a network and cannot be seen, with the values that are taken."""
    names = ["output_stride"]
    if found.settings.get("aspp_with_squeeze_and_excitation"):
        names += ["image_se_uses_qsigmoid", "image_pooling_crop_size", "image_pooling_stride"]
    if found.model_variant and found.model_variant.startswith("resnet") and found.num_classes:
        names.append("multi_grid")
    return {name: _show(getattr(ModelConfig(), name)) for name in names if name not in given}


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "(none)"
    return "(unset)" if value is None else str(value).lower()
