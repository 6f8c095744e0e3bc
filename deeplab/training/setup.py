"""Prepares a training: checks the config against data and folder, writes `config.yml`, and makes the batches.

`starting_point` decides from which checkpoint it starts, and whether a training may be resumed.

Nothing is written before everything has been checked, so that a failed start leaves the folder as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from deeplab import checkpoint
from deeplab.checkpoint import zoo
from deeplab.checkpoint.bundle import Checkpoint
from deeplab.checkpoint.manager import latest
from deeplab.config import run_file
from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.config.compression_config import CompressionConfig
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.durations import Length
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import (
    MIN_BATCH_FOR_BATCH_NORM,
    LossConfig,
    OptimizerConfig,
    TrainConfig,
)
from deeplab.data import augmentation, pipeline, records
from deeplab.data import dataset as datasets
from deeplab.data.augmentation.copy_paste import rare_classes
from deeplab.data.bands import bands_of, model_settings
from deeplab.data.class_names import MANY_CLASSES, frequent_and_rare
from deeplab.data.dataset import Dataset
from deeplab.data.validation.check_report import Finding
from deeplab.data.validation.size_checks import training_findings
from deeplab.evaluation import metrics
from deeplab.inference.prediction import PredictionSettings
from deeplab.losses import class_balance
from deeplab.model import padding_color
from deeplab.model.resize import fitting_size, size_stride
from deeplab.training import (
    channel_pruning,
    class_weights,
    freezing,
    optimizers,
    pruning,
    quantization_phases,
    record_statistics,
    schedules,
)
from deeplab.training.distillation import Distillation
from deeplab.training.distribution import ALONE, Devices
from deeplab.training.starting_point import facts_of, find_start, require_initial_weights
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.files import locked_folder, write_atomically
from deeplab.utils.text import counted, percent, shorten

CHANGES = "changes.log"  # in the training folder: settings that were changed on purpose, with the step
_OF_EACH_WORKER = {  # settings in which workers may differ: paths, and what the chief decides for all
    *("train_logdir", "dataset_dir", "dataset", "profile_logdir", "image_cache", "tf_initial_checkpoint"),
    *("distill_from", "distill_cache", "dense_prediction_cell_json", "random_seed", "worker_wait_secs", "num_replicas"),
}


@dataclass(frozen=True)
class TrainingConfigs:
    """All config groups of one training."""

    model: ModelConfig
    resize: ResizeConfig
    dataset: DatasetConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    augmentation: AugmentationConfig = dataclasses.field(default_factory=AugmentationConfig)
    compression: CompressionConfig = dataclasses.field(default_factory=CompressionConfig)

    def groups(self) -> tuple[Any, ...]:
        """The groups in the order of the help page."""
        return (
            *(self.train, self.dataset, self.model, self.loss, self.optimizer, self.resize),
            *(self.augmentation, self.compression),
        )


@dataclass(frozen=True)
class Prepared:
    """A checked start.

    Attributes:
      dataset: classes, ignore label and what is known of the pixels.
      shards: paths of the TFRecord files.
      seed: of initial weights, shuffling, augmentation and dropout; a resumed training has the one it began with.
      resumed: the checkpoint from which the training resumes; None = it starts at step 0.
      label_weights: loss weight of each class; empty = 1 for all.
      length: of the training, in steps and epochs.
      changes: settings that were changed on purpose since the training began, as lines.
    """

    dataset: Dataset
    shards: list[str]
    seed: int
    resumed: Checkpoint | None
    label_weights: tuple[float, ...] = ()
    length: Length = Length(1)
    changes: tuple[str, ...] = ()


@contextlib.contextmanager
def prepare(
    configs: TrainingConfigs, devices: Devices = ALONE, *, warns_of_batch: bool = True
) -> Iterator[tuple[TrainingConfigs, Prepared]]:
    """Checks a training against its data and its folder, and holds the folder meanwhile. Writes nothing.

    Of several workers the chief alone uses the folder; the others get seed and starting point from it in the loop.

    Args:
      configs: of the training.
      devices: on which it runs.
      warns_of_batch: whether a batch that is small for batch norm is warned of; not where a recipe chose it.

    Yields:
      The configs, with `training_number_of_steps` as `training_epochs` makes it; and what was found.

    Raises:
      UserError: the config does not fit the data, or not the training in the folder.
    """
    train = configs.train
    dataset = datasets.find(configs.dataset.dataset, configs.dataset.dataset_dir)
    configs = with_fewer_channels(with_input_of(configs, dataset))
    require_fit_data(configs, dataset)
    require_one_weight_per_class(configs.loss.label_weights, dataset)
    require_known_metric(train.best_metric, dataset)
    shards = records.list_shards(configs.dataset.dataset_dir, train.train_split)
    length = length_of(train, records.count(shards))
    train = dataclasses.replace(train, training_number_of_steps=length.total_steps)
    configs = dataclasses.replace(configs, train=train)
    require_consistent(configs, length, devices.replicas)
    if train.eval_every:
        records.list_shards(configs.dataset.dataset_dir, train.eval_split)
    if not devices.is_chief:
        weights = class_weights.weights_for(configs.loss, dataset, train.train_split, shards)
        yield configs, Prepared(dataset, shards, 0, None, weights, length)
        return
    with locked_folder(train.train_logdir, "training", "train_logdir"):
        resumed, seed, changes = find_start(configs, dataset)
        if resumed is None:
            require_initial_weights(train)
        weights = class_weights.weights_for(configs.loss, dataset, train.train_split, shards)
        weighted = dataclasses.replace(configs, loss=dataclasses.replace(configs.loss, label_weights=weights))
        tell(weighted, dataset, not train.tf_initial_checkpoint, devices.replicas, warns_of_batch)
        yield configs, Prepared(dataset, shards, seed, resumed, weights, length, changes)


def require_known_metric(name: str, dataset: Dataset) -> None:
    """Refuses a metric that evaluations do not give.

    Raises:
      UserError: it is neither of the whole split nor the IoU of a class.
    """
    known = [*metrics.OVERALL.names(), *(f"iou/{class_name}" for class_name in dataset.class_names)]
    if name not in known:
        rule = f"there is no metric called {name!r}"
        raise UserError("unknown-name", rule, nearest(name, known), field="best_metric", value=name)


def length_of(train: TrainConfig, images: int) -> Length:
    """The length of a training on so many images."""
    per_epoch = max(images, 1) / train.train_batch_size
    steps = max(1, round(train.training_epochs * per_epoch)) if train.training_epochs else 0
    return Length(steps or train.training_number_of_steps, per_epoch)


def require_consistent(configs: TrainingConfigs, length: Length, replicas: int = 1) -> None:
    """Refuses settings of several groups that do not fit together.

    Raises:
      UserError: a pooling window that is larger than the crop, an unknown schedule or optimizer, what several devices
        cannot do, a schedule that waits for evaluations without any, a time for a release of variables that are not
        frozen, names in `allow_changes` that are no settings.
    """
    train, schedule = configs.train, schedules.resolved(configs.optimizer, length)
    PredictionSettings(configs.model, crop_size=train.train_crop_size, crop_field="train_crop_size")  # its window fits
    schedules.learning_rate(schedule, 0, length.total_steps)
    optimizers.find(configs.optimizer.optimizer)
    pruning.plan_of(configs.compression, length)
    quantization_phases.require_consistent(configs.model, train, replicas)
    name = configs.optimizer.optimizer
    several = max(replicas, train.num_clones) > 1
    if train.precision == "mixed_float16" and several and not optimizers.is_own(name):
        rule = f"with several devices and {name}, steps whose gradients overflow cannot be skipped"
        raise UserError("not-supported", rule, "`precision=mixed_bfloat16`", field="precision")
    if train.jit_compile == "true" and several:
        rule = "XLA compiles steps of one device only, and this training has several"
        raise UserError("not-supported", rule, "leave it out", field="jit_compile", value=train.jit_compile)
    if configs.optimizer.learning_policy == "plateau" and not train.eval_every:
        rule = "lowers the learning rate when evaluations stop improving, and there are none"
        raise UserError("missing-setting", rule, "add for example `eval_every=500`", field="learning_policy")
    if train.freeze_steps and freezing.LEVELS.get(train.freeze, train.freeze) == "none":
        rule, hint = "tells when frozen variables are trained, and none are frozen", "add `freeze=backbone`"
        raise UserError("missing-setting", rule, hint, field="freeze_steps")
    known = run_file.names_of(configs.groups())
    for name in train.changes_allowed():
        if name not in known:
            rule = f"there is no setting {name!r}"
            raise UserError("unknown-name", rule, nearest(name, known), field="allow_changes", value=name)


def save_config(configs: TrainingConfigs, prepared: Prepared) -> None:
    """Writes `config.yml`: the config, the seed, and what later commands need to know of the dataset."""
    facts = facts_of(prepared.dataset, configs.train.train_split)
    folder = configs.train.train_logdir
    run_file.save(folder, configs.groups(), {**facts, "seed": prepared.seed})
    if prepared.changes and prepared.resumed:
        path = pathlib.Path(folder, CHANGES)
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        lines = "".join(f"step {prepared.resumed.step}: {line}\n" for line in prepared.changes)
        write_atomically(path, before + lines)


def with_fewer_channels(configs: TrainingConfigs) -> TrainingConfigs:
    """The configs of the model that `prune_channels` leaves; a resumed training has the one that it began with.

    Raises:
      UserError: there is no initial checkpoint to prune, or it is of another backbone.
    """
    fraction, train = configs.compression.prune_channels, configs.train
    if not fraction:
        return configs
    saved = run_file.load(train.train_logdir) if latest(train.train_logdir) else {}
    if saved.get("prune_channels") == fraction and saved.get("expansion_channels"):
        model = dataclasses.replace(configs.model, expansion_channels=saved["expansion_channels"])
    else:
        if not train.tf_initial_checkpoint:
            rule, hint = "removes channels from a trained model", "add `tf_initial_checkpoint=FOLDER`"
            raise UserError("missing-setting", rule, hint, field="prune_channels")
        opened = checkpoint.open(zoo.published_weights(train.tf_initial_checkpoint, configs.model))
        before = opened.config.get("expansion_channels") or configs.model.expansion_channels
        model = dataclasses.replace(configs.model, expansion_channels=before)
        wide = channel_pruning.widths(model)
        model = channel_pruning.narrowed(model, fraction)
        console.note(channel_pruning.changes(wide, model.expansion_channels))
    return dataclasses.replace(configs, model=model)


def with_input_of(configs: TrainingConfigs, dataset: Dataset) -> TrainingConfigs:
    """The configs with the channels, type, scaling and statistics of the dataset's images in the model's config.

    Raises:
      UserError: the model's config says something else (`wrong-channels`, `dataset-mismatch`).
    """
    wanted, bands = bands_of(configs.model), dataset.image_bands
    if wanted.channels not in (3, bands.channels):
        rule = f"is {wanted.channels}, but the images of {dataset.name} have {bands.channels} channels"
        hint = "leave it out: it is that of the records, which `bands` chooses when they are built"
        raise UserError("wrong-channels", rule, hint, field="input_channels", value=wanted.channels)
    found = model_settings(bands)
    if not found["input_mean"]:  # the records leave the normalization open: that of initial weights may be kept
        found = {name: value for name, value in found.items() if name not in ("input_mean", "input_std")}
    for name, value in found.items():
        given = getattr(configs.model, name)
        if name != "input_channels" and given not in (getattr(ModelConfig(), name), value):
            rule = f"is {run_file.show(given)}, but dataset.yml of {dataset.name} says {run_file.show(value)}"
            hint = "leave it out: what the records say is used"
            raise UserError("dataset-mismatch", rule, hint, field=name, value=given)
    return dataclasses.replace(configs, model=dataclasses.replace(configs.model, **found))


def require_equal_workers(configs: TrainingConfigs, prepared: Prepared, devices: Devices) -> None:
    """Refuses workers with other settings, another dataset or other records than the chief's; paths may differ.

    Raises:
      UserError: they differ (`workers-differ`).
    """
    facts = {
        field.name: run_file.show(getattr(group, field.name))
        for group in configs.groups()
        for field in dataclasses.fields(group)
        if field.name not in _OF_EACH_WORKER
    }
    train, folder = configs.train, configs.dataset.dataset_dir
    facts |= {f"{name} of the dataset": run_file.show(value) for name, value in facts_of(prepared.dataset, "").items()}
    facts["the loss weights of the classes"] = run_file.show(prepared.label_weights)
    evaluated = records.list_shards(folder, train.eval_split) if train.eval_every else []
    for path in dict.fromkeys([*prepared.shards, *evaluated]):
        facts[f"the content of {pathlib.Path(path).name}"] = records.fingerprint(path)
    devices.require_equal(facts)


# ---- data ----------------------------------------------------------------------------------------------


def training_batches(
    configs: TrainingConfigs,
    dataset: Dataset,
    shards: list[str],
    devices: Devices,
    seed: int,
    start: int = 0,
    teacher: Distillation | None = None,
    cache_bytes: int = 0,
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Endless batches as `pipeline.train_batches` gives them, spread over the devices where there are several.

    Args:
      configs: crop, batch and augmentation.
      dataset: classes and ignore label.
      shards: paths of the TFRecord files.
      devices: where they go.
      seed: the same seed gives the same batches.
      start: number of steps already done; the batches continue from there.
      teacher: adds its probabilities, where it cannot run inside the step.
      cache_bytes: memory of this process for decoded images.

    Raises:
      UserError: as `pipeline.train_batches`.
    """
    train, padding = configs.train, padding_color(configs.model)
    make = functools.partial(
        pipeline.train_batches,
        shards,
        crop_size=train.train_crop_size,
        batch_size=train.train_batch_size,
        padding_color=padding,
        ignore_label=dataset.ignore_label,
        num_classes=dataset.num_classes,
        min_scale_factor=train.min_scale_factor,
        max_scale_factor=train.max_scale_factor,
        scale_factor_step_size=train.scale_factor_step_size,
        resize=configs.resize,
        augmentations=operations(configs, dataset, shards),
        crop_sampling=configs.augmentation.crop_sampling,
        repeats=record_statistics.repeats_for(configs.augmentation, dataset, shards),
        seed=seed,
        start=start,
        bands=dataset.image_bands,
        cache_bytes=cache_bytes,
    )
    if teacher is None:
        return devices.batches(make)
    return devices.batches(lambda **part: teacher.add_to(make(**part)))


