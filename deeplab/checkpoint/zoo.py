"""The model zoo: published checkpoints by name, downloaded once into a cache folder.

    zoo:xception65_coco_voc_trainaug     is accepted wherever a checkpoint is

`python -m deeplab.checkpoint.zoo` prints the table of names (docs/model_zoo.md). The cache folder holds

    NAME/                    the unpacked checkpoint; config.yml beside it has the settings that build its model
    ARCHIVE.tar.gz           an archive that was put there by hand; it is used and kept
    ARCHIVE.tar.gz.sha256    checksum of the archive that was used first; a different one later is refused
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from deeplab import __version__
from deeplab.checkpoint import bundle, manager, writer
from deeplab.config.fields import coerce
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import BEST_FOR_BACKBONE, IMAGENET
from deeplab.data import dataset as datasets
from deeplab.utils import archive, console, download
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.locks import folder_lock
from deeplab.utils.paths import cache_root

PREFIX = "zoo:"
DATA = pathlib.Path(__file__).with_name("zoo.yml")
SETTINGS = "config.yml"  # name and form as in deeplab/config/run_file.py
_USUAL = ModelConfig()
_SHAPING = [each.name for each in dataclasses.fields(ModelConfig) if each.metadata["shapes_weights"]]
WORK = ".working"  # one folder per entry: its lock, and what is being unpacked


@dataclass(frozen=True)
class Entry:
    """A published checkpoint.

    Attributes:
      name: what follows `zoo:`.
      what: backbone and head.
      trained_on: datasets, in the order of training.
      address: of the archive.
      flags: fields of `ModelConfig` that build the model as it was trained, with YAML values.
      dataset: name of the dataset whose classes it predicts; None for a backbone.
      megabytes: size of the archive, where published.
      published: mean IoU in percent, and how it was measured: miou, split, output_stride, scales, flip.
      remark: further notes for the table.
    """

    name: str
    what: str
    trained_on: str
    address: str
    flags: Mapping[str, Any]
    dataset: str | None = None
    megabytes: float | None = None
    published: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)
    remark: str = ""

    @property
    def file(self) -> str:
        """The archive's file name."""
        return self.address.rpartition("/")[2]


@functools.cache
def entries() -> Mapping[str, Entry]:
    """All published checkpoints by name."""
    content = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    return {
        name: Entry(name, **{**facts, "published": tuple(facts.get("published", ()))})
        for name, facts in content.items()
    }


def is_name(checkpoint: str) -> bool:
    """Whether a text names a checkpoint of the zoo: `zoo:NAME`."""
    return checkpoint.startswith(PREFIX)


def find(name: str) -> Entry:
    """Return the entry of a name, with or without `zoo:`.

    Raises:
      UserError: no such entry; the hint suggests the nearest and lists all.
    """
    name = name.removeprefix(PREFIX)
    if name not in entries():
        names = sorted(entries())
        guess = nearest(name, names)
        listing = "" if guess.startswith("choose") else "; all names: " + ", ".join(names)
        rule = "there is no checkpoint of that name in the model zoo"
        raise UserError("unknown-name", rule, guess + listing, where=f"{PREFIX}{name}", value=name)
    return entries()[name]


def settings_for(checkpoint: str) -> dict[str, Any]:
    """The settings of `ModelConfig` that build a checkpoint of the zoo; empty for any other checkpoint.

    Args:
      checkpoint: `zoo:NAME`, or the prefix of a checkpoint that `fetch` has unpacked.
    """
    if is_name(checkpoint):
        flags = dict(find(checkpoint).flags)
    else:
        path = pathlib.Path(checkpoint).parent / SETTINGS
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        flags = content.get("model", {}) if isinstance(content, dict) and "zoo" in content else {}
    fields = {each.name: each for each in dataclasses.fields(ModelConfig)}
    return {name: coerce(fields[name], ModelConfig, value) for name, value in flags.items()}


