"""Runs commands on disks that are nearly full; prints what is there afterwards, one JSON line per run.

Run as a program with a folder that holds `images/` and `masks/`, and the address of an archive. Each run is a fork of
this process, which imports TensorFlow once. The disk is a small `tmpfs` where this user may mount one; elsewhere no
file may grow beyond the room that is left (`RLIMIT_FSIZE`), for which native code gets the same kind of error.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
import yaml
from PIL import Image

from support import tiny_backbone
from support.small_graphs import freeze

ROOM = 64 << 20  # of a disk that is not full
TRAIN = (
    "train --dataset_dir={root}/records --train_logdir={out} --model_variant=tiny --aspp_convs_filters=8 "
    "--train_crop_size=33,33 --train_batch_size=2 --training_number_of_steps={steps} --save_interval_steps=1 "
    "--eval_every=1 --save_summaries_secs=1 --save_summaries_images=true --batch_norm_calibration_batches=1 "
    "--random_seed=0 --max_checkpoints_to_keep=2"
)
FIT = (
    "fit {root}/images {root}/masks --output={out} --class_names=ground,disc --tf_initial_checkpoint= "
    "--model_variant=tiny --aspp_convs_filters=8 --train_crop_size=33,33 --train_batch_size=2 "
    "--training_number_of_steps=1 --random_seed=0 --formats=frozen_graph"
)
BUILD = "build_data folder --image_folder={root}/images --mask_folder={root}/masks --output_dir={out} --num_shards=2"
PREDICT = "predict --model={root}/graph.pb --input={root}/images --output_dir={out} --save_probabilities=npz"
EXPORT = (
    "export --checkpoint_path={root}/run --export_path={out}/graph.pb --crop_size=33 --parity_images=1 "
    "--formats=frozen_graph,saved_model,keras"
)
# What was there before, what is tried, and the bytes that are left on the disk.
COMMANDS = {
    "train": (TRAIN.replace("{steps}", "1"), TRAIN.replace("{steps}", "3"), (0, 40_000, 160_000)),
    "build": (BUILD + " --class_names=a,b", BUILD + " --class_names=c,d --overwrite=true", (0, 4096, 12_288)),
    "predict": (PREDICT, PREDICT + " --overwrite=true", (0, 8192, 24_576)),
    "export": (EXPORT, EXPORT + " --overwrite=true", (0, 100_000)),
    "fit": ("", FIT, (0, 100_000)),
    "download": ("", "download_data voc2012 --output_dir={out} --addresses={root}/addresses.yml", (0, 50_000)),
}


def prepare(root: pathlib.Path, address: str) -> None:
    """Makes what the commands read: records, a training, a graph, addresses."""
    call(BUILD.format(root=root, out=root / "records") + " --class_names=ground,disc")
    call(TRAIN.format(root=root, out=root / "run", steps=1))
    freeze(root / "graph.pb")
    archive = {"address": address, "bytes": 200_000}
    name = address.rpartition("/")[2]
    (root / "addresses.yml").write_text(yaml.safe_dump({"voc2012": {"archives": {name: archive}}}))


def call(line: str, room: int | None = None) -> tuple[int, str]:
    """Runs a command in a fork; its exit code and what it said."""
    with tempfile.TemporaryFile("w+") as said:
        process = os.fork()
        if not process:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            if room is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            os._exit(run(line))
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        said.seek(0)
        return code, said.read()


def run(line: str) -> int:
    """Runs a command in this process, its exit code; 99 after an exception."""
    from deeplab import __main__ as program

    sys.argv = ["deeplab", *line.split()]
    try:
        with tiny_backbone.registered():
            code = program.main()
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    return code


@contextlib.contextmanager
def disk(folder: pathlib.Path) -> Iterator[Callable[[int], int | None]]:
    """A folder on a disk of its own; gives a function that leaves a number of bytes free, or says that it cannot."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def fill(room: int) -> int | None:
        if not mounted:
            return room
        facts = os.statvfs(folder)
        used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        size = max(used + room, facts.f_frsize)  # 0 would mean that there is no limit
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
        filler, free = folder / ".filler", os.statvfs(folder).f_bavail * facts.f_frsize  # sizes are whole pages
        if free > room:
            filler.write_bytes(bytes(free - room))
        return None

    try:
        yield fill
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def content(folder: pathlib.Path) -> dict[str, str]:
    """Hashes of the files in a folder, by path; locks left out."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".deeplab.lock", ".filler")
    }


def damaged(folder: pathlib.Path) -> list[str]:
    """The files in a folder that are not whole."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (".deeplab.lock", ".filler"):
            try:
                _require_whole(path)
            except Exception as problem:
                found.append(f"{path.relative_to(folder)}: {type(problem).__name__} {problem}")
    return found


def _require_whole(path: pathlib.Path) -> None:
    from deeplab import checkpoint
    from deeplab.data import dataset, records
    from deeplab.inference.load import load

    data = path.read_bytes()
    if path.name.endswith(".partial") or ".saving-" in path.name:
        raise ValueError("is unfinished")
    if path.suffix in (".png", ".jpg"):
        np.asarray(Image.open(io.BytesIO(data)))
    elif path.suffix == ".npz":
        dict(np.load(io.BytesIO(data)))
    elif path.suffix == ".tfrecord":
        records.check_shard(path)
    elif path.name == "dataset.yml":
        dataset.load(path)
    elif path.suffix == ".json":
        json.loads(data)
    elif path.suffix == ".yml":
        yaml.safe_load(data)
    elif path.suffix == ".csv":
        assert len({len(row) for row in csv.reader(io.StringIO(data.decode()))}) == 1
    elif path.suffix == ".index":
        checkpoint.open(str(path).removesuffix(".index")).arrays()
    elif path.suffix == ".keras":
        assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    elif path.suffix == ".pb" and path.name not in ("saved_model.pb", "fingerprint.pb"):
        load(str(path))


def main(root: pathlib.Path, address: str, names: list[str]) -> None:
    """Tries each command with each room."""
    from deeplab.utils import console

    console.import_tensorflow()
    from deeplab.training import loop  # noqa: F401 - so that forks need not import it

    prepare(root, address)
    for name in names:
        before, line, rooms = COMMANDS[name]
        template = root / f"before-{name}"
        template.mkdir()
        if before:
            code, said = call(before.format(root=root, out=template))
            assert code == 0, said
        for room in rooms:
            out = root / "disk"
            out.mkdir(exist_ok=True)
            with disk(out) as fill:
                shutil.copytree(template, out / "out")
                old = content(out / "out")
                limit = fill(room)
                code, said = call(line.format(root=root, out=out / "out"), limit)
                (out / ".filler").unlink(missing_ok=True)
                outcome = {
                    "command": name,
                    "room": room,
                    "code": code,
                    "said": said[-3000:],
                    "lost": sorted(path for path in old if path not in content(out / "out")),
                    "damaged": json.loads(_in_fork(lambda out=out: json.dumps(damaged(out / "out")))),
                    "mounted": limit is None,
                }
                print(json.dumps(outcome), flush=True)
            shutil.rmtree(out, ignore_errors=True)


def _in_fork(work: Callable[[], str]) -> str:
    """The result of a function that uses TensorFlow, which this process must not do before it forks."""
    receiver, sender = os.pipe()
    process = os.fork()
    if not process:
        os.write(sender, work().encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as file:
        text = file.read()
    os.waitpid(process, 0)
    return text


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:] or list(COMMANDS))
