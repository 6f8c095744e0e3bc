"""Applies the recipe: collects facts, remembers the choices, times steps, and writes `recipe.yml`.

`plan` is called before the training is prepared and completes the given settings; `RecipePlan.settle` is called after
it and sets the number of steps from the time budget. A resumed training keeps its choices, which are in `config.yml`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import pathlib
import shutil
import subprocess  # nosec B404  # asks the driver of NVIDIA GPUs for their memory
import textwrap
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml

import slim
from deeplab import checkpoint
from deeplab.checkpoint import manager, zoo
from deeplab.config import run_file
from deeplab.config.command_line import read_config_file
from deeplab.config.fields import coerce, fields_of, make
from deeplab.config.model_config import ModelConfig
from deeplab.config.recipe_config import RecipeConfig
from deeplab.config.training_config import BEST_FOR_BACKBONE, IMAGENET
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.bands import RGB, ImageBands
from deeplab.data.dataset import Dataset
from deeplab.training import cluster, loop, recipe, setup
from deeplab.training.distribution import Devices
from deeplab.training.recipe import Choice, DataFacts, MachineFacts, ModelFacts, Size
from deeplab.training.setup import Prepared, TrainingConfigs
from deeplab.training.step import make_train_step
from deeplab.utils import console, resources
from deeplab.utils.errors import UserError
from deeplab.utils.files import write_atomically
from deeplab.utils.remote_names import is_remote, named
from deeplab.utils.text import counted

FILE_NAME = "recipe.yml"  # in the training folder
NOT_IN_RECIPE = ("train_logdir", "recipe", "time_budget", "allow_changes")

# Settings that shape no weights, but are those of the model that learned them.
_EXPECTED_BY_WEIGHTS = ("align_corners", "dilation", "batch_norm_epsilon", "multi_grid")
_SIZE_SAMPLE = 200  # records of which sizes are read
_WARM_UP_STEPS = 3  # the first step compiles
_TIMED_STEPS, _TIMED_SECONDS = 20, 10.0  # whichever comes first
_FEW_STEPS = 50  # of which a budget is reported to be too small
_MARGIN = 0.97  # of the remaining time, for what is not foreseen
_END_SECONDS = 3.0  # checkpoints and the report


@dataclass(frozen=True)
class RecipePlan:
    """What was chosen for a training.

    Attributes:
      given: what was given, completed by the choices; without the recipe's own settings.
      choices: the choices with their reasons; empty where a begun training remembers them.
      facts: of data and machine; None where nothing was chosen from them.
      models: what can be had and built.
      explicit: what was given.
      budget: seconds that the training may take, counted from `started`; 0 = no limit, or the length is remembered.
      started: when the command began, by `time.monotonic`.
    """

    given: Mapping[str, Any]
    choices: Sequence[Choice] = ()
    facts: tuple[DataFacts, MachineFacts] | None = None
    models: ModelFacts = dataclasses.field(default_factory=ModelFacts)
    explicit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    budget: float = 0.0
    started: float = 0.0

    def settle(
        self, configs: TrainingConfigs, prepared: Prepared, devices: Devices
    ) -> tuple[TrainingConfigs, Prepared, RecipePlan]:
        """Fixes the length of the training by its time budget; returns all three as they are where there is none.

        Args:
          configs, prepared: of a training that has not begun.
          devices: on which it runs.
        """
        if not self.budget or prepared.resumed:
            return configs, prepared, self
        seconds, start = time_steps(configs, prepared, devices)
        evaluates = bool(configs.train.eval_every) or any(choice.name == "eval_every" for choice in self.choices)
        left = self.budget - (time.monotonic() - self.started)
        steps = steps_within(left, seconds, start, evaluates)
        console.note(
            f"a step takes {seconds:.2f} s: {counted(steps, 'step')} in the {console.duration(left)} that are left of "
            f"`time_budget`, with time for evaluations and checkpoints"
        )
        if steps < _FEW_STEPS:
            console.warning(f"{counted(steps, 'step')} will hardly change the initial model: raise `time_budget`")
        choices: Sequence[Choice] = [Choice("training_number_of_steps", steps, "fits into `time_budget`")]
        if self.facts:
            choices = recipe.choose(*self.facts, self.explicit, self.models, steps)
        names = {choice.name for choice in (*self.choices, *choices)}
        configs = with_values(configs, names, {choice.name: choice.value for choice in choices})
        length = dataclasses.replace(prepared.length, total_steps=steps)
        plan = dataclasses.replace(self, choices=choices)
        return configs, dataclasses.replace(prepared, length=length), plan

    def chose(self, name: str) -> bool:
        """Return whether a setting is the recipe's choice, also one that a begun training remembers."""
        return name in self.given and name not in self.explicit

    def tell(self) -> None:
        """Prints the choices with their reasons."""
        if self.facts and self.choices:
            data, machine = self.facts
            rows = recipe.table(self.choices)
            text = console.table([(console.spelled(name), reason) for name, reason in rows], ("chosen", "why"))
            console.note(f"recipe for {data.text()}; {machine.text()}\n{text}")

    def write(self, folder: str | os.PathLike) -> None:
        """Writes `recipe.yml` into a training folder: all choices and what was given, for `config`."""
        if self.choices:
            path = pathlib.Path(folder) / FILE_NAME
            write_atomically(path, file_text(self.choices, self.explicit, self.facts))
            console.note(f"{path} holds these settings; edit it and use it with `config={path}`")


