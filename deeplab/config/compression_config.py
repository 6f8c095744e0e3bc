"""Config of pruning and distillation."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deeplab.config import durations
from deeplab.config.fields import Config, setting
from deeplab.utils.errors import UserError

UNSTRUCTURED = "unstructured"
_STRUCTURE = re.compile(r"(\d{1,3})([:x])(\d{1,3})", re.ASCII)


@dataclass(frozen=True)
class CompressionConfig(Config):
    """Pruning and distillation."""

    prune_sparsity: float = setting(
        0.0,
        "Fraction of the weights of each pruned kernel that are 0 at the end; 0 = no pruning.",
        min=0,
        max=0.99,
        because="a kernel would have hardly any weights left",
    )
    prune_schedule: str = setting(
        "polynomial",
        "How that fraction is reached: polynomial = gradually from `prune_begin` to `prune_end`, fast at first (Zhu "
        "and Gupta 2017); constant = all at once at `prune_begin`.",
        choices=("polynomial", "constant"),
    )
    prune_begin: str = setting("0.1", "Point of the training at which pruning begins.", unit="duration")
    prune_end: str = setting(
        "0.7",
        "Point of the training after which the choice of pruned weights is fixed, so that the others can recover.",
        unit="duration",
    )
    prune_every: int = setting(
        100, "Steps after which the weights to prune are chosen again.", min=1, unit="steps", rare=True
    )
    prune_keep: str = setting(
        "depthwise|^(logits|auxiliary)/",
        "Kernels that are not pruned: a regular expression that matches a part of their names.",
        rare=True,
    )
    prune_structure: str = setting(
        UNSTRUCTURED,
        "Weights that are pruned together: unstructured = each weight separately; 2:4 = two of every four successive "
        "input channels, for processors that skip them; 1x4 = blocks of 1 input channel x 4 output channels.",
        rare=True,
    )

    prune_channels: float = setting(
        0.0,
        "Fraction of the expanded channels of MobileNetV2's blocks that are removed from the initial checkpoint before "
        "it is trained as a smaller model; 0 = none.",
        min=0,
        max=0.95,
        because="hardly any channels would be left",
    )
    distill_from: str = setting(
        "",
        "Teacher: a model with the same classes whose predictions are learned in addition to the labels; a training "
        "folder, a checkpoint, zoo:NAME or an exported file (unset: none).",
    )
    distill_weight: float = setting(
        1.0, "Factor of the distillation loss, which is added to that of the labels.", min=0
    )
    distill_temperature: float = setting(
        2.0,
        "Divisor of the logits of teacher and student: a higher value gives less likely classes more influence.",
        above=0,
        max=100,
        because="all classes would look alike",
    )
    distill_on: str = setting(
        "logits",
        "What is learned from the teacher: logits = its probabilities; features = the places where its last features "
        "are large (attention transfer; the teacher must be a checkpoint).",
        choices=("logits", "features"),
        rare=True,
    )
    distill_cache: str = setting(
        "",
        "Folder for the teacher's probabilities of every image: useful without augmentation, or for several trainings "
        "with the same seed (unset: none).",
        rare=True,
        resumable=True,
        writes="folder",
    )

    def structure(self) -> tuple[str, int, int]:
        """Return `prune_structure` as (kind, N, M): ("", 1, 1), (":", 2, 4) or ("x", 1, 4)."""
        found = _STRUCTURE.fullmatch(self.prune_structure)
        return (found[2], int(found[1]), int(found[3])) if found else ("", 1, 1)

    def validate(self) -> None:
        for name in ("prune_begin", "prune_end"):
            durations.require(getattr(self, name), name, above_zero=name == "prune_end")
        try:
            re.compile(self.prune_keep)
        except re.error as error:
            rule = f"is not a regular expression: {error}"
            raise UserError("wrong-type", rule, field="prune_keep", value=self.prune_keep) from None
        self._check_structure()
        if self.distill_cache and self.distill_on == "features":
            rule = "stores probabilities, which `distill_on=features` does not use"
            raise UserError("conflicting-settings", rule, "leave it out", field="distill_cache")

    def _check_structure(self) -> None:
        kind, first, second = self.structure()
        text = self.prune_structure
        if (text != UNSTRUCTURED and not kind) or not first or not second or (kind == ":" and first >= second):
            rule = f"must be {UNSTRUCTURED}, N:M with N below M such as 2:4, or blocks such as 1x4, not {text!r}"
            raise UserError("unknown-name", rule, field="prune_structure", value=text)
        fraction = 1 - first / second
        if kind == ":" and self.prune_sparsity and abs(self.prune_sparsity - fraction) > 1e-3:
            rule = f"{text} keeps {first} of {second} weights, which is not `prune_sparsity={self.prune_sparsity:g}`"
            hint = f"`prune_sparsity={fraction:g}`"
            raise UserError("conflicting-settings", rule, hint, field="prune_structure", value=text)