def operations(configs: TrainingConfigs, dataset: Dataset, shards: list[str]) -> list[Any]:
    """The augmentations beside scale, crop and mirroring, as `pipeline.train_batches` takes them.

    Raises:
      UserError: one of them does not fit the images or the batch.
    """
    amounts, split = configs.augmentation.amounts(), configs.train.train_split
    mixing = [name for name in amounts if name in augmentation.MIXTURES]
    if mixing and configs.train.train_batch_size < 2:
        rule = "mixes images of one batch, and the batch has one"
        hint = f"raise `train_batch_size`, or `{mixing[0]}=0`"
        raise UserError("conflicting-settings", rule, hint, field=mixing[0], value=amounts[mixing[0]])
    rare: tuple[int, ...] = ()
    if "copy_paste" in amounts:
        pixels = dataset.pixels.get(split, ())
        rare = rare_classes(pixels if any(pixels) else record_statistics.count(dataset, shards).counts.pixels)
    padding = padding_color(configs.model)
    return augmentation.make(configs.augmentation, padding, dataset.ignore_label, rare)


def require_fit_data(configs: TrainingConfigs, dataset: Dataset) -> None:
    """Refuses data in which a check found errors, as `dataset.yml` notes them; a warning with `ignore_data_errors`.

    Says so where nothing was checked: records built with `check=false`, by another program, or before version 0.2.

    Raises:
      UserError: there are such errors, and they are not to be ignored.
    """
    errors = {split: ", ".join(rules) for split, rules in dataset.errors.items() if rules}
    if not errors:
        split, folder = configs.train.train_split, configs.dataset.dataset_dir
        if split not in dataset.errors:
            check = f"deeplab check-data `dataset_dir={folder}`"
            console.note(f"the records of split {split} have not been checked when they were built: {check} does it")
        return
    found = "; ".join(f"split {split}: {rules}" for split, rules in errors.items())
    rule = f"training must not start, by the check when the records were built: {found}"
    if configs.train.ignore_data_errors:
        console.warning(rule)
        return
    folder = configs.dataset.dataset_dir
    hint = (
        f"deeplab check-data `dataset_dir={folder}` shows the errors: correct the data and build the records again; "
        "`ignore_data_errors=true` trains in spite of them"
    )
    raise UserError("unfit-dataset", rule, hint, where=folder)


