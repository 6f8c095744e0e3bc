"""Config of the measurement of models' speed."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.data_config import IMAGE_SIDE
from deeplab.config.fields import Config, Ints, Texts, setting

_LONG = "calls take milliseconds to seconds each"


@dataclass(frozen=True)
class BenchmarkConfig(Config):
    """What is measured, and how often."""

    model: Texts = setting(
        (),
        "Training folder, checkpoint, zoo:NAME, hf://USER/NAME or exported file; repeat the flag to compare several.",
        required=True,
    )
    input: Texts = setting((), "Your own images instead of noise: files, folders or patterns; each keeps its size.")
    image_size: Ints = setting(
        (257, 513), "Heights and widths of square images of noise, separated by commas.", **IMAGE_SIDE, unit="pixels"
    )
    batch_size: Ints = setting(
        (1,),
        "Images per call, separated by commas; exported files take 1.",
        min=1,
        max=1024,
        because="such a batch does not fit into memory",
    )
    runs: int = setting(20, "Number of timed calls for each size.", min=1, max=100_000, because=_LONG, unit="calls")
    warm_up: int = setting(3, "Number of calls before the timed ones.", min=0, max=1000, because=_LONG, unit="calls")
    json: str = setting("", "File for the results (unset: only the table).", writes="file")
