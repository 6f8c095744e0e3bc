"""Config of what makes a model smaller while it trains: pruning."""

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
    """Pruning."""

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
