r"""Makes a model from images and annotations: all steps in one command.

    deeplab fit photos masks --output=runs/mine --classes=background,hair,skin --minutes=30
    deeplab fit coco --annotations=instances.json --image_folder=images --output=runs/mine
    deeplab fit photos masks --output=runs/mine --training_number_of_steps=500 --tf_initial_checkpoint=

Takes two folders of images and masks, or any FORMAT of build_data with its flags (`deeplab fit coco --help`). For masks
of class indices, --classes=background,hair,skin gives their names; elsewhere it chooses among the classes that have
names. Runs build_data, check_data, train, eval and export, and prints each command before it runs; you can also run
each of them separately. Ends with `deeplab predict` and `deeplab serve` lines for your own images. After a stop, or an
error that you corrected, the same line resumes: finished stages are skipped, and the training resumes from its last
checkpoint. If the data is unfit for training, it ends with exit code 3 before the training starts.

The training uses `deeplab train --recipe=auto`: it chooses backbone, weights, crop, batch, learning rate, augmentation,
class weights and length for the data and this machine, and prints why. Flags replace any of it. The training
evaluates itself; the best checkpoint is evaluated and exported. OUTPUT holds tfrecord/, check.html,
train/ (with recipe.yml), eval/, export/, and fit.json: which stages are done.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.build_data import formats
from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.config.command_line import OK, Command, Given, Word, configs_from
from deeplab.config.compression_config import CompressionConfig
from deeplab.config.conversion_config import LabelConfig, SplitConfig
from deeplab.config.fields import fields_of
from deeplab.config.fit_config import FitConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.run_file import show
from deeplab.config.training_config import LossConfig, OptimizerConfig
from deeplab.data import dataset as datasets
from deeplab.utils import installation
from deeplab.utils.errors import UserError
from deeplab.utils.files import locked_folder, write_atomically

STATE_FILE = "fit.json"
_MODULES = {"export": "export_model"}
_OF_TRAIN = (
    *("tf_initial_checkpoint", "training_number_of_steps", "eval_every", "train_crop_size", "train_batch_size"),
    *("min_scale_factor", "max_scale_factor", "random_seed"),
)
_MAX_EXPORT_SIDE = 1025  # a frozen graph pads every image to its crop
_EXPORTS = ("frozen_graph", "saved_model", "litert", "onnx")


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command of the chain.

    Attributes:
      command: its name after `deeplab`.
      words: gives what follows the name, once the stages before it are done.
      result: a file that it writes.
      after: called when the command has ended; makes `result` from what it wrote.
    """

    command: str
    words: Callable[[], list[str]]
    result: pathlib.Path
    after: Callable[[], None] | None = None


def stages(config: FitConfig, given: Given, format_name: str = "folder") -> list[Stage]:
    """Return the commands of the chain in their order."""
    output = pathlib.Path(config.output)
    records, train, graph = output / "tfrecord", output / "train", output / "export" / "frozen_inference_graph.pb"
    check, report = output / "check.json", output / "check.html"

    def build() -> list[str]:
        settings = _chosen(given, [_config_of(format_name), LabelConfig, SplitConfig])
        if format_name == "folder" and _are_names(given):
            settings["class_names"] = _names_of_masks(settings.pop("classes"))
        own = {name: given[name] for name in ("bands", "scale_from", "tile_size", "max_leak") if given.get(name)}
        return [format_name, *_flags(**settings, **own, output_dir=records, check=False, resume=True)]

    def check_records() -> list[str]:
        own = {"max_leak": given["max_leak"]} if given.get("max_leak") else {}
        return _flags(dataset_dir=records, json=check, html=report, **own)

    def train_with_recipe() -> list[str]:
        own = {name: given[name] for name in _OF_TRAIN if given.get(name) is not None}
        chosen = _chosen(given, [ModelConfig, LossConfig, OptimizerConfig, AugmentationConfig, CompressionConfig])
        if config.minutes:
            own["time_budget"] = f"{config.minutes:.6f}".rstrip("0").rstrip(".") + "min"
        split = _split_flag(check, "eval_split")
        return _flags(dataset_dir=records, train_logdir=train, recipe="auto", **split, **own, **chosen)

    def model() -> pathlib.Path:
        return train / "best" if (train / "best" / "checkpoint").is_file() else train

    def evaluate() -> list[str]:
        return _flags(
            model=model(), dataset_dir=records, eval_logdir=output / "eval", **_split_flag(check, "eval_split")
        )

    def export() -> list[str]:
        crop = _read_json(check)["crop"]["eval"]
        sized = {"crop_size": crop} if max(crop) <= _MAX_EXPORT_SIDE else {}
        return _flags(checkpoint_path=model(), export_path=graph, **sized, formats=config.formats or _exports())

    def note_check() -> None:
        datasets.note_errors(records, dict.fromkeys(datasets.load(records / "dataset.yml").splits, ()))

    return [
        Stage("build_data", build, records / "dataset.yml"),
        Stage("check_data", check_records, check, after=note_check),
        Stage("train", train_with_recipe, train / "config.yml"),
        Stage("eval", evaluate, output / "eval"),
        Stage("export", export, graph),
    ]


