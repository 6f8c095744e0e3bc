"""Image sizes held against the crops of training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deeplab.config.validation_config import CheckConfig
from deeplab.data.split_names import is_training, training_split
from deeplab.data.validation import crop_advice
from deeplab.data.validation.check_report import CropAdvice, Finding
from deeplab.data.validation.rules import finding
from deeplab.data.validation.statistics import SplitTally
from deeplab.model.resize import fitting_size
from deeplab.utils.text import counted

_LEAST_COVERAGE = 0.4  # of a training crop that must show picture, on average


def advice(tallies: Mapping[str, SplitTally], output_stride: int) -> CropAdvice | None:
    """Crop sizes that suit the images; None where none could be read."""
    training = training_split(list(tallies))
    others: dict[tuple[int, int], int] = {}
    for split, tally in tallies.items():
        if split != training and not is_training(split):
            others |= tally.sizes
    own = tallies[training].sizes if training in tallies else {}
    return crop_advice.advise(own, others, output_stride)


def look_at_sizes(
    tallies: Mapping[str, SplitTally], config: CheckConfig, advised: CropAdvice | None
) -> Iterator[Finding]:
    """Crops that were asked about and do not suit the images."""
    training = training_split(list(tallies))
    if config.eval_crop_size:
        for split, tally in tallies.items():
            if tally.sizes and (split != training or len(tallies) == 1):
                yield from _too_large(split, tally, config)
    if config.train_crop_size and advised and tallies[training].sizes:
        yield from _mostly_padding(training, tallies[training], config, advised)
    for flag, crop in (("train_crop_size", config.train_crop_size), ("eval_crop_size", config.eval_crop_size)):
        if crop and crop != fitting_size(crop, config.output_stride):
            better = fitting_size(crop, config.output_stride)
            text = f"{crop[0]},{crop[1]} is no multiple of the output stride {config.output_stride}, plus 1"
            yield finding("crop-off-stride", f"--{flag}", text, hint=f"--{flag}={better[0]},{better[1]}")


def _too_large(split: str, tally: SplitTally, config: CheckConfig) -> Iterator[Finding]:
    assert config.eval_crop_size
    crop = config.eval_crop_size
    largest = crop_advice.largest_size(tally.sizes)
    if largest[0] <= crop[0] and largest[1] <= crop[1]:
        return
    number = sum(n for (height, width), n in tally.sizes.items() if height > crop[0] or width > crop[1])
    where = tally.highest[1] if largest[0] > crop[0] else tally.widest[1]
    better = fitting_size(largest, config.output_stride)
    text = (
        f"{counted(number, 'image')} of split {split} {'is' if number == 1 else 'are'} larger than "
        f"`eval_crop_size={crop[0]},{crop[1]}`, {'this one' if number == 1 else 'this one among them'}; sides go up to "
        f"{crop_advice.size_text(largest)} (height x width)"
    )
    hint = f"`eval_crop_size={better[0]},{better[1]}`, or leave it out: each image at its own size"
    yield finding("larger-than-eval-crop", where, text, split=split, hint=hint)


def _mostly_padding(split: str, tally: SplitTally, config: CheckConfig, advised: CropAdvice) -> Iterator[Finding]:
    assert config.train_crop_size
    crop, scales = config.train_crop_size, (config.min_scale_factor, config.max_scale_factor)
    covered = crop_advice.coverage(tally.sizes, crop, *scales)
    if covered >= _LEAST_COVERAGE:
        return
    better = crop_advice.coverage(tally.sizes, advised.train, *scales)
    text = (
        f"{crop[0]},{crop[1]} would show {100 * covered:.0f} % picture and {100 - 100 * covered:.0f} % padding on "
        f"average, at scales from {scales[0]:g} to {scales[1]:g}"
    )
    height, width = advised.train
    hint = f"`train_crop_size={height},{width}` shows {100 * better:.0f} % picture"
    yield finding("crop-mostly-padding", "`train_crop_size`", text, split=split, hint=hint)
