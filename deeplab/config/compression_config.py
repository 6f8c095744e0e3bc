"""Config of what makes small models: pruning, and distillation from a larger model."""

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
        "How that fraction is reached: polynomial = from 0 at `prune_begin`, fast at first, to `prune_end` (Zhu and "
        "Gupta 2017); constant = all at once at `prune_begin`.",
        choices=("polynomial", "constant"),
    )
    prune_begin: str = setting("0.1", "Time at which pruning begins.", unit="duration")
    prune_end: str = setting(
        "0.7", "Time after which the pruned weights stay the same, so that the others can recover.", unit="duration"
    )
    prune_every: int = setting(
        100, "Steps between two choices of the weights that are pruned.", min=1, unit="steps", rare=True
    )
    prune_keep: str = setting(
        "depthwise|^(logits|auxiliary)/",
        "Kernels that are not pruned: a regular expression found in their names.",
        rare=True,
    )
    prune_structure: str = setting(
        UNSTRUCTURED,
        "Weights that are pruned together: unstructured = each by itself; 2:4 = two of any four successive input "
        "channels, for processors that skip them; 1x4 = blocks of so many input x output channels.",
        rare=True,
    )

    prune_channels: float = setting(
        0.0,
        "Fraction of the expanded channels of MobileNetV2's blocks that are taken out of the initial checkpoint before "
        "it is trained further as a smaller model; 0 = none.",
        min=0,
        max=0.95,
        because="hardly any channels would be left",
    )
    distill_from: str = setting(
        "",
        "Teacher: a model of the same classes whose predictions the training learns as well; a training folder, a "
        "checkpoint, zoo:NAME or an exported file (unset: none).",
    )
    distill_weight: float = setting(1.0, "Factor of the teacher's loss beside that of the labels.", min=0)
    distill_temperature: float = setting(
        2.0,
        "Divisor of the logits of both: a higher one shows more of what the teacher holds for less likely.",
        above=0,
        max=100,
        because="all classes would look alike",
    )
    distill_on: str = setting(
        "logits",
        "What is learned from the teacher: logits = its probabilities; features = where its last features are large "
        "(attention transfer; needs a checkpoint as teacher).",
        choices=("logits", "features"),
        rare=True,
    )
    distill_cache: str = setting(
        "",
        "Folder in which the teacher's probabilities of every image are kept: useful if images are not augmented, or "
        "for several trainings of the same seed (unset: none).",
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
            rule = f"is no regular expression: {error}"
            raise UserError("wrong-type", rule, field="prune_keep", value=self.prune_keep) from None
        self._check_structure()
        if self.distill_cache and self.distill_on == "features":
            rule = "keeps probabilities, and `distill_on=features` uses none"
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