def imagenet_weights(config: ModelConfig) -> str | Mapping[str, Any]:
    """Return weights of a model's backbone that were trained on ImageNet: Keras' own, or a `zoo:NAME`.

    Returns:
      Whatever `deeplab.checkpoint.open` takes.

    Raises:
      UserError: there are none for this backbone, or Keras cannot download them.
    """
    from slim import keras_applications

    variant = config.model_variant
    if variant.startswith(keras_applications.PREFIX):
        try:
            return keras_applications.imagenet_weights(variant.removeprefix(keras_applications.PREFIX))
        except OSError as problem:
            raise UserError("download-failed", str(problem), field="model_variant", value=variant) from problem
    trained = [entry for entry in entries().values() if entry.trained_on == "ImageNet"]
    fitting = _of_backbone(trained, variant, config.depth_multiplier)
    # `_seg`: the first 12 of 15 blocks (8 of 11 of the small one) are the same; the halved ones start from scratch.
    # `_same`: all blocks are the same.
    fitting = fitting or _of_backbone(
        trained, variant.removesuffix("_seg").removesuffix("_same"), config.depth_multiplier
    )
    if not fitting:
        names = ", ".join(dict.fromkeys(entry.flags["model_variant"] for entry in trained))
        rule = f"no ImageNet weights are published for {variant} with depth multiplier {config.depth_multiplier:g}"
        raise UserError("no-imagenet-weights", rule, f"they exist for {names}, and for keras: backbones", value=variant)
    return PREFIX + fitting[0].name


def best_weights(config: ModelConfig) -> str | Mapping[str, Any]:
    """Return the published weights that suit a model best: of segmentation where there are any, else of ImageNet.

    Of several segmentation checkpoints of the backbone, it is the one with most of the model's settings, then the one
    trained on most datasets, and among these the first in the zoo.

    Returns, raises: as `imagenet_weights`.
    """
    fitting = _of_backbone(entries().values(), config.model_variant, config.depth_multiplier)
    trained = [entry for entry in fitting if entry.trained_on != "ImageNet"]
    if not trained:
        return imagenet_weights(config)

    def rank(entry: Entry) -> tuple[int, int]:
        """Number of settings that are the model's, those at their default included; number of datasets."""
        theirs = settings_for(PREFIX + entry.name)
        equal = [getattr(config, name) == theirs.get(name, getattr(_USUAL, name)) for name in _SHAPING]
        return sum(equal), len(entry.trained_on.split(","))

    return PREFIX + max(trained, key=rank).name


def published_weights(which: str, config: ModelConfig) -> str | Mapping[str, Any]:
    """Return what `imagenet`, `best_for_backbone` or the name of a checkpoint means for a model.

    Returns, raises: as `imagenet_weights`; any other text is returned as it is.
    """
    if which == IMAGENET:
        return imagenet_weights(config)
    if which == BEST_FOR_BACKBONE:
        found = best_weights(config)
        console.note(f"{BEST_FOR_BACKBONE}: {found if isinstance(found, str) else 'ImageNet weights of Keras'}")
        return found
    return which


def _of_backbone(among: Iterable[Entry], variant: str, multiplier: float) -> list[Entry]:
    wanted = (variant, multiplier)
    return [e for e in among if (e.flags["model_variant"], e.flags.get("depth_multiplier", 1.0)) == wanted]


# ---- from a name to files ----------------------------------------------------------------------------


def cache_folder() -> str:
    """Folder of archives and unpacked checkpoints: `$DEEPLAB_CACHE/zoo`, else `~/.cache/deeplab/zoo`."""
    return os.path.join(cache_root(), "zoo")


def fetch(name: str) -> str:
    """Return the prefix of a published checkpoint on this machine; download and unpack it first where necessary.

    Two processes may request one name at once: the second waits for the first.

    Raises:
      UserError: no such name; no network (the hint says which file to put where); a damaged archive, one that
        differs from the one used first, or one without a checkpoint; no space on the disk.
    """
    return fetch_entry(find(name), cache_folder())


