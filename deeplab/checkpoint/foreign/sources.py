"""Recognizes the project that a weight file is from, and converts names, axes and model settings to this project's.

`sources.yml` describes each source. An `ImportedCheckpoint` is a checkpoint like any other:
`deeplab.checkpoint.open` returns it for a path, and restoring, describing, predicting and training use it.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml

from deeplab.checkpoint.bundle import Checkpoint
from deeplab.checkpoint.foreign.hdf5_file import Hdf5File
from deeplab.checkpoint.foreign.safetensors_file import SafetensorsFile
from deeplab.checkpoint.foreign.tensor_file import TensorFile
from deeplab.checkpoint.foreign.torch_file import TorchFile
from deeplab.checkpoint.infer_config import describe_shapes
from deeplab.config import run_file
from deeplab.config.fields import coerce, fields_of
from deeplab.config.model_config import ModelConfig
from deeplab.data import dataset as datasets
from deeplab.utils.errors import UserError

DATA = pathlib.Path(__file__).with_name("sources.yml")
NORM = "/BatchNorm"
READERS: dict[str, Callable[[str], TensorFile]] = {
    ".h5": Hdf5File,
    ".hdf5": Hdf5File,
    ".safetensors": SafetensorsFile,
}
_NORM_LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
    **{name: name for name in ("gamma", "beta", "moving_mean", "moving_variance")},
}
_LEAVES = {"weight": "weights", "kernel": "weights", "depthwise_kernel": "weights", "bias": "biases"}
_COUNTERS = ("num_batches_tracked",)


@dataclass(frozen=True)
class WeightSource:
    """A project whose weight files are recognized and converted; the fields are those of sources.yml.

    Attributes:
      name: key in sources.yml.
      title: name of the project for messages.
      has, lacks: regular expressions for names of tensors: each of `has` matches one in such a file, none of `lacks`.
      maps: regular expression for a module's name -> our scope.
      scope: text that replaces `{scope}` in `maps`, `rolled`, `scaled` and `shifted`.
      settings: fields of `ModelConfig` by name, with YAML values.
      classes: number of classes -> name of the dataset whose classes they are.
      rolled: our variable (a regular expression) -> places by which its input channels are rotated.
      scaled: our variable (a regular expression) -> factor.
      shifted: our variable (a regular expression) -> number to add.
      dilated_layer: layer whose dilation rate shows the output stride.
      at_dilation: dilation rate of that layer -> settings that replace those of `settings`.
    """

    name: str
    title: str
    has: tuple[str, ...]
    maps: Mapping[str, str]
    settings: Mapping[str, Any]
    scope: str = ""
    lacks: tuple[str, ...] = ()
    classes: Mapping[int, str] = field(default_factory=dict)
    rolled: Mapping[str, int] = field(default_factory=dict)
    scaled: Mapping[str, float] = field(default_factory=dict)
    shifted: Mapping[str, float] = field(default_factory=dict)
    dilated_layer: str = ""
    at_dilation: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def fits(self, names: Mapping[str, Any]) -> bool:
        """Whether a file with tensors of these names is of this source."""

        def is_there(pattern: str) -> bool:
            return any(re.fullmatch(pattern, name) for name in names)

        return all(map(is_there, self.has)) and not any(map(is_there, self.lacks))

    def our_name(self, name: str, shape: tuple[int, ...]) -> str | None:
        """Our name of a tensor; "" for one without counterpart, None for one that is not known."""
        module, _, leaf = name.replace("/", ".").rpartition(".")
        if leaf in _COUNTERS:
            return ""
        scope = self._our_scope(module)
        if not scope:
            return scope
        if scope.endswith(NORM):
            return f"{scope}/{_NORM_LEAVES[leaf]}" if leaf in _NORM_LEAVES else None
        if leaf not in _LEAVES or (leaf != "bias" and len(shape) != 4):
            return None
        is_depthwise = leaf != "bias" and scope.endswith("depthwise")
        return f"{scope}/{'depthwise_' * is_depthwise}{_LEAVES[leaf]}"

    def _our_scope(self, module: str) -> str | None:
        for pattern, target in self.maps.items():
            if match := re.fullmatch(pattern, module):
                return re.sub(r"\{(\w+)([+-]\d+)?\}", functools.partial(self._filled, match), target)
        return None

    def _filled(self, match: re.Match, place: re.Match) -> str:
        """`{scope}`, `{1}` or `{1+1}` in a target; a letter counts by its place in the alphabet."""
        if place[1] == "scope":
            return self.scope
        value = match[int(place[1])]
        number = ord(value) - ord("a") + 1 if value.isalpha() and place[2] else value
        return str(int(number) + int(place[2])) if place[2] else value

    def adjusted(self, name: str, values: np.ndarray, is_ours: bool) -> np.ndarray:
        """A tensor in our axes, order of channels and scale.

        Args:
          name: our name.
          values: as in the file.
          is_ours: whether kernels have TensorFlow's axes [h, w, in, out] already.
        """
        if values.ndim == 4 and not is_ours:  # [out, in, h, w]; depthwise [channels, 1, h, w]
            values = values.transpose((2, 3, 0, 1) if name.endswith("depthwise_weights") else (2, 3, 1, 0))
        if (places := self._of(self.rolled, name)) is not None:
            values = np.roll(values, places, axis=2)
        if (factor := self._of(self.scaled, name)) is not None:
            values = values * np.float32(factor)
        if (shift := self._of(self.shifted, name)) is not None:
            values = values + np.float32(shift)
        return np.ascontiguousarray(values, np.float32)

    def _of(self, facts: Mapping[str, Any], name: str) -> Any:
        """The value for one of our variables in a mapping from regular expressions; None where there is none."""
        found = (value for pattern, value in facts.items() if re.fullmatch(self._filled_scope(pattern), name))
        return next(found, None)

    def _filled_scope(self, pattern: str) -> str:
        return pattern.replace("{scope}", self.scope)

    def settings_in(self, file: TensorFile) -> dict[str, Any]:
        """The settings of the model, with those that its dilation rate shows where the file tells it."""
        rate = getattr(file, "dilation_rates", {}).get(self.dilated_layer, 0)
        return {**self.settings, **self.at_dilation.get(rate, {})}


@functools.cache
def sources() -> Mapping[str, WeightSource]:
    """All known sources by name, in the order in which they are tried."""
    content = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    maps = content["maps"]
    return {
        name: WeightSource(
            name,
            **{
                **facts,
                "has": tuple(facts["has"]),
                "lacks": tuple(facts.get("lacks", ())),
                "maps": {pattern: target for each in facts["maps"] for pattern, target in maps[each].items()},
            },
        )
        for name, facts in content["sources"].items()
    }


@functools.cache
def refused() -> Mapping[str, WeightSource]:
    """Known sources whose models cannot be built here, by title, which ends in the reason."""
    content = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    return {
        facts["title"]: WeightSource(facts["title"], facts["title"], tuple(facts["has"]), {}, {})
        for facts in content["refused"]
    }


def recognize(shapes: Mapping[str, tuple[int, ...]], where: str) -> WeightSource:
    """The source of a file, from the names of its tensors.

    Raises:
      UserError: it is known, but its model cannot be built here (`unsupported-weights`); or none fits
        (`unknown-weights`).
    """
    for source in sources().values():
        if source.fits(shapes):
            return source
    if title := next((title for title, source in refused().items() if source.fits(shapes)), None):
        hint = "take weights of a model in docs/starting_points.md"
        raise UserError("unsupported-weights", f"holds {title}", hint, where=where)
    shown = ", ".join(list(shapes)[:3])
    rule = f"holds {len(shapes)} tensors of an unknown model: {shown[:200]}"
    known = "; ".join(source.title for source in sources().values())
    raise UserError("unknown-weights", rule, f"known are: {known}", where=where)


class ImportedCheckpoint(Checkpoint):
    """Weights of another project as a checkpoint: our names and axes; arrays are read on demand.

    Args:
      file: its tensors.
      source: whose they are.

    Attributes:
      prefix: the path of the file.
      source: as given.
      config: settings that build the same model, by name, and `class_names` and `colors` where they are known.
    """

    def __init__(self, file: TensorFile, source: WeightSource):
        self._file, self.source = file, source
        self.prefix = file.path
        self._names = dict(self._ours())
        self._folded = {norm: self._names.pop(bias) for norm, bias in self._biases_before_norm()}
        self.shapes = {ours: self._our_shape(ours, file.shapes[theirs]) for ours, theirs in self._names.items()}
        self.dtypes = {name: np.dtype(np.float32) for name in self.shapes}
        self.averages_alone = {}
        found = describe_shapes(self.shapes)
        shown = {"model_variant": found.model_variant, **found.settings}
        self.config = {name: value for name, value in shown.items() if value is not None}
        self.config |= {**source.settings_in(file), **self._class_facts()}

    @property
    def config_place(self) -> str:
        return f"{self.prefix} ({self.source.title})"

    @property
    def remark(self) -> str:
        names = ", classes as in the dataset of that number" if "class_names" in self.config else ""
        return f"{self.prefix}: {self.source.title}: {' '.join(self.setting_texts())}{names}"

    def setting_texts(self) -> list[str]:
        """The settings of the model, but for those at their default, as "`name=value`"; the backbone in any case."""
        fields = {name: each for name, (each, _) in fields_of([ModelConfig]).items() if name in self.config}
        values = {name: coerce(each, ModelConfig, self.config[name]) for name, each in fields.items()}
        changed = {name: value for name, value in values.items() if value != getattr(ModelConfig(), name)}
        shown = {"model_variant": values["model_variant"], **changed}
        return [f"`{name}={run_file.show(value)}`" for name, value in shown.items()]

    def _ours(self) -> Iterator[tuple[str, str]]:
        """Our name -> theirs; tensors that are not known keep their own, so that they show as unused."""
        for name, shape in self._file.shapes.items():
            ours = self.source.our_name(name, shape)
            if ours != "":
                yield ours or name, name

    def _biases_before_norm(self) -> list[tuple[str, str]]:
        """Our moving mean -> our bias, of convolutions with both: the mean of a batch norm takes such a bias in."""
        biases = [name for name in self._names if name.endswith("/biases")]
        pairs = ((f"{name.removesuffix('/biases')}{NORM}/moving_mean", name) for name in biases)
        return [(mean, bias) for mean, bias in pairs if mean in self._names]

    def _our_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 4 or self._file.has_our_axes:
            return shape
        out, into, height, width = shape
        return (height, width, out, into) if name.endswith("depthwise_weights") else (height, width, into, out)

    def _class_facts(self) -> dict[str, Any]:
        number = self.shapes.get("logits/semantic/weights", (0,))[-1]
        if number not in self.source.classes:
            return {}
        facts = datasets.find(self.source.classes[number])
        return {"class_names": list(facts.class_names), "colors": [list(color) for color in facts.colors]}

    def array(self, name: str) -> np.ndarray:
        """Return a variable's values, float32. Raises UserError for damaged bytes, KeyError for an unknown name."""
        values = self.source.adjusted(name, self._file.array(self._names[name]), self._file.has_our_axes)
        return values - self._file.array(self._folded[name]) if name in self._folded else values


def open_file(path: str) -> ImportedCheckpoint:
    """Open a file of another project.

    Raises:
      UserError: it is damaged, unsafe, or of a model that is not known.
    """
    file = READERS.get(os.path.splitext(path)[1], TorchFile)(path)
    return ImportedCheckpoint(file, recognize(file.shapes, path))


def markdown() -> str:
    """The sources and the settings of their models as a Markdown table, for docs/starting_points.md."""
    fields = fields_of([ModelConfig])
    lines = ["| weights of | flags |", "| --- | --- |"]
    for source in sources().values():
        settings = {"model_variant": source.settings["model_variant"], **source.settings}
        shown = {name: run_file.show(coerce(fields[name][0], ModelConfig, v)) for name, v in settings.items()}
        flags = " ".join(f"`--{name}={value}`" for name, value in shown.items() if value != "(none)")
        lines.append(f"| {source.title} | {flags} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
