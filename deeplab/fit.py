r"""Makes a model from a folder of images and a folder of masks: all steps in one command.

    deeplab fit photos masks --output=runs/mine --class_names=background,hair,skin
    deeplab fit photos masks --output=runs/mine --training_number_of_steps=500 --tf_initial_checkpoint=

Runs build_data, check_data, train, eval and export, and prints each command before it runs; you can run it by itself as
well. Ends with a `deeplab predict` line for your own images. After a stop, or an error that you corrected, the same
line resumes: finished stages are skipped, and the training goes on from its last checkpoint. Data that are unfit for
training end it with exit code 3 before the training.

The recipe: MobileNetV2 with ImageNet weights (downloaded once), output stride 16, momentum, learning rate .007; from
scratch Adam, .002; the crop size and the class weights that the check recommends. Flags replace any of it. OUTPUT holds
tfrecord/, check.html, train/, eval/, export/, and fit.json: which stages are done.
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

from deeplab.config.command_line import OK, Command, Given, configs_from
from deeplab.config.conversion_config import LabelConfig
from deeplab.config.fields import fields_of
from deeplab.config.fit_config import FitConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.run_file import show
from deeplab.config.training_config import LossConfig, OptimizerConfig
from deeplab.losses.class_balance import recommended_weights, value_text
from deeplab.train import SECONDS_TO_SAVE
from deeplab.utils.errors import UserError
from deeplab.utils.files import made_folder, write_atomically
from deeplab.utils.locks import folder_lock

GROUPS = (FitConfig, LabelConfig, ModelConfig, LossConfig, OptimizerConfig)
STATE_FILE = "fit.json"
_MODULES = {"export": "export_model"}
_FROM_CHECKPOINT = {"base_learning_rate": 0.007}
_FROM_SCRATCH = {"optimizer": "adam", "adam_learning_rate": 0.002}
_MAX_EXPORT_SIDE = 1025  # a frozen graph pads every image to its crop


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command of the chain.

    Attributes:
      command: its name after `deeplab`.
      words: gives what follows the name, once the stages before it are done.
      result: a file that it writes.
    """

    command: str
    words: Callable[[], list[str]]
    result: pathlib.Path


def stages(config: FitConfig, given: Given) -> list[Stage]:
    """Return the commands of the chain in their order."""
    output = pathlib.Path(config.output)
    records, train, graph = output / "tfrecord", output / "train", output / "export" / "frozen_inference_graph.pb"
    check, report = output / "check.json", output / "check.html"

    def build() -> list[str]:
        folders = {"image_folder": config.image_folder, "mask_folder": config.mask_folder}
        settings = _chosen(given, [LabelConfig]) | ({"mask_suffix": config.mask_suffix} if config.mask_suffix else {})
        return ["folder", *_flags(**folders, output_dir=records, check=False, resume=True, **settings)]

    def training() -> list[str]:
        advice = json.loads(check.read_text(encoding="utf-8"))
        weights = recommended_weights([entry["pixels"].get("train", 0) for entry in advice["classes"]])
        settings: dict[str, Any] = {
            "train_crop_size": config.train_crop_size or tuple(advice["crop"]["train"]),
            "train_batch_size": config.train_batch_size,
            "training_number_of_steps": config.training_number_of_steps,
            "min_scale_factor": config.min_scale_factor,
            "max_scale_factor": config.max_scale_factor,
            **({"label_weights": value_text(weights)} if weights else {}),
        }
        if config.random_seed is not None:
            settings["random_seed"] = config.random_seed
        if config.tf_initial_checkpoint:
            settings |= {"tf_initial_checkpoint": config.tf_initial_checkpoint, **_FROM_CHECKPOINT}
        else:
            settings |= _FROM_SCRATCH
        settings |= _chosen(given, [ModelConfig, LossConfig, OptimizerConfig])
        return _flags(dataset_dir=records, train_logdir=train, **settings)

    def export() -> list[str]:
        crop = json.loads(check.read_text(encoding="utf-8"))["crop"]["eval"]
        sized = {"crop_size": crop} if max(crop) <= _MAX_EXPORT_SIDE else {}
        return _flags(checkpoint_path=train, export_path=graph, **sized)

    return [
        Stage("build_data", build, records / "dataset.yml"),
        Stage("check_data", lambda: _flags(dataset_dir=records, json=check, html=report), check),
        Stage("train", training, train / "config.yml"),
        Stage("eval", lambda: _flags(model=train, dataset_dir=records, eval_logdir=output / "eval"), output / "eval"),
        Stage("export", export, graph),
    ]


def fit(config: FitConfig, given: Given) -> int:
    """Runs the stages that are not done; returns the exit code of the first that fails, else 0.

    Args:
      config: folders, and settings whose defaults `fit` owns.
      given: all settings that were given, for the stages.

    Raises:
      UserError: a stage failed, or the records in the folder were built with other settings (`would-overwrite`).
    """
    output = pathlib.Path(config.output)
    with made_folder(output), folder_lock(output, "fitting", "give another `output`"):
        done = _State(output / STATE_FILE)
        again = False  # a stage ran, so that those after it must run as well
        chain = stages(config, given)
        for number, stage in enumerate(chain, 1):
            words = stage.words()
            line = shlex.join(["deeplab", stage.command, *words])
            if not again and done.has(stage.command, line) and stage.result.exists():
                print(f"\n[{number}/{len(chain)}] done: {line}", flush=True)
                continue
            if stage.command == "build_data" and done.line(stage.command) not in ("", line):
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
            done.end(stage.command)
    graph, folder = chain[-1].result, output / "predicted"
    predict = shlex.join(["deeplab", "predict", *_flags(model=graph, input="PHOTOS", output_dir=folder)])
    print(f"\nThe model is {graph}. To use it on your own images (a file or a folder in place of PHOTOS):\n  {predict}")
    return OK


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
    """The command, whose first two words may be the folders."""

    def parse(self, words: Sequence[str]) -> tuple[str, Given] | None:
        """As `Command.parse`."""
        words = list(words)
        for name in ("image_folder", "mask_folder"):
            if not words or words[0].startswith("-"):
                break
            words = [*words[1:], f"--{name}={words[0]}"]
        return super().parse(words)


def run(given: Given) -> int:
    """Runs the command; returns the exit code."""
    (config, *_) = configs_from(given, GROUPS)
    return fit(config, given)


COMMAND = FitCommand("fit", run, GROUPS, __doc__, grace=SECONDS_TO_SAVE)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