def fetch_entry(entry: Entry, cache: str) -> str:
    """`fetch` for an entry and a cache folder, which is created when missing."""
    target = os.path.join(cache, entry.name)
    prefix = _whole_checkpoint(target)
    if prefix and os.path.isfile(_settings_beside(prefix)):
        return prefix
    work = os.path.join(cache, WORK, entry.name)
    try:
        os.makedirs(work, exist_ok=True)
    except OSError as problem:
        rule = f"cannot be created: {problem.strerror}"
        hint = "set the environment variable DEEPLAB_CACHE to a folder that you can write to"
        raise UserError("unwritable-folder", rule, hint, where=cache) from problem
    with _alone_in(work, entry):
        prefix = _whole_checkpoint(target)
        if prefix is None:
            _bring(entry, cache, target, os.path.join(work, "unpacking"))
            prefix = _require_checkpoint(target, entry)
        if not os.path.isfile(_settings_beside(prefix)):  # unpacked there by hand
            writer.write_text(_settings_beside(prefix), settings_text(entry))
        return prefix


def _bring(entry: Entry, cache: str, target: str, unpacking: str) -> None:
    """Download, check and unpack an archive; `target` appears when everything has succeeded."""
    by_hand = _put_by_hand(entry, cache)
    path = by_hand or _download(entry, cache)
    digest = _same_as_first(path)
    shutil.rmtree(unpacking, ignore_errors=True)  # left by a process that was killed
    os.makedirs(unpacking)
    console.note(f"unpacking {path} into {target}")
    try:
        archive.unpack(path, unpacking)
        prefix = _require_checkpoint(unpacking, entry)
        writer.write_text(_settings_beside(prefix), settings_text(entry, digest))
        writer.write_text(path + ".sha256", f"{digest}  {os.path.basename(path)}\n")
        shutil.rmtree(target, ignore_errors=True)  # a damaged one
        os.replace(unpacking, target)
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)
        if not by_hand:
            os.unlink(path)  # unpacked by now, or worthless; the next attempt downloads it again


def _download(entry: Entry, cache: str) -> str:
    path = os.path.join(cache, entry.file)
    size = f", {entry.megabytes:g} MB" if entry.megabytes else ""
    console.note(f"downloading {PREFIX}{entry.name}{size} from {entry.address}")
    hint = f"download {entry.address} on a machine with a network, and save it here as {path}"
    return download.fetch(entry.address, path, hint)


def _put_by_hand(entry: Entry, cache: str) -> str | None:
    """An archive in the cache folder, under its own name or one that browsers give it."""
    stem = entry.file.removesuffix(".tar.gz").removesuffix(".tgz")
    paths = [os.path.join(cache, name) for name in (entry.file, f"{stem}.tar", f"{stem}.tar.gz", f"{stem}.tgz")]
    return next(filter(os.path.isfile, paths), None)


def _same_as_first(path: str) -> str:
    """Return the archive's SHA-256, which must equal that of the archive used first under this name."""
    digest, record = archive.checksum(path), path + ".sha256"
    if not os.path.isfile(record):
        return digest
    first = pathlib.Path(record).read_text(encoding="utf-8").split()[:1]
    if first != [digest]:
        rule = f"is not the archive that was used first: its SHA-256 is {digest}, not {' '.join(first)}"
        hint = f"remove it and fetch it again; if the publisher has replaced it, remove {record}"
        raise UserError("checksum-mismatch", rule, hint, where=path, value=digest)
    return digest


@contextlib.contextmanager
def _alone_in(work: str, entry: Entry, pause: float = 0.5) -> Iterator[None]:
    """Hold an entry's lock; wait while another process downloads the same one."""
    with contextlib.ExitStack() as stack:
        waited = False
        while True:
            try:
                stack.enter_context(folder_lock(work, "downloading", "wait"))
                break
            except UserError as error:
                if error.code != "folder-in-use":
                    raise
                if not waited:
                    console.note(f"another process is downloading {PREFIX}{entry.name}; waiting for it")
                waited = True
                time.sleep(pause)
        yield


