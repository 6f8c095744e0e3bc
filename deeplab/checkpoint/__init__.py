"""TensorFlow-1-named checkpoints: read, found, restored, written.

    from deeplab import checkpoint

    opened = checkpoint.open("logs/train")      # or a prefix, one of its files, `zoo:NAME`
    opened.prefix, opened.step, opened.shapes   # what it is; opened.config: the config.yml beside it
    opened.array("logits/semantic/weights")     # values are read on demand

A checkpoint maps TensorFlow-1 variable names (without `:0`) to arrays; `global_step` and the optimizer's slots
(`NAME/Momentum`, ...) are among them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, overload

if TYPE_CHECKING:
    from deeplab.checkpoint.bundle import ArrayCheckpoint, Checkpoint

AnyCheckpoint: TypeAlias = "str | os.PathLike | Mapping[str, Any] | Checkpoint | ArrayCheckpoint"


@overload
def open(source: str | os.PathLike | Checkpoint) -> Checkpoint: ...
@overload
def open(source: AnyCheckpoint) -> Checkpoint | ArrayCheckpoint: ...
def open(source: AnyCheckpoint) -> Checkpoint | ArrayCheckpoint:
    """Opens a checkpoint: names and shapes at once, arrays on demand.

    Open it once and pass the result on: every function of this package that takes a checkpoint takes it as it is.

    Args:
      source: prefix (`logs/model.ckpt-300`), one of a checkpoint's files, a V1 checkpoint file, a folder (its latest
        whole checkpoint, by checksums), the `checkpoint` file in it, `zoo:NAME` (downloaded if it is not in the
        cache), arrays by name, or an opened checkpoint, which is returned.

    Raises:
      UserError: there is no such checkpoint (the message lists what is there instead), or it is damaged.
    """
    from deeplab.checkpoint.bundle import ArrayCheckpoint, Checkpoint  # here: they import TensorFlow
    from deeplab.checkpoint.find import find

    if isinstance(source, (Checkpoint, ArrayCheckpoint)):
        return source
    if isinstance(source, Mapping):
        return ArrayCheckpoint(source)
    return find(source)
