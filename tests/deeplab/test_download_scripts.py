"""datasets/download_and_convert_*.sh: from small archives in the published layouts to records with the right labels.

Two scripts run as a person runs them. The others run with a stand-in for python that writes down what they would run,
and these commands then run in this process, which saves starting TensorFlow two dozen times.
"""

import io
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image
from support.file_server import FileServer
from support.small_datasets import SMALL, Small, lfw_parts, voc2012_with_sbd

from deeplab import build_data, download_data
from deeplab.config.conversion_config import LabelConfig, RecordConfig, SplitConfig
from deeplab.config.data_config import DownloadConfig
from deeplab.config.fields import fields_of
from deeplab.data import catalog, records
from deeplab.data import dataset as datasets
from deeplab.data.catalog_download import STAMP
from deeplab.data.readers import FORMATS

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = sorted(ROOT.glob("datasets/download_and_convert_*.sh"))

# ---- running them ------------------------------------------------------------------------------------


def addresses(small: Small, path: pathlib.Path, server: FileServer | None = None) -> pathlib.Path:
    """A file for --addresses: the archives of `small`, nothing known of their checksums and numbers of files."""
    changed: dict = {}
    for name in catalog.names():
        for archive in catalog.find(name).archives:
            facts = {"checksum": None, "bytes": None, "unpacked_bytes": None, "expected": None}
            if server and archive.file in small.archives:
                facts["address"] = server.address_of(archive.file)
            changed.setdefault(name, {"archives": {}})["archives"][archive.file] = facts
    path.write_text(yaml.safe_dump(changed))
    return path


def archive_folder(small: Small, folder: pathlib.Path) -> pathlib.Path:
    """A folder with the archives."""
    folder.mkdir()
    for name, content in small.archives.items():
        (folder / name).write_bytes(content)
    return folder


