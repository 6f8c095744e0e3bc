"""The recipe for users' own data: which settings suit a dataset and a machine, and why.

Owns the choices, as pure functions of facts: `choose` goes through the settings in an order in which each may depend on
those before it, and keeps settings that were given. `recipe_plan` collects the facts, times steps, and saves the
choices. Reads no files and never asks the machine. The figures behind the values are in docs/training.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.config.fields import fields_of
from deeplab.config.model_config import ModelConfig
from deeplab.config.run_file import show
from deeplab.config.training_config import MIN_BATCH_FOR_BATCH_NORM, LossConfig, OptimizerConfig, TrainConfig
from deeplab.losses import class_balance
from deeplab.model.resize import fitting_size
from deeplab.utils.text import byte_text, counted

Size = tuple[int, int]

CPU_STEPS = 2000
GPU_STEPS = (3000, 30000)  # limits of GPU_EPOCHS
GPU_EPOCHS = 80
EVALUATION_FRACTION = 0.1  # of the training that evaluations may cost
MAX_EVALUATIONS = 10
RECALIBRATION_STEPS = 20  # what 60 batches of batch-norm recalibration cost, in steps

_CROP_SIDE = {"cpu": 257, "gpu": 513}
_MIN_CROP_SIDE = 33
_CROP_FOR_ALL_RATES = 385  # below it, the largest of the usual atrous rates would see padding alone
_BATCH = {"cpu": 4, "gpu": 16}
_PIXELS_OF_SMALL_CROPS = 129 * 129  # up to which a processor has time for a batch of 8
_BACKWARD = 3.0  # what a training step costs over a prediction of as many pixels
_SHORT = 4000  # steps below which the usual batch-norm averages would not settle
_SMALL_BACKBONE = "mobilenet_v2"
_LARGE_BACKBONE = "xception_65"
_LARGE_BACKBONE_MEMORY = 14e9  # bytes on a GPU
_BYTES_PER_PIXEL = {True: 4e3, False: 10e3}  # of activations in float32: MobileNets, other backbones
_LOGITS_BYTES = 12  # per pixel and class
_MEMORY_FRACTION = 0.5  # of the free memory that a batch may take by this estimate
_IMBALANCED = 3.0  # ratio of the weights by square root from which classes are weighted
_FEW_IMAGES = 100
_FEW_PER_CLASS = 10  # images for each class, below which a new head with a decoder learns less than the plain one
_PLAIN_RATE = 0.007  # with which the plain head was measured there, at a batch of 4
_RATES = {  # learning rate at a batch of 8: small backbone with weights, large one with weights, from scratch
    "momentum": (0.03, 0.005, 0.1),
    "adamw": (0.002, 0.0005, 0.002),
    "adam": (0.0005, 0.0002, 0.002),
    "rmsprop": (0.001, 0.0003, 0.002),
    "lion": (0.0002, 0.0001, 0.0004),
}
_DECOUPLED_DECAY = 0.02  # of adamw and lion


@dataclass(frozen=True)
class DataFacts:
    """Facts of a dataset on which the choices depend.

    Attributes:
      images: number of training images.
      size: median height and width of the training images, in pixels.
      num_classes: with the background.
      pixels: training pixels of each class; empty where they were not counted.
      channels: of the images.
      is_rgb: the images are 8-bit RGB.
      evaluated_split: the split to evaluate on; empty without any.
      evaluated_images: number of its images.
      evaluated_size: median height and width of them.
    """

    images: int
    size: Size
    num_classes: int
    pixels: Sequence[int] = ()
    channels: int = 3
    is_rgb: bool = True
    evaluated_split: str = ""
    evaluated_images: int = 0
    evaluated_size: Size = (0, 0)

    def text(self) -> str:
        """The facts in a line."""
        height, width = self.size
        bands = "" if self.channels == 3 else f" with {counted(self.channels, 'channel')}"
        return f"{counted(self.images, 'image')} of about {height}x{width} pixels{bands}, {self.num_classes} classes"


@dataclass(frozen=True)
class MachineFacts:
    """Facts of a machine on which the choices depend.

    Attributes:
      gpus: number of GPUs.
      memory: bytes that a training can have, of a GPU where there is one; None where the system does not tell.
      half_precision: the 16-bit precision that the GPUs compute fast: mixed_bfloat16, mixed_float16, or empty.
      cores: processor cores.
    """

    gpus: int = 0
    memory: float | None = None
    half_precision: str = ""
    cores: int = 1

    @property
    def kind(self) -> str:
        """gpu or cpu: what computes."""
        return "gpu" if self.gpus else "cpu"

    def text(self) -> str:
        """The facts in a line."""
        memory = f", {byte_text(self.memory)} of memory" if self.memory else ""
        return (counted(self.gpus, "GPU") if self.gpus else f"{counted(self.cores, 'processor core')}, no GPU") + memory


@dataclass(frozen=True)
class Choice:
    """A setting, its value, and the reason in a few words."""

    name: str
    value: Any
    reason: str


def _none(*_: Any) -> str:
    return ""


def _always(*_: Any) -> bool:
    return True


@dataclass(frozen=True)
class ModelFacts:
    """Facts of models on which the choices depend.

    Attributes:
      no_weights: from values of ModelConfig, why no ImageNet weights can be had for the model; empty where they can.
      has_decoder: whether the backbone of a name has features of stride 4 for a decoder.
      initial: settings of the model in an initial checkpoint that was given, as far as it tells them.
      keeps_head: that checkpoint has a head, which is to be restored.
    """

    no_weights: Callable[[Mapping[str, Any]], str] = _none
    has_decoder: Callable[[str], bool] = _always
    initial: Mapping[str, Any] = field(default_factory=dict)
    keeps_head: bool = False


class _Chooser:
    """Collects choices; a setting that was given keeps its value, and so does one that was chosen before."""

    def __init__(self, given: Mapping[str, Any]):
        self._given, self.choices = dict(given), dict[str, Choice]()

    def choose(self, name: str, value: Any, reason: str) -> None:
        if name not in self._given and name not in self.choices:
            self.choices[name] = Choice(name, value, reason)

    def __getitem__(self, name: str) -> Any:
        if name in self._given:
            return self._given[name]
        return self.choices[name].value if name in self.choices else _DEFAULTS[name]

    def is_given(self, *names: str) -> bool:
        return any(name in self._given for name in names)


_DEFAULTS = {
    name: each.default
    for name, (each, _) in fields_of(
        (ModelConfig, OptimizerConfig, TrainConfig, LossConfig, AugmentationConfig)
    ).items()
}


def choose(
    data: DataFacts,
    machine: MachineFacts,
    given: Mapping[str, Any],
    models: ModelFacts,
    steps: int | None = None,
) -> list[Choice]:
    """Return a value and a reason for each setting that was not given and should not be the default.

    Args:
      data: of the dataset.
      machine: on which it is trained.
      given: values of settings by name, each in its field's type.
      models: what can be had and built.
      steps: length of the training where a time gives it; None = it is chosen, too.
    """
    chosen = _Chooser(given)
    for name, value in models.initial.items():
        if value != _DEFAULTS[name]:
            chosen.choose(name, value, "as in the initial checkpoint")
    _starting_point(chosen, data, machine, models)
    _input_size(chosen, data, machine)
    if _has_few(chosen, data) and not models.keeps_head:
        _plain_head(chosen)
    else:
        if not models.keeps_head:
            _head(chosen, models)
        _optimizer(chosen)
    _what_it_sees(chosen, data)
    _loss(chosen, data)
    _length(chosen, data, machine, steps)
    _evaluations(chosen, data)
    return list(chosen.choices.values())


def is_small(model_variant: str) -> bool:
    """Whether a backbone was made for phones: it needs little memory per pixel."""
    return "mobile" in model_variant.lower()


def learning_rate(optimizer: str, batch: int, model_variant: str, from_scratch: bool) -> float | None:
    """The learning rate at the start of the schedule; None for optimizers without a known one.

    It grows with the square root of the batch, from the values for a batch of 8.
    """
    if optimizer not in _RATES:
        return None
    small, large, scratch = _RATES[optimizer]
    rate = scratch if from_scratch else small if is_small(model_variant) else large
    return float(f"{rate * math.sqrt(batch / 8):.2g}")


def evaluations(data: DataFacts, steps: int, batch: int, crop: Size, recalibrates: bool) -> int:
    """How often to evaluate, so that it costs at most `EVALUATION_FRACTION` of the training; at least once, at its end.

    An image costs a third of a training step per pixel.
    """
    height, width = data.evaluated_size
    each = data.evaluated_images * height * width / (_BACKWARD * batch * crop[0] * crop[1])
    each += RECALIBRATION_STEPS if recalibrates else 0
    affordable = int(EVALUATION_FRACTION * steps / each) if each else MAX_EVALUATIONS
    return max(1, min(MAX_EVALUATIONS, affordable))


# ---- choices -------------------------------------------------------------------------------------------


def _starting_point(chosen: _Chooser, data: DataFacts, machine: MachineFacts, models: ModelFacts) -> None:
    """Backbone and its weights, precision, devices."""
    enough = machine.memory is None or machine.memory >= _LARGE_BACKBONE_MEMORY
    if models.keeps_head:
        pass  # the backbone is that of the checkpoint
    elif machine.gpus and enough and not chosen.is_given("depth_multiplier"):
        chosen.choose("model_variant", _LARGE_BACKBONE, "more accurate than MobileNetV2, and fast enough on a GPU")
    else:
        chosen.choose("model_variant", _SMALL_BACKBONE, "good accuracy in little time on a small machine")
    if not chosen.is_given("tf_initial_checkpoint"):
        model = {name: chosen[name] for name in ("model_variant", "depth_multiplier")}
        reason = models.no_weights({**model, "input_channels": data.channels})
        if reason:
            chosen.choose("tf_initial_checkpoint", "", f"from scratch: {reason}")
        else:
            chosen.choose(
                "tf_initial_checkpoint", "imagenet", "training from pretrained weights is faster and needs fewer images"
            )
    if _is_from_scratch(chosen) and chosen["model_variant"] == _SMALL_BACKBONE and not machine.gpus:
        chosen.choose("depth_multiplier", 0.5, "from scratch, half the channels learn as well in half the time")
    if machine.gpus > 1:
        chosen.choose("num_clones", machine.gpus, f"{machine.gpus} GPUs share each batch")
    if machine.half_precision:
        chosen.choose("precision", machine.half_precision, "the GPU computes it about twice as fast")


def _is_from_scratch(chosen: _Chooser) -> bool:
    return not chosen["tf_initial_checkpoint"]


def _input_size(chosen: _Chooser, data: DataFacts, machine: MachineFacts) -> None:
    """Crop and batch, within the memory."""
    stride, longest = chosen["output_stride"], _CROP_SIDE[machine.kind]
    sides = fitting_size((max(_MIN_CROP_SIDE, data.size[0]), max(_MIN_CROP_SIDE, data.size[1])), stride)
    crop = min(sides[0], longest), min(sides[1], longest)
    height, width = data.size
    seen = "covers the median image" if crop == sides else f"part of the median image ({height}x{width}), to save time"
    chosen.choose("train_crop_size", crop, seen)
    crop = chosen["train_crop_size"]
    batch, reason = _BATCH[machine.kind], "small batches allow more steps in the same time on a processor"
    if machine.gpus:
        reason = "makes good use of a GPU and gives stable batch-norm statistics"
    if not machine.gpus and crop[0] * crop[1] <= _PIXELS_OF_SMALL_CROPS:
        batch, reason = 2 * batch, "crops are small"
    activations = _BYTES_PER_PIXEL[is_small(chosen["model_variant"])] / (1 if chosen["precision"] == "float32" else 2)
    per_image = crop[0] * crop[1] * (activations + _LOGITS_BYTES * data.num_classes)
    while machine.memory and batch > 2 and batch * per_image > _MEMORY_FRACTION * machine.memory:
        batch, reason = batch // 2, f"more would need over half of the memory, {byte_text(machine.memory)}"
    if 0 < data.images < batch:
        batch, reason = data.images, f"there are {counted(data.images, 'image')}"
    clones = chosen["num_clones"]
    if clones > 1:
        batch, reason = batch * clones, f"{reason}, on each of {clones} devices"
    chosen.choose("train_batch_size", batch, reason)


def _head(chosen: _Chooser, models: ModelFacts) -> None:
    """ASPP and decoder."""
    small = is_small(chosen["model_variant"])
    filters, reason = 64 if _is_from_scratch(chosen) else 128, "enough for a small backbone, and faster than 256"
    if not chosen["aspp_with_batch_norm"]:
        return
    if small:
        chosen.choose("aspp_convs_filters", filters, reason)
    if not _is_from_scratch(chosen) and not (
        chosen.is_given("image_pooling_crop_size") or chosen["dense_prediction_cell_json"]
    ):
        why = "its batch norm would see one value per image, and there are few images per step"
        if chosen["train_batch_size"] // chosen["num_clones"] < MIN_BATCH_FOR_BATCH_NORM:
            chosen.choose("add_image_level_feature", False, why)
        rates = (6, 12) if max(chosen["train_crop_size"]) < _CROP_FOR_ALL_RATES else (6, 12, 18)
        chosen.choose("atrous_rates", rates, "context at several scales")
    if models.has_decoder(chosen["model_variant"]):
        chosen.choose("decoder_output_stride", (4,), "features of stride 4 give precise object borders")
    if small and chosen["decoder_output_stride"] and not chosen["decoder_output_is_logits"]:
        chosen.choose("decoder_filters", filters, reason)


def _has_few(chosen: _Chooser, data: DataFacts) -> bool:
    """Whether a pretrained small backbone has so few images for each class that the plain head learns more."""
    small = is_small(chosen["model_variant"]) and not _is_from_scratch(chosen)
    return small and data.images < _FEW_PER_CLASS * data.num_classes


def _plain_head(chosen: _Chooser) -> None:
    """The head, optimizer and schedule of the research DeepLab for MobileNets."""
    why = f"fewer than {_FEW_PER_CLASS} images for each class: what a whole image shows tells most, a decoder little"
    chosen.choose("add_image_level_feature", True, why)
    if not chosen.is_given("optimizer"):
        rate = float(f"{_PLAIN_RATE * math.sqrt(chosen['train_batch_size'] / 4):.2g}")
        chosen.choose("base_learning_rate", rate, "measured with this head, momentum and the poly schedule")
    chosen.choose("gradient_clip_norm", 5.0, "no single batch can derail the training")


def _optimizer(chosen: _Chooser) -> None:
    """Optimizer, learning rate and its schedule."""
    scratch = _is_from_scratch(chosen)
    if chosen.is_given("base_learning_rate"):
        pass  # it was meant for the optimizer that is given, or for the default
    elif scratch or not is_small(chosen["model_variant"]):
        chosen.choose("optimizer", "momentum", "gives the best results in training that is long or from scratch")
    else:
        chosen.choose("optimizer", "adamw", "trains the new head in fewer steps than momentum")
    name = chosen["optimizer"]
    if name in ("adamw", "lion"):
        chosen.choose("weight_decay", _DECOUPLED_DECAY, "a usual value for decoupled weight decay")
    rate = learning_rate(name, chosen["train_batch_size"], chosen["model_variant"], scratch)
    if rate is not None:
        field = "adam_learning_rate" if name == "adam" else "base_learning_rate"
        start = "from scratch" if scratch else "from trained weights"
        chosen.choose(field, rate, f"{start}, with {name} and {counted(chosen['train_batch_size'], 'image')} per step")
    if name != "adam":
        chosen.choose("learning_policy", "cosine", "ends with small learning rates, however short the training")
    if not chosen.is_given("slow_start_step"):
        chosen.choose("warmup", "0.05", "keeps the new head from disturbing the backbone at first")
    chosen.choose("gradient_clip_norm", 5.0, "keeps a single batch from derailing the training")


def _what_it_sees(chosen: _Chooser, data: DataFacts) -> None:
    """Scales and colors of the images."""
    low, high = (0.5, 1.5) if not _is_from_scratch(chosen) else (0.5, 1.25)
    if not chosen.is_given("min_scale_factor", "max_scale_factor"):
        chosen.choose("min_scale_factor", low, "crops show a large part of an image")
        chosen.choose("max_scale_factor", high, "stays near the size at which images are predicted")
    chosen.choose("scale_factor_step_size", 0.0, "scales are drawn continuously")
    crop, (height, width) = chosen["train_crop_size"], data.size
    is_part = crop[0] < height or crop[1] < width
    if is_part and not _is_from_scratch(chosen) and not _has_few(chosen, data):
        why = "random crops rarely show image borders and small classes"
        chosen.choose("crop_sampling", "class_centered", why)
    strength, reason = "light", "slight changes of brightness, contrast and saturation"
    if data.images < _FEW_IMAGES:
        strength, reason = "medium", f"only {counted(data.images, 'image')}: more variety prevents overfitting"
    chosen.choose("augmentation", strength, reason)
    if not data.is_rgb and chosen["augmentation"] != "none":
        for name in ("saturation", "hue", "gray"):
            chosen.choose(name, 0.0, "the images are not 8-bit RGB")


def _loss(chosen: _Chooser, data: DataFacts) -> None:
    """Weights of the classes."""
    if chosen.is_given("label_weights") or not any(data.pixels):
        return
    scheme = class_balance.recommended_scheme(data.pixels)
    ratio = class_balance.ratio(class_balance.class_weights(scheme, class_balance.ClassCounts(data.pixels)))
    if ratio >= _IMBALANCED:
        chosen.choose("class_balance", scheme, f"rare classes count up to {ratio:.0f} times as much as frequent ones")


def _length(chosen: _Chooser, data: DataFacts, machine: MachineFacts, steps: int | None) -> None:
    """Number of steps, and what depends on it."""
    if not chosen.is_given("training_epochs"):
        if steps is not None:
            chosen.choose("training_number_of_steps", steps, "fits into `time_budget`")
        elif machine.gpus:
            low, high = GPU_STEPS
            wanted = min(high, max(low, round(GPU_EPOCHS * data.images / chosen["train_batch_size"])))
            chosen.choose("training_number_of_steps", wanted, f"{GPU_EPOCHS} epochs, within {low} to {high} steps")
        else:
            chosen.choose("training_number_of_steps", CPU_STEPS, "minutes to an hour on a processor")
    if _planned_steps(chosen, data) < _SHORT and chosen["normalization"] == "batch":
        chosen.choose("batch_norm_decay", 0.99, "lets the averages settle in a short training")


def _planned_steps(chosen: _Chooser, data: DataFacts) -> int:
    if chosen["training_epochs"]:
        return max(1, round(chosen["training_epochs"] * data.images / chosen["train_batch_size"]))
    return chosen["training_number_of_steps"]


def _evaluations(chosen: _Chooser, data: DataFacts) -> None:
    """How often the training evaluates itself, on which split."""
    if not data.evaluated_split and not chosen.is_given("eval_split"):
        return
    if data.evaluated_split != "val":
        chosen.choose("eval_split", data.evaluated_split, "there is no split val")
    steps, decay = _planned_steps(chosen, data), chosen["batch_norm_decay"]
    batch, crop = chosen["train_batch_size"], chosen["train_crop_size"]
    count = evaluations(data, steps, batch, crop, recalibrates=decay is None or decay**steps > 0.01)
    images = counted(data.evaluated_images, "image")
    reason = f"{counted(count, 'evaluation')} of {images}; the best checkpoint is kept"
    chosen.choose("eval_every", str(math.ceil(steps / count)), reason)


def table(choices: Sequence[Choice]) -> list[tuple[str, str]]:
    """Rows for the terminal: the setting as one writes it, and the reason."""
    return [(f"`{choice.name}={show(choice.value)}`", choice.reason) for choice in choices]