def fit(config: FitConfig, given: Given, format_name: str = "folder") -> int:
    """Runs the stages that have not been completed; returns the exit code of the first that fails, else 0.

    Args:
      config: the output folder, and settings whose defaults `fit` owns.
      given: all settings that were given, for the stages.
      format_name: the annotation format, a name in `deeplab.data.readers.FORMATS`.

    Raises:
      UserError: a stage failed, or the records in the folder were built with other settings (`would-overwrite`).
    """
    output = pathlib.Path(config.output)
    with locked_folder(output, "fitting", "output"):
        done = _State(output / STATE_FILE)
        again = False  # a stage ran, so that those after it must run as well
        chain = stages(config, given, format_name)
        for number, stage in enumerate(chain, 1):
            words = stage.words()
            line = shlex.join(["deeplab", stage.command, *words])
            if not again and done.has(stage.command, line) and stage.result.exists():
                print(f"\n[{number}/{len(chain)}] done: {line}", flush=True)
                continue
            if stage.command == "build_data" and done.line(stage.command) not in ("", line) and stage.result.exists():
                rule = f"holds records of other settings: {done.line(stage.command)}"
                hint = "give another `output`, or remove this folder"
                raise UserError("would-overwrite", rule, hint, where=output)
            print(f"\n[{number}/{len(chain)}] {line}", flush=True)
            again = True
            done.begin(stage.command, line)
            code = _run(stage.command, words)
            if code != OK:
                print(f"\n{stage.command} ended with exit code {code}; what was done is kept in {output}", flush=True)
                return code
            if stage.after:
                stage.after()
            done.end(stage.command)
    graph, folder = chain[-1].result, output / "predicted"
    predict = shlex.join(["deeplab", "predict", *_flags(model=graph, input="PHOTOS", output_dir=folder)])
    serve = shlex.join(["deeplab", "serve", *_flags(model=graph)])
    print(f"\nThe model is {graph}. To use it on your own images (a file or a folder in place of PHOTOS):\n  {predict}")
    print(f"To try it in a browser (extra `serve`):\n  {serve}")
    return OK


def _config_of(format_name: str) -> type:
    from deeplab.data.readers import FORMATS

    return FORMATS.get(format_name).config


def _are_names(given: Given) -> bool:
    """Return whether `classes` lists the names of mask values, rather than choosing among classes that have names."""
    is_plain = not any(sign in text for text in given.get("classes", ()) for sign in "=*|")
    return bool(given.get("classes")) and is_plain and not {"class_names", "palette", "dataset"} & set(given)


def _names_of_masks(classes: Sequence[str]) -> str:
    """Return the value of `class_names`: names separated by commas, or a file.

    Raises:
      UserError: a single name that is no file.
    """
    names = [name.strip() for text in classes for name in text.split(",") if name.strip()]
    if len(names) == 1 and not pathlib.Path(names[0]).expanduser().exists():
        rule = f"must name at least 2 classes, not only {names[0]!r}"
        hint = f"name every value of the masks from 0 on, for example `classes=background,{names[0]}`, or give a file"
        raise UserError("out-of-range", rule, hint, field="classes", value=names[0])
    return ",".join(classes)