def plan(given: Mapping[str, Any], groups: Sequence[type], started: float) -> RecipePlan:
    """Return the settings of a training, completed by what suits its data and this machine.

    Args:
      given: settings by name, each in its field's type.
      groups: the config dataclasses of the training.
      started: when the command began, by `time.monotonic`.

    Raises:
      UserError: a length is given beside a time budget (`conflicting-settings`), several machines train together
        (`not-supported`), or the records cannot be read.
    """
    config = make(RecipeConfig, given)
    explicit = {name: value for name, value in given.items() if name not in fields_of([RecipeConfig])}
    budget = config.budget_seconds()
    for name in ("training_number_of_steps", "training_epochs"):
        if budget and explicit.get(name):
            rule = f"sets the number of steps, as does `{name}`"
            raise UserError("conflicting-settings", rule, "leave one of them out", field="time_budget")
    if cluster.find():
        rule = "chooses for one machine, but this process is one of several that train together"
        hint = f"choose on one machine, and start all workers with `config={FILE_NAME}` from its training folder"
        raise UserError("not-supported", rule, hint, field="time_budget" if budget else "recipe")
    remembered = remembered_settings(given["train_logdir"], groups)
    if remembered:
        console.note(f"the settings are those with which the training in {given['train_logdir']} began")
        return RecipePlan({**remembered, **explicit}, explicit=explicit)
    if config.recipe == "none":
        return RecipePlan(explicit, explicit=explicit, budget=budget, started=started)
    dataset = datasets.find(explicit.get("dataset", ""), explicit["dataset_dir"])
    facts = data_facts(dataset, explicit), machine_facts()
    models = model_facts(explicit.get("tf_initial_checkpoint"), dataset.image_bands)
    choices = recipe.choose(*facts, explicit, models)
    if budget:  # the length is not known yet
        choices = [choice for choice in choices if choice.name != "training_number_of_steps"]
    completed = {**{choice.name: choice.value for choice in choices}, **explicit}
    return RecipePlan(completed, choices, facts, models, explicit, budget, started)


def remembered_settings(folder: str | os.PathLike, groups: Sequence[type]) -> dict[str, Any]:
    """Return all settings of the training that a folder holds; empty where none has begun.

    Remote places for output are left out: the command line copies those that are given again.
    """
    path = pathlib.Path(folder) / run_file.FILE_NAME
    if not path.is_file() or not manager.all_checkpoints(folder):
        return {}
    found = read_config_file(str(path), groups)
    outputs = {name for name, (each, _) in fields_of(groups).items() if each.metadata["writes"]}
    return {name: value for name, value in found.items() if not (name in outputs and is_remote(value))}


def with_values(configs: TrainingConfigs, names: Collection[str], values: Mapping[str, Any]) -> TrainingConfigs:
    """Return configs in which the named settings have these values, or their defaults where there is none."""
    changed: dict[str, Any] = {}
    for part in dataclasses.fields(configs):
        group = getattr(configs, part.name)
        own = {
            field.name: values.get(field.name, field.default)
            for field in dataclasses.fields(group)
            if field.name in names
        }
        changed[part.name] = dataclasses.replace(group, **own)
    return dataclasses.replace(configs, **changed)


# ---- facts ---------------------------------------------------------------------------------------------


