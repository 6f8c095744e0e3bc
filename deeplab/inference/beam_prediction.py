"""Predicts many image files in an Apache Beam pipeline (extra `beam`), for more images than one machine can predict.

Called by the command `predict`. A shard of images is one task; it is predicted as by `folder_prediction.predict_files`,
into a folder of its own, whose files are then published: moved into the output folder, copied into a remote one, or
packed into one TFRecord. Each worker process loads the model once. Finished shards are recorded in the folder
`.beam` of the output, so that the same command resumes after a stop; at the end the folder is removed.

Images, model and output must have the same names for all workers: on a file system that all of them mount, or remote.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import hashlib
import json
import math
import os
import pathlib
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deeplab.checkpoint import find
from deeplab.checkpoint.chosen import LATEST, chosen
from deeplab.config.fields import as_dict, split_words
from deeplab.config.prediction_config import PredictConfig
from deeplab.data.image_files import ImageFile
from deeplab.inference import annotation_writers, folder_prediction, inputs
from deeplab.inference.folder_prediction import AREAS, SUMMARY, Fractions, Outcome, Outputs
from deeplab.inference.load import find_model
from deeplab.inference.segmenter import Segmenter
from deeplab.utils import console, remote_files
from deeplab.utils.beam_pipelines import POLL_SECONDS, run_pipeline
from deeplab.utils.errors import UserError
from deeplab.utils.files import remove, remove_partial, write_atomically
from deeplab.utils.remote_names import is_remote, named

STATE = ".beam"
NAME, FRACTIONS = "image/filename", "fractions"  # keys of a TFRecord, beside one for each file, such as mask/encoded
_ATTEMPTS, _PAUSE = 3, 2.0  # of a shard, and seconds between them
_PASSING = ("unwritable-file", "unreadable-file", "remote-failed", "out-of-memory")
_REMOTE_POLL_SECONDS = 15.0


@dataclass(frozen=True)
class PredictionTask:
    """One shard of images: its name, and its files."""

    name: str
    files: tuple[ImageFile, ...]


@dataclass(frozen=True)
class PredictionJob:
    """What all workers need.

    Attributes:
      source: the model.
      settings: keyword arguments of `Segmenter`, as sorted pairs.
      config: what is written where.
      current: the folder from which relative paths start; workers may be started in another one.
    """

    source: str
    settings: tuple[tuple[str, Any], ...]
    config: PredictConfig
    current: str


def predict_in_pipeline(
    source: str, settings: Mapping[str, Any], files: Sequence[ImageFile], config: PredictConfig
) -> Outcome:
    """Predict image files; the result is that of `predict_files`, or TFRecords with the same files.

    Args:
      source: the model; of a training folder the latest checkpoint is taken by all workers.
      settings: keyword arguments of `Segmenter`.
      files: the images.
      config: what is written where.

    Raises:
      UserError: an input or output that the pipeline cannot have (`conflicting-settings`), results of another run
        (`would-overwrite`), the pipeline fails (`failed-pipeline`), or the model or a setting is wrong.
    """
    _require_shardable(files, config)
    model = _one_model(source, settings.get("checkpoint", LATEST))
    others = sorted((name, value) for name, value in settings.items() if name != "checkpoint")  # which is chosen now
    job = PredictionJob(model, tuple(others), config, os.getcwd())
    store, tasks = Store(config.output_dir), shard_tasks(files, config)
    run = fingerprint(job, files)
    if store.read(f"{STATE}/run.json") != run:
        _refuse_to_overwrite(store, files, tasks, config)
        store.remove_state()
        store.write(f"{STATE}/run.json", run)
    finished = set(store.states())
    left = [task for task in tasks if task.name not in finished]
    if finished:
        console.note(f"{len(tasks) - len(left)} of {len(tasks)} shards were finished by an earlier run")
    with console.progress(total=len(tasks), what="predicting", unit="shard") as bar:
        run_pipeline(
            left,
            predict_shard,
            (job,),
            config.beam_options,
            watch=lambda: bar.update(len(store.states()) - bar.n),
            stop=lambda thread: None,  # what is written stays, and counts when the command is repeated
            seconds=_REMOTE_POLL_SECONDS if store.is_remote else POLL_SECONDS,
        )
        bar.update(len(tasks) - bar.n)
    return _collected(store, tasks, config)


def shard_tasks(files: Sequence[ImageFile], config: PredictConfig) -> list[PredictionTask]:
    """The images in shards of `images_per_shard`, in their order: `predictions-00000-of-00003` ..."""
    size = config.images_per_shard
    number = math.ceil(len(files) / size)
    return [
        PredictionTask(f"predictions-{index:05d}-of-{number:05d}", tuple(files[index * size : (index + 1) * size]))
        for index in range(number)
    ]


def _require_shardable(files: Sequence[ImageFile], config: PredictConfig) -> None:
    if any(isinstance(file, inputs.PipedImage) for file in files):
        rule, hint = "cannot be read by the workers of a pipeline", "give files, or leave out `beam`"
        raise UserError("conflicting-settings", rule, hint, field="input", value=inputs.STDIN)
    formats, table = annotation_writers.FORMATS, folder_prediction.no_colors()

    def has_common_file(name: str) -> bool:
        return bool(formats.get(name)(pathlib.Path(), (), table).common_paths())

    common = list(filter(has_common_file, split_words(config.save_polygons)))
    if common:
        rule = f"{common[0]} writes one file for all images, which a pipeline cannot"
        hint = f"choose among {', '.join(name for name in formats if not has_common_file(name))}"
        raise UserError("conflicting-settings", rule, hint, field="save_polygons", value=common[0])


def _one_model(source: str, which: str) -> str:
    """The model that all workers load: of a training folder one checkpoint, in case a training writes another one."""
    path = chosen(remote_files.local_copy(source), which)
    path, kind = find_model(path)
    is_folder = kind == "checkpoint" and os.path.isdir(path)
    return named(find.find(path).prefix if is_folder else path)


def fingerprint(job: PredictionJob, files: Sequence[ImageFile]) -> bytes:
    """What must be the same for a run to go on: the images, the model and all settings but those of the pipeline."""
    model = pathlib.Path(remote_files.local_copy(job.source))
    near = sorted(model.rglob("*")) if model.is_dir() else sorted(model.parent.glob(f"{glob.escape(model.name)}*"))
    parts = [(str(path.name), path.stat().st_size) for path in near if path.is_file()]
    own = {name: value for name, value in as_dict(job.config).items() if name not in ("beam_options", "overwrite")}
    content = [job.source, parts, sorted(map(str, job.settings)), own, [(file.path, file.name) for file in files]]
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest().encode()


def _refuse_to_overwrite(
    store: Store, files: Sequence[ImageFile], tasks: Sequence[PredictionTask], config: PredictConfig
) -> None:
    if config.beam_output == "files":
        names = remote_files.list_files(config.output_dir) if store.is_remote else []
        held = {pathlib.Path(name) for name in names}

        def exists(path: pathlib.Path) -> bool:
            return path in held if store.is_remote else path.exists()

        folder_prediction.refuse_to_overwrite(files, Outputs(config), exists)
    elif not config.overwrite and (there := [task.name for task in tasks if store.has(f"{task.name}.tfrecord")]):
        rule = f"already holds {len(there)} results, beginning with {there[0]}.tfrecord"
        hint = "`overwrite=true` replaces them; or give another `output_dir`"
        raise UserError("would-overwrite", rule, hint, where=config.output_dir, value=len(there))


def _collected(store: Store, tasks: Sequence[PredictionTask], config: PredictConfig) -> Outcome:
    """The results of all shards, in the order of the images; writes the tables of all images."""
    fractions: Fractions = {}
    areas: dict[str, dict[str, float]] = {}
    errors: list[UserError] = []
    for task in tasks:
        content = json.loads(store.read(f"{STATE}/{task.name}.json") or b"null")
        if content is None:
            rule, hint = (
                f"the pipeline ended without {task.name}",
                "all workers need the same paths; repeat the command",
            )
            raise UserError("failed-pipeline", rule, hint, field="output_dir")
        if content["fatal"]:
            store.remove(f"{STATE}/{task.name}.json")
            raise _as_error(content["fatal"])
        fractions |= content["fractions"]
        areas |= content["areas"]
        errors += map(_as_error, content["errors"])
    for error in errors:
        console.error(error)
    with contextlib.ExitStack() as stack:
        before = store.read(SUMMARY) if config.beam_output == "files" else None
        if before:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="deeplab-"))
            path = pathlib.Path(folder, SUMMARY)
            path.write_bytes(before)
        earlier = folder_prediction.earlier_fractions(path) if before else {}
    store.write(SUMMARY, folder_prediction.summary({**earlier, **fractions}).encode())
    if config.save_areas:
        store.write(AREAS, folder_prediction.summary(areas, "d").encode())
    store.remove_state()
    return Outcome(fractions, errors)


# ---- workers -----------------------------------------------------------------------------------------------


def predict_shard(task: PredictionTask, job: PredictionJob) -> str:
    """Predict the images of one shard, publish their files, and note that it is done; Beam's workers run this.

    Failures that may pass are tried again. An error that concerns the model or a setting is noted for the command.

    Returns:
      The shard's name.
    """
    if os.getcwd() != job.current and os.path.isdir(job.current):
        os.chdir(job.current)
    store = Store(job.config.output_dir)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            result = _predicted(task, job, store)
            break
        except (UserError, OSError) as error:
            if attempt < _ATTEMPTS and (isinstance(error, OSError) or error.code in _PASSING):
                time.sleep(_PAUSE)
                continue
            if isinstance(error, OSError):
                raise
            result = {"fatal": _as_list(error)}
    store.write(f"{STATE}/{task.name}.json", json.dumps(result).encode())
    return task.name


def _predicted(task: PredictionTask, job: PredictionJob, store: Store) -> dict[str, Any]:
    segmenter = _loaded(job.source, job.settings)
    with store.folder_beside(task.name) as folder:
        config = dataclasses.replace(job.config, output_dir=str(folder), beam=False, overwrite=True)
        # TIFF files may be read in windows, for which they must be on this machine.
        files = [_local_tiff(file) if file.path.lower().endswith((".tif", ".tiff")) else file for file in task.files]
        outcome = folder_prediction.predict_files(segmenter, files, config, published=job.config.output_dir)
        areas = folder_prediction.earlier_fractions(folder / AREAS)
        for name in (SUMMARY, AREAS):
            remove(folder / name)
        if config.beam_output == "tfrecord":
            _pack(folder, task.name, outcome.fractions, config)
        store.publish(folder)
    return {
        "fatal": None,
        "fractions": outcome.fractions,
        "areas": {name: {column: int(value) for column, value in row.items()} for name, row in areas.items()},
        "errors": list(map(_as_list, outcome.errors)),
    }


def _local_tiff(file: ImageFile) -> ImageFile:
    return dataclasses.replace(file, path=remote_files.local_copy(file.path))


_loading = threading.Lock()


def _loaded(source: str, settings: tuple[tuple[str, Any], ...]) -> Segmenter:
    """The model, loaded once per process, by whichever of its threads comes first."""
    with _loading:
        return _load(source, settings)


@functools.lru_cache(maxsize=1)
def _load(source: str, settings: tuple[tuple[str, Any], ...]) -> Segmenter:
    return Segmenter(source, **dict(settings))


def _pack(folder: pathlib.Path, name: str, fractions: Fractions, config: PredictConfig) -> None:
    """Put the files of all images into one TFRecord, and remove them.

    A record is a `tf.train.Example`: the image's name, its fractions as JSON, and for each kind of file, such as `mask`
    or `overlay`, its bytes under `KIND/encoded`; the probabilities of a class are under `probabilities/FILE`.
    """
    import tensorflow as tf

    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    kinds = sorted(path for path in folder.iterdir() if path.is_dir())
    features: dict[str, dict[str, tf.train.Feature]] = {
        image: {NAME: text(image.encode()), FRACTIONS: text(json.dumps(row).encode())}
        for image, row in fractions.items()
    }
    for kind in kinds:
        is_per_class = kind.name == "probabilities" and config.save_probabilities == "png"
        for path in (path.relative_to(kind) for path in kind.rglob("*") if path.is_file()):
            image = path.parent if is_per_class else path.with_suffix("")
            key = f"{kind.name}/{path.stem if is_per_class else 'encoded'}"
            features[image.as_posix()][key] = text((kind / path).read_bytes())
    with tf.io.TFRecordWriter(str(folder / f"{name}.tfrecord")) as writer:
        for feature in features.values():
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    for kind in kinds:
        remove(kind)


def _as_list(error: UserError) -> list[Any]:
    return [error.code, error.rule, error.hint, error.field, error.where]


def _as_error(parts: Sequence[Any]) -> UserError:
    code, rule, hint, field, where = parts
    return UserError(code, rule, hint, field=field, where=where or None)


# ---- the output folder -------------------------------------------------------------------------------------


class Store:
    """The output folder, local or remote.

    Args:
      folder: its path or remote name.
    """

    def __init__(self, folder: str):
        self.folder, self.is_remote = folder.rstrip("/"), is_remote(folder)

    def _name(self, path: str) -> str:
        return f"{self.folder}/{path}"

    def write(self, path: str, content: bytes) -> None:
        """Write a file whole."""
        if not self.is_remote:
            os.makedirs(os.path.dirname(self._name(path)), exist_ok=True)
            write_atomically(self._name(path), content)
            return
        with tempfile.TemporaryDirectory(prefix="deeplab-") as folder:
            local = pathlib.Path(folder, path)
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(content)
            remote_files.write_files(folder, self.folder)

    def has(self, path: str) -> bool:
        """Whether there is a file."""
        name = self._name(path)
        return name in remote_files.list_files(name) if self.is_remote else os.path.isfile(name)

    def read(self, path: str) -> bytes | None:
        """The content of a file; None if there is none."""
        if not self.has(path):
            return None
        name = self._name(path)
        return remote_files.read_bytes(name) if self.is_remote else pathlib.Path(name).read_bytes()

    def remove(self, path: str) -> None:
        """Remove a file."""
        if self.is_remote:
            remote_files.remove_file(self._name(path))
        else:
            remove(self._name(path))

    def states(self) -> list[str]:
        """Names of the shards that are done."""
        place = self._name(STATE)
        if self.is_remote:
            names = [name.rpartition("/")[2] for name in remote_files.list_files(place)]
        else:
            names = os.listdir(place) if os.path.isdir(place) else []
        return sorted(name.removesuffix(".json") for name in names if name.startswith("predictions-"))

    def remove_state(self) -> None:
        """Remove what is noted of finished shards, and what killed workers left."""
        if self.is_remote:
            for name in remote_files.list_files(self._name(STATE)):
                remote_files.remove_file(name)
            return
        remove(self._name(STATE))
        remove_partial(self.folder)

    @contextlib.contextmanager
    def folder_beside(self, name: str) -> Iterator[pathlib.Path]:
        """A folder for the files of a shard until they are published; it is removed at the end."""
        with contextlib.ExitStack() as stack:
            if self.is_remote:
                folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deeplab-")))
            else:
                mark = random.SystemRandom().randrange(2**40, 2**50)  # workers may be on several machines
                folder = pathlib.Path(self.folder, f".{name}.{mark}.partial")
                stack.callback(remove, folder)
                folder.mkdir(parents=True)
            yield folder

    def publish(self, folder: pathlib.Path) -> None:
        """Move or copy the files of a folder into this one, each whole."""
        if self.is_remote:
            remote_files.write_files(folder, self.folder)
            return
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            target = pathlib.Path(self.folder, path.relative_to(folder))
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