def require_one_weight_per_class(weights: tuple[float, ...], dataset: Dataset) -> None:
    """Refuses label weights whose number is not that of the classes.

    Raises:
      UserError: it is another one.
    """
    if weights and len(weights) != dataset.num_classes:
        rule = f"there are {len(weights)} weights for {dataset.num_classes} classes: {shorten(dataset.class_names, 20)}"
        hint = "give one per class, with the background, without the ignore label"
        raise UserError("class-count-mismatch", rule, hint, field="label_weights", value=weights)


# ---- notes and warnings --------------------------------------------------------------------------------


def tell(
    configs: TrainingConfigs, dataset: Dataset, from_scratch: bool, replicas: int = 0, warns_of_batch: bool = True
) -> None:
    """Prints the class table, and warnings about configs that work but often disappoint; arguments as `warnings`."""
    train, stride = configs.train, size_stride(configs.model)
    if dataset.pixels.get(train.train_split):
        console.note(class_table(dataset, train.train_split, configs.loss.label_weights))
    if train.train_crop_size != fitting_size(train.train_crop_size, stride):
        better = run_file.show(fitting_size(train.train_crop_size, stride))
        console.note(f"`train_crop_size={better}` would fit the output stride {stride} (a multiple of it, plus 1)")
    for text in warnings(configs, dataset, from_scratch, replicas, warns_of_batch):
        console.warning(text)