def data_facts(dataset: Dataset, given: Mapping[str, Any]) -> DataFacts:
    """Return what is known of a dataset: from `dataset.yml`, and sizes from some of the records.

    Raises:
      UserError: the training split is missing, or its records are damaged.
    """
    folder, split = given["dataset_dir"], given.get("train_split", "train")
    shards = records.list_shards(folder, split)
    evaluated = evaluated_split(folder, split, given.get("eval_split"))
    others = records.list_shards(folder, evaluated) if evaluated else []
    size = median_size(shards, dataset, split)
    return DataFacts(
        images=records.count(shards),
        size=size,
        num_classes=dataset.num_classes,
        pixels=tuple(dataset.pixels.get(split, ())),
        channels=dataset.image_bands.channels,
        is_rgb=dataset.image_bands.is_rgb,
        evaluated_split=evaluated,
        evaluated_images=records.count(others),
        evaluated_size=median_size(others, dataset, evaluated) if others else size,
    )


def evaluated_split(folder: str | os.PathLike, train_split: str, wanted: str | None = None) -> str:
    """Return the split to evaluate on: the wanted one, val, or the first that is not for training; "" without any."""
    if wanted:
        return wanted
    others = [name for name in records.shards_by_split(folder) if name != train_split and "train" not in name]
    return min(others, key=lambda name: (name != "val", name), default="")


def median_size(shards: Sequence[str], dataset: Dataset, split: str) -> Size:
    """Return the median height and width over some records of all shards; of `dataset.yml` where records have none."""
    each = math.ceil(_SIZE_SAMPLE / len(shards))
    sample = itertools.chain.from_iterable(itertools.islice(records.read_shard(path), each) for path in shards)
    sizes = [(int(record.get(records.HEIGHT, 0)), int(record.get(records.WIDTH, 0))) for record in sample]
    known = [size for size in sizes if min(size) > 0]
    if known:
        height, width = np.median(known, axis=0).astype(int).tolist()
        return height, width
    limits = dataset.size_range.get(split)
    if limits is None:
        return 513, 513
    return (limits.min_height + limits.max_height) // 2, (limits.min_width + limits.max_width) // 2