def stored(folder: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    """By split, the labels in the records, by the names of the images."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for split in datasets.load(folder / datasets.FILE_NAME).splits:
        for path in records.list_shards(folder, split):
            for record in records.read_shard(path):
                png = np.array(Image.open(io.BytesIO(record["image/segmentation/class/encoded"])))
                found.setdefault(split, {})[os.path.basename(record["image/filename"].decode())] = png
    return found


def require_labels(small: Small, folder: pathlib.Path) -> None:
    """The records hold what they must; where the small set names no splits, any division will do."""
    found, expected = stored(folder), small.labels
    if set(expected) == {""}:
        found = {"": {name: values for members in found.values() for name, values in members.items()}}
    assert {split: sorted(members) for split, members in found.items()} == {
        split: sorted(os.path.basename(name) for name in members) for split, members in expected.items()
    }
    for split, members in expected.items():
        for name, values in members.items():
            np.testing.assert_array_equal(found[split][name], values, f"{split} {name}")
    assert datasets.load(folder / datasets.FILE_NAME).name == small.dataset


def script(small: Small, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Runs the script of a dataset, as it is, with this python."""
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "DEEPLAB_PYTHON_READY": "1", "PATH": path, **variables}
    command = ["bash", str(ROOT / "datasets" / f"download_and_convert_{small.script}.sh"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$@" "" >>"$COMMANDS"
"""


@pytest.fixture
def commands_of(tmp_path):
    """What a script would have python run, as lists of words."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(STAND_IN)
    (tmp_path / "bin" / "python").chmod(0o755)

    def run(small: Small, *words: str) -> list[list[str]]:
        log = tmp_path / "commands"
        log.unlink(missing_ok=True)
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        run = script(small, *words, PATH=path, COMMANDS=str(log))
        assert run.returncode == 0, run.stderr
        return [command.split("\n") for command in log.read_text().rstrip("\n").split("\n\n")]

    return run


def run_here(command: list[str], monkeypatch) -> int:
    """Runs one of a script's commands in this process."""
    module = {"download_data.py": download_data, "build_data.py": build_data}[os.path.basename(command[0])]
    monkeypatch.setattr(sys, "argv", command)
    return module.main()


# ---- tests -------------------------------------------------------------------------------------------


def test_every_data_set_has_a_script():
    scripts = {path.stem.removeprefix("download_and_convert_") for path in SCRIPTS}
    assert scripts == {re.sub(r"_task\d$|_coarse$", "", name) for name in catalog.names()} - {"sbd"}


@pytest.mark.parametrize("path", [*SCRIPTS, ROOT / "datasets" / "common.sh"], ids=lambda path: path.stem)
def test_syntax_and_help(path):
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    if path in SCRIPTS:
        shown = subprocess.run(["bash", str(path), "--help"], capture_output=True, text=True, check=False)
        assert shown.returncode == 0 and f"bash datasets/{path.name} [FOLDER]" in shown.stdout
        assert "set -euo" not in shown.stdout and os.access(path, os.X_OK)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_flag_exists(path):
    text = path.read_text()
    own = set(re.findall(r'^take_words \S+ "(.*)" "\$@"', text, re.M)[0].replace("=1", "").replace("=2", "").split())
    (format_name,) = set(re.findall(r"^ *build (\w+)", text, re.M))
    groups = (DownloadConfig, FORMATS.get(format_name).config, LabelConfig, SplitConfig, RecordConfig)
    known = {f"--{name}" for name in fields_of(groups)} | own | {"--flag"}
    assert set(re.findall(r"--\w+", text)) <= known


def test_two_folders_are_one_too_many():
    run = script(Small("camvid", {}, {}), "one", "two")
    assert run.returncode == 2 and "two folders were given, one and two" in run.stderr


@pytest.mark.parametrize("name", SMALL)
def test_archives_become_records(name, tmp_path, commands_of, monkeypatch):
    small = SMALL[name]()
    given = [f"--archives={archive_folder(small, tmp_path / 'mine')}"]
    given.append(f"--addresses={addresses(small, tmp_path / 'addresses.yml')}")
    folder = tmp_path / "a folder"
    known = catalog.find(small.dataset if small.dataset in catalog.names() else small.script).name
    assert run_here(["download_data.py", known, f"--output_dir={folder / 'raw'}", *given], monkeypatch) == 0
    commands = commands_of(small, str(folder), "--overwrite", "--num_shards=1", "--check=false", *given, *small.words)
    assert [os.path.basename(command[0]) for command in commands] == ["download_data.py", "build_data.py"]
    assert set(given) < set(commands[0]) and "--overwrite" in commands[1]
    for command in commands:
        assert run_here(command, monkeypatch) == 0
    require_labels(small, folder / small.records)


def test_people_are_kept_together(tmp_path, commands_of):
    small = lfw_parts()
    _, build = commands_of(small, str(tmp_path / "lfw"), "--by_person")
    (pattern,) = (word.removeprefix("--group_by=") for word in build if word.startswith("--group_by="))
    keys = [re.match(pattern, name)[1] for name in ("Ann_Lee_0012", "Ann_Lee_0003", "Bo_0001")]
    assert keys == ["Ann_Lee", "Ann_Lee", "Bo"] and not any(word.startswith("--list_files") for word in build)


def test_coarse_masks_are_a_second_build(tmp_path, commands_of):
    commands = commands_of(Small("cityscapes", {}, {}), str(tmp_path / "city"), "--coarse", "--num_shards=3")
    words = [(os.path.basename(command[0]), command[1]) for command in commands]
    assert words == [
        ("download_data.py", "cityscapes"),
        ("download_data.py", "cityscapes_coarse"),
        ("build_data.py", "cityscapes"),
        ("build_data.py", "cityscapes"),
    ]
    assert "--annotations=gtCoarse" not in commands[2] and "--annotations=gtCoarse" in commands[3]
    assert all("--num_shards=3" in command for command in commands[2:])


def test_records_that_are_there_stay_unless_they_are_to_be_replaced(tmp_path, commands_of):
    small = Small("cityscapes", {}, {})
    for given, resumed in (((), True), (("--overwrite",), False), (("--overwrite=true",), False)):
        builds = [command for command in commands_of(small, str(tmp_path), "--coarse", *given) if "build" in command[0]]
        assert len(builds) == 2 and all(("--resume" in command) == resumed for command in builds)


@pytest.mark.slow
def test_voc_with_sbd_as_a_person_runs_it(tmp_path):
    small = voc2012_with_sbd()
    server = FileServer(b"", "nothing")
    server.others = small.archives
    try:
        words = [str(tmp_path / "voc"), *small.words, "--num_shards=1"]
        own = str(addresses(small, tmp_path / "addresses.yml", server))
        run = script(small, *words, DEEPLAB_ADDRESSES=own)
        assert run.returncode == 0, run.stderr
        require_labels(small, tmp_path / "voc" / "tfrecord")
        assert server.asked == ["VOCtrainval_11-May-2012.tar", "benchmark.tgz"]
        again = script(small, *words, "--overwrite", DEEPLAB_ADDRESSES=own)
        assert again.returncode == 0 and len(server.asked) == 2, again.stderr
        assert "voc2012 is complete" in again.stderr and "sbd is complete" in again.stderr
        once_more = script(small, *words, DEEPLAB_ADDRESSES=own)
        assert once_more.returncode == 0 and "tfrecord is built already" in once_more.stderr, once_more.stderr
    finally:
        server.close()


@pytest.mark.slow
def test_lfw_parts_as_a_person_runs_it(tmp_path):
    small = lfw_parts()
    server = FileServer(b"", "nothing")
    server.others = small.archives
    try:
        own = str(addresses(small, tmp_path / "addresses.yml", server))
        run = script(small, str(tmp_path / "lfw"), DEEPLAB_ADDRESSES=own)
        assert run.returncode == 0, run.stderr
        require_labels(small, tmp_path / "lfw" / "tfrecord")
        server.content, server.statuses = b"", [404] * 9
        stopped = script(small, str(tmp_path / "other"), DEEPLAB_ADDRESSES=own)
        assert stopped.returncode == 1 and "404" in stopped.stderr and not list((tmp_path / "other").iterdir())
        assert (tmp_path / "lfw" / "raw" / STAMP).is_file()
    finally:
        server.close()