def warnings(
    configs: TrainingConfigs, dataset: Dataset, from_scratch: bool, replicas: int = 0, warns_of_batch: bool = True
) -> Iterator[str]:
    """What is likely to disappoint.

    Args:
      configs: of the training.
      dataset: on which it trains.
      from_scratch: no checkpoint gives the first weights.
      replicas: devices of all workers; 0 = those of this machine.
      warns_of_batch: whether a batch that is small for batch norm counts.
    """
    train, weights = configs.train, configs.loss.label_weights
    pixels = dataset.pixels.get(train.train_split, ())
    for item in data_findings(configs, dataset):
        yield f"{item.rule}: {item.text}; {item.hint}"
    if class_balance.ratio(weights) > class_balance.MAX_RATIO:
        recommended = class_balance.recommended_weights(pixels)
        instead = f"try {class_balance.setting_text(recommended)}" if recommended else "try their square roots"
        yield (
            f"`label_weights` differ by a factor of {class_balance.ratio(weights):.0f}: such models tend to predict "
            f"the heavy class everywhere; {instead}"
        )
    replicas = replicas or train.num_clones
    per_device = train.train_batch_size // (1 if train.syncs_batch_norm(replicas) else replicas)
    per_device //= train.accumulate_steps
    learns = configs.model.normalization == "batch" and train.fine_tune_batch_norm
    if warns_of_batch and learns and per_device < MIN_BATCH_FOR_BATCH_NORM:
        advice = (
            "raise the batch, or start from a checkpoint (`tf_initial_checkpoint`)"
            if from_scratch
            else "`fine_tune_batch_norm=false` keeps those of the initial checkpoint"
        )
        yield (
            f"batch norm learns from {counted(per_device, 'image')} at a time; with fewer than "
            f"{MIN_BATCH_FOR_BATCH_NORM} its statistics are noisy: {advice}"
        )