def machine_facts() -> MachineFacts:
    """Return what is known of this machine."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return MachineFacts(0, resources.available_memory(), "", resources.core_count())
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capability = min(detail.get("compute_capability", (0, 0)) for detail in details)
    half = "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else ""
    return MachineFacts(len(gpus), _gpu_memory(), half, resources.core_count())


def _gpu_memory() -> float | None:
    """Bytes of the smallest GPU, as the driver's own program tells; None without it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        words = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        found = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)  # nosec B603
        printed = found.stdout
        return min(float(line) for line in printed.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def model_facts(initial_checkpoint: str | None, bands: ImageBands = RGB) -> ModelFacts:
    """Return what can be had and built, and what an initial checkpoint that was given tells of its model.

    That is what shapes its weights, and what they were trained to expect: how maps are resized and dilated, and how
    images are normalized where the records leave it open.

    Raises:
      UserError: there is no such checkpoint.
    """
    asked: dict[tuple[Any, ...], str] = {}

    def why_none(model: Mapping[str, Any]) -> str:  # a download that failed is not tried again
        key = tuple(model[name] for name in ("model_variant", "depth_multiplier", "input_channels"))
        if key not in asked:
            asked[key] = no_weights(model)
        return asked[key]

    if initial_checkpoint in (None, "", IMAGENET, BEST_FOR_BACKBONE):
        return ModelFacts(why_none, has_decoder, keeps_head=initial_checkpoint == BEST_FOR_BACKBONE)
    source = checkpoint.open(initial_checkpoint)
    saved = getattr(source, "config", {})
    wanted = {name: each for name, each in fields_of([ModelConfig]).items() if each[0].metadata["shapes_weights"]}
    is_open = not bands.mean and len(saved.get("input_mean") or ()) == bands.channels
    expected = (*_EXPECTED_BY_WEIGHTS, *(("input_mean", "input_std") if is_open else ()))
    wanted |= {name: each for name, each in fields_of([ModelConfig]).items() if name in expected}
    own = {name: coerce(*wanted[name], saved[name]) for name in wanted if name in saved and name != "input_channels"}
    return ModelFacts(why_none, has_decoder, own, keeps_head="logits/semantic/weights" in source)


def no_weights(model: Mapping[str, Any]) -> str:
    """Return why a model cannot start from ImageNet weights; empty where it can. Downloads them, once."""
    if model["input_channels"] != 3:
        return f"ImageNet weights are for 3 channels, not {model['input_channels']}"
    try:
        config = ModelConfig(model_variant=model["model_variant"], depth_multiplier=model["depth_multiplier"])
        weights = zoo.imagenet_weights(config)
        if isinstance(weights, str) and zoo.is_name(weights):
            zoo.fetch(weights)
    except UserError as error:
        if error.code in ("no-imagenet-weights", "download-failed"):
            return f"no ImageNet weights for {model['model_variant']} ({error.code}: {error.rule})"
        raise
    return ""


@functools.cache
def has_decoder(model_variant: str) -> bool:
    """Return whether a backbone has features of stride 4, which a decoder needs; unknown ones are built to see."""
    if model_variant.startswith(("mobilenet_v2", "xception", "resnet_")):
        return True
    image = keras.Input((65, 65, 3))
    try:
        return 4 in slim.build(model_variant, image, slim.Options()).low_level
    except (KeyError, ValueError, slim.OptionError):  # the error is told where the model is built
        return False


# ---- time ----------------------------------------------------------------------------------------------


def steps_within(left: float, seconds: float, start: float, evaluates: bool) -> int:
    """Return how many steps fit into a time, at least 1.

    Args:
      left: seconds for the whole training, from now.
      seconds: of a step.
      start: seconds until the second step: the model is built and compiled.
      evaluates: evaluations take their fraction, too.
    """
    per_step = seconds * (1 + (recipe.EVALUATION_FRACTION if evaluates else 0))
    available = left * _MARGIN - start - _END_SECONDS
    return max(1, math.floor(available / per_step))


def time_steps(configs: TrainingConfigs, prepared: Prepared, devices: Devices) -> tuple[float, float]:
    """Return the seconds of a training step, and those until the second one; the weights are thrown away.

    The batches are those of the training, so that a slow input pipeline shows.
    """
    console.note("timing a few steps")
    began = time.monotonic()
    keras.utils.set_random_seed(prepared.seed)
    trainer = loop.make_trainer(configs, prepared, devices.strategy)
    step_function = make_train_step(trainer, devices.strategy)
    batches = iter(setup.training_batches(configs, prepared.dataset, prepared.shards, devices, prepared.seed))
    start, seconds = 0.0, []
    for step in range(_WARM_UP_STEPS + _TIMED_STEPS):
        before = time.monotonic()
        results = step_function(next(batches), tf.constant(step, tf.int64))
        float(results["total_loss"])
        now = time.monotonic()
        start = start or now - began
        if step >= _WARM_UP_STEPS:
            seconds.append(now - before)
        if sum(seconds) > _TIMED_SECONDS:
            break
    return sum(seconds) / len(seconds), start


# ---- the file ------------------------------------------------------------------------------------------


def file_text(
    choices: Sequence[Choice], explicit: Mapping[str, Any], facts: tuple[DataFacts, MachineFacts] | None
) -> str:
    """The text of `recipe.yml`: a setting per line, below the reason for its value."""
    return "\n".join(_lines(choices, explicit, facts)) + "\n"


def _lines(
    choices: Sequence[Choice], explicit: Mapping[str, Any], facts: tuple[DataFacts, MachineFacts] | None
) -> Iterator[str]:
    yield "# Settings of a training: edit them, and use them with --config=FILE. Flags on the command line win."
    if facts:
        yield from _comment(f"Chosen by --recipe=auto for {facts[0].text()}; {facts[1].text()}.")
    given = {name: value for name, value in explicit.items() if name not in NOT_IN_RECIPE}
    if given:
        yield from ("", "# Given on the command line or in a file.", *(_setting(*item) for item in given.items()))
    for choice in choices:
        yield from ("", *_comment(console.spelled(choice.reason)), _setting(choice.name, choice.value))


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ")


def _setting(name: str, value: Any) -> str:
    plain = [_named(part) for part in value] if isinstance(value, tuple) else _named(value)
    in_brackets = yaml.safe_dump([plain], default_flow_style=True, width=1 << 20).strip()
    return f"{name}: {in_brackets[1:-1]}"


def _named(value: Any) -> Any:
    return named(value) if isinstance(value, str) else value