def _exports() -> list[str]:
    """Return the formats to export: those of `_EXPORTS` whose libraries are installed."""
    extras = installation.extras()
    return [name for name in _EXPORTS if not installation.missing(extras.get(name, []))]


def _split_flag(check: pathlib.Path, field: str) -> dict[str, str]:
    """Return the split to evaluate on as a setting; nothing where it is the usual one.

    Raises:
      UserError: all images are in split train.
    """
    found = {split for entry in _read_json(check)["classes"] for split in entry["pixels"]}
    others = sorted(found - {"train"}, key=lambda name: (name != "val", name))
    if not others:
        hint = "`train_pct=0.8` divides the images"
        raise UserError("missing-split", "there is no split to evaluate on, such as val", hint, where=check.parent)
    return {} if others[0] == "val" else {field: others[0]}


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


class _State:
    """What is done, in `fit.json`: the command line of each stage, and whether it ended."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        try:
            self._stages: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._stages = {}
        except ValueError as problem:
            rule, hint = f"is not JSON: {problem}", "remove it; all stages then run again"
            raise UserError("unreadable-file", rule, hint, where=path) from None

    def line(self, stage: str) -> str:
        return self._stages.get(stage, {}).get("line", "")

    def has(self, stage: str, line: str) -> bool:
        return self._stages.get(stage) == {"line": line, "done": True}

    def begin(self, stage: str, line: str) -> None:
        self._set(stage, line, False)

    def end(self, stage: str) -> None:
        self._set(stage, self.line(stage), True)

    def _set(self, stage: str, line: str, done: bool) -> None:
        self._stages[stage] = {"line": line, "done": done}
        write_atomically(self._path, json.dumps(self._stages, indent=1) + "\n")


def _run(name: str, words: Sequence[str]) -> int:
    """Runs a command on its words in this process; returns its exit code."""
    command: Command = importlib.import_module(f"deeplab.{_MODULES.get(name, name)}").COMMAND
    call = command.parse(words)
    assert call is not None  # only a help page gives None
    word, given = call
    return (command.run(word, given) if command.word else command.run(given)) or OK


def _chosen(given: Given, groups: Sequence[type]) -> dict[str, Any]:
    return {name: given[name] for name in fields_of(groups) if name in given}


def _flags(**settings: Any) -> list[str]:
    return [f"--{name}={show(value)}" for name, value in settings.items()]


# --- Command line -------------------------------------------------------------------------------------------


class FitCommand(Command):
    """The command, whose first words are a format, or the folders of images and masks."""

    def parse(self, words: Sequence[str]) -> tuple[str, Given] | None:
        """As `Command.parse`."""
        words = list(words)
        count = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
        names, flags = words[:count], words[count:]
        if names[:1] == ["folder"] and len(names) > 1:
            names = names[1:]
        if len(names) > 1 and (names[0] not in formats() or pathlib.Path(names[0]).is_dir()):
            image_folder, mask_folder, *rest = names
            words = [*flags, f"--image_folder={image_folder}", f"--mask_folder={mask_folder}", *rest]
        elif names and names[0] not in formats() and pathlib.Path(names[0]).is_dir():
            words = [f"--image_folder={names[0]}", *flags]
        return super().parse(words)


def groups(format_name: str) -> tuple[type, ...]:
    """Return the config dataclasses of a format."""
    own = (_config_of(format_name or "folder"), FitConfig)
    return (
        *(*own, LabelConfig, SplitConfig, ModelConfig, LossConfig, OptimizerConfig, AugmentationConfig),
        CompressionConfig,
    )


def run(format_name: str, given: Given) -> int:
    """Runs the command; returns the exit code."""
    _, config, _, splits, *_ = configs_from(given, groups(format_name))
    if splits.folds:
        hint = "build them with `deeplab build_data`, and train on each"
        raise UserError("conflicting-settings", "makes several datasets; fit trains on one", hint, field="folds")
    if config.minutes and "training_number_of_steps" in given:
        rule = "sets the number of steps, as does `training_number_of_steps`"
        raise UserError("conflicting-settings", rule, "leave one of them out", field="minutes")
    return fit(config, given, format_name)


COMMAND = FitCommand("fit", run, groups, __doc__, Word("FORMAT", formats, lambda _names: "folder"))


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