def data_findings(configs: TrainingConfigs, dataset: Dataset) -> Iterator[Finding]:
    """What `check-data` says of absent classes, the batch and the crop, from dataset.yml alone."""
    train, stride = configs.train, configs.model.output_stride
    # Sizes in dataset.yml are those of the stored images.
    known = dataclasses.replace(dataset, size_range={}) if configs.resize.min_resize_value else dataset
    scales = (train.min_scale_factor, train.max_scale_factor)
    return training_findings(known, train.train_split, train.train_crop_size, train.train_batch_size, scales, stride)


def class_table(dataset: Dataset, split: str, weights: tuple[float, ...]) -> str:
    """Class, fraction of the pixels, weight in the loss: a table; of many classes the most frequent and the rarest."""
    pixels = dataset.pixels[split]
    total = max(1, sum(pixels))
    weights = weights or (1.0,) * dataset.num_classes
    rows = [
        (str(index), name, percent(count / total), f"{weight:g}")
        for index, (name, count, weight) in enumerate(zip(dataset.class_names, pixels, weights, strict=True))
    ]
    if len(rows) > MANY_CLASSES:
        kept = frequent_and_rare(pixels)
        rows = [*(rows[index] for index in kept), ("", f"... {len(rows) - len(kept)} more", "", "")]
    return console.table(rows, ["label", "class", "pixels", "loss weight"])