# ---- inside an unpacked archive ----------------------------------------------------------------------


def _whole_checkpoint(folder: str) -> str | None:
    """The prefix of the checkpoint in an unpacked archive; None when there is none, or only damaged ones."""
    prefixes = [prefix for inner, _, _ in os.walk(folder) for prefix in manager.all_checkpoints(inner)]
    whole = [prefix for prefix in prefixes if bundle.is_whole(prefix)]
    return max(whole, key=functools.partial(_rank, folder), default=None)


def _rank(folder: str, prefix: str) -> tuple[bool, bool, int, str]:
    """Sort key, best last: moving averages above raw weights, then the one a state file names, then the step."""
    named = manager.read_state(os.path.dirname(prefix))
    inside = os.path.relpath(prefix, folder).split(os.sep)
    return "ema" in inside, named is not None and named.latest == prefix, bundle.step_in_name(prefix) or 0, prefix


def _require_checkpoint(folder: str, entry: Entry) -> str:
    prefix = _whole_checkpoint(folder)
    if prefix is None:
        names = sorted(os.path.join(inner, name) for inner, _, files in os.walk(folder) for name in files)
        found = ", ".join(os.path.relpath(name, folder) for name in names[:8]) or "nothing"
        rule = f"holds no complete checkpoint, only {found}"
        raise UserError("checkpoint-not-found", rule, "fetch it again", where=entry.address)
    return prefix


def _settings_beside(prefix: str) -> str:
    return os.path.join(os.path.dirname(prefix), SETTINGS)


def settings_text(entry: Entry, digest: str = "") -> str:
    """Content of `config.yml` beside the checkpoint: settings of the model, names and colors of the classes."""
    content: dict[str, Any] = {"written_by": f"deeplab {__version__}", "zoo": {"zoo_name": entry.name}}
    content["zoo"] |= {"zoo_address": entry.address, **({"zoo_sha256": digest} if digest else {})}
    if entry.dataset:
        facts = datasets.find(entry.dataset)
        content["dataset_facts"] = {
            "num_classes": facts.num_classes,
            "class_names": list(facts.class_names),
            "colors": [list(color) for color in facts.colors],
            "ignore_label": facts.ignore_label,
        }
    content["model"] = dict(entry.flags)
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)


# ---- the table ---------------------------------------------------------------------------------------


def markdown() -> str:
    """The zoo as a Markdown table, with the addresses below."""
    header = ("name", "what", "trained on", "mean IoU, %", "MB", "flags")
    rows = [_row(entry) for entry in entries().values()]
    lines = [f"| {' | '.join(cells)} |" for cells in (header, ("---",) * len(header), *rows)]
    remarks = [f"- `{entry.name}`: {entry.remark}" for entry in entries().values() if entry.remark]
    addresses = [f"- `{entry.name}`: <{entry.address}>" for entry in entries().values()]
    return "\n".join([*lines, "", *remarks, "", "## Addresses", "", *addresses]) + "\n"


def _row(entry: Entry) -> tuple[str, ...]:
    flags = " ".join(f"`--{name}={_flag_value(value)}`" for name, value in entry.flags.items())
    size = f"{entry.megabytes:g}" if entry.megabytes else ""
    published = "<br>".join(map(_result, entry.published))
    return f"`{entry.name}`", entry.what, entry.trained_on, published, size, flags


def _result(result: Mapping[str, Any]) -> str:
    """`82.20 val, stride 16` and, where there were several, the scales and the mirrored image."""
    words = [f"{result['miou']:.2f} {result['split']}, stride {result['output_stride']}"]
    if len(result["scales"]) > 1:
        words.append(f"scales {min(result['scales']):g} to {max(result['scales']):g}")
    return ", ".join(words + ["flipped"] * bool(result["flip"]))


def _flag_value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(markdown(), end="")
