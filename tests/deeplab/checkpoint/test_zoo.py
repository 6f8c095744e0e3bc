"""The model zoo: its data, and the way from a name to a checkpoint, against a server on this machine."""

import dataclasses
import io
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.errors import raises
from support.file_server import FileServer

import slim
from deeplab import checkpoint
from deeplab.checkpoint import writer, zoo
from deeplab.checkpoint.watch import checkpoints
from deeplab.config import run_file
from deeplab.config.fields import make
from deeplab.config.model_config import ModelConfig
from deeplab.inference.runtimes.checkpoint import resolve
from deeplab.utils import download
from deeplab.utils.errors import UserError

ROOT = pathlib.Path(__file__).parents[3]
WEIGHT = "xception_65/entry_flow/conv1_1/weights"


def tar(contents: dict[str, bytes]) -> bytes:
    """A .tar.gz of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def checkpoint_files(folder: pathlib.Path, inside: str, value: float = 1.0) -> dict[str, bytes]:
    """The files of a checkpoint of one kernel, under their names in an archive."""
    folder.mkdir(exist_ok=True)
    writer.write(str(folder / "model.ckpt"), {WEIGHT: np.full((3, 3, 3, 32), value, np.float32)})
    return {f"{inside}{path.suffix}": path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def archive(tmp_path) -> bytes:
    """A published archive: a checkpoint, a frozen graph beside it, and a state file of another machine."""
    contents = checkpoint_files(tmp_path / "made", "some_name/model.ckpt-30000")
    state = b'model_checkpoint_path: "/cns/somewhere/model.ckpt-30000"\n'
    return tar({"some_name/frozen_inference_graph.pb": b"graph", "some_name/checkpoint": state, **contents})


@pytest.fixture
def server(archive):
    """A server of that archive."""
    server = FileServer(archive, "some_name_2018.tar.gz")
    yield server
    server.close()


@pytest.fixture
def entry(server, tmp_path, monkeypatch) -> zoo.Entry:
    """An entry of the zoo at that server, and a cache folder of its own."""
    flags = {"model_variant": "xception_65", "atrous_rates": [6, 12, 18], "output_stride": 16}
    entry = zoo.Entry("small", "for tests", "nothing", server.address, flags, dataset="pascal_voc_seg")
    monkeypatch.setattr(zoo, "entries", lambda: {"small": entry, "smart": entry})
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path / "cache"))
    return entry


def cache() -> pathlib.Path:
    """The cache folder of a test."""
    return pathlib.Path(zoo.cache_folder())


def listing() -> list[str]:
    """What lies in the cache, the lock folder left out."""
    return sorted(name for name in os.listdir(cache()) if name != zoo.WORK)


# ---- the data ----------------------------------------------------------------------------------------


def test_every_entry_is_complete():
    entries = zoo.entries()
    assert len(entries) == 40
    for entry in entries.values():
        settings = zoo.settings_for(zoo.PREFIX + entry.name)
        assert slim.find(make(ModelConfig, settings).model_variant)
        assert re.fullmatch(r"https?://\S+\.t(ar\.)?gz", entry.address)
        assert entry.what and entry.trained_on
        assert all(20 < result["miou"] < 90 and result["scales"] for result in entry.published)
    assert len({entry.file for entry in entries.values()}) == len(entries)


def test_facts_of_one_entry():
    entry = zoo.find("zoo:xception65_coco_voc_trainaug")
    assert entry.address == "http://download.tensorflow.org/models/deeplabv3_pascal_train_aug_2018_01_04.tar.gz"
    assert entry.megabytes == 439 and [result["miou"] for result in entry.published] == [82.2, 83.58]
    assert zoo.settings_for("zoo:xception65_coco_voc_trainaug") == {
        "model_variant": "xception_65",
        "atrous_rates": (6, 12, 18),
        "output_stride": 16,
        "decoder_output_stride": (4,),
    }


def test_page_shows_the_data():
    page = (ROOT / "docs" / "model_zoo.md").read_text(encoding="utf-8")
    assert zoo.markdown() in page, "python -m deeplab.checkpoint.zoo prints the table anew"


def test_unknown_name_suggests_the_nearest_and_lists_all():
    with raises("unknown-name", where="zoo:xception65_coco_voc_trainaugg") as caught:
        zoo.find("zoo:xception65_coco_voc_trainaugg")
    assert "did you mean 'xception65_coco_voc_trainaug'" in caught.value.hint
    assert "mobilenetv2_dm05_coco_voc_trainval" in caught.value.hint


# ---- from a name to a checkpoint ---------------------------------------------------------------------


def test_name_becomes_a_checkpoint_with_its_settings(entry, server):
    prefix = checkpoint.open("zoo:small").prefix
    assert prefix == str(cache() / "small" / "some_name" / "model.ckpt-30000")
    np.testing.assert_array_equal(checkpoint.open("zoo:small").array(WEIGHT), np.ones((3, 3, 3, 32), np.float32))
    assert len(server.requests) == 1
    assert listing() == ["small", "some_name_2018.tar.gz.sha256"]
    assert zoo.settings_for(prefix) == zoo.settings_for("zoo:small")
    assert (cache() / "small" / "some_name" / "frozen_inference_graph.pb").read_bytes() == b"graph"


def test_later_commands_read_the_settings_by_path(entry):
    assert zoo.SETTINGS == run_file.FILE_NAME
    resolved = resolve({}, checkpoint.open("zoo:small"), [ModelConfig])
    assert resolved["atrous_rates"] == (6, 12, 18) and resolved["model_variant"] == "xception_65"
    assert resolved["class_names"][:2] == ["background", "aeroplane"] and len(resolved["colors"]) == 21


def test_rates_follow_another_output_stride_unless_they_are_given(entry):
    opened = checkpoint.open("zoo:small")
    assert resolve({"output_stride": 8}, opened, [ModelConfig])["atrous_rates"] == (12, 24, 36)
    own = {"output_stride": 8, "atrous_rates": (1, 2, 3)}
    assert resolve(own, opened, [ModelConfig])["atrous_rates"] == (1, 2, 3)


def test_waiting_for_checkpoints_takes_a_name_once(entry):
    assert [each.prefix for each in checkpoints("zoo:small", max_number=0)] == [checkpoint.open("zoo:small").prefix]


def test_no_network_says_what_to_put_where(entry, server, archive):
    server.statuses = [403] * 9
    with raises("download-failed", where=server.address) as caught:
        checkpoint.open("zoo:small")
    assert server.address in caught.value.hint
    by_hand = str(cache() / "some_name_2018.tar.gz")
    assert by_hand in caught.value.hint
    pathlib.Path(by_hand).write_bytes(archive)
    assert checkpoint.open("zoo:small").prefix
    assert listing() == ["small", "some_name_2018.tar.gz", "some_name_2018.tar.gz.sha256"]  # the user's file stays


def test_archive_that_a_browser_has_unzipped(entry, server, archive):
    import gzip

    cache().mkdir(parents=True)
    (cache() / "some_name_2018.tar").write_bytes(gzip.decompress(archive))
    assert checkpoint.open("zoo:small").prefix and server.requests == []


def test_folder_unpacked_by_hand(entry, server, archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(cache() / "small", filter="data")
    assert zoo.settings_for(checkpoint.open("zoo:small").prefix)["model_variant"] == "xception_65"
    assert server.requests == []


def test_another_archive_later_is_refused(entry, server, tmp_path):
    checkpoint.open("zoo:small")
    zoo.shutil.rmtree(cache() / "small")
    server.content = tar(checkpoint_files(tmp_path / "other", "some_name/model.ckpt-30000", value=2.0))
    with raises("checksum-mismatch", where="some_name_2018.tar.gz") as caught:
        checkpoint.open("zoo:small")
    assert "some_name_2018.tar.gz.sha256" in caught.value.hint
    assert "small" not in listing()


def test_same_archive_later_is_taken(entry):
    checkpoint.open("zoo:small")
    zoo.shutil.rmtree(cache() / "small")
    assert checkpoint.open("zoo:small").prefix


@pytest.mark.parametrize("spoil", [lambda a: a[:-200], lambda a: a[:-8] + bytes(8), lambda a: b"<html>login</html>"])
def test_damaged_archive_leaves_nothing(entry, server, archive, spoil):
    server.content = spoil(archive)
    with pytest.raises(UserError) as caught:
        checkpoint.open("zoo:small")
    assert caught.value.code in ("damaged-archive", "not-an-archive")
    assert listing() == []
    server.content = archive
    assert checkpoint.open("zoo:small").prefix


def test_archive_without_a_checkpoint(entry, server):
    server.content = tar({"readme.txt": b"moved"})
    with raises("checkpoint-not-found", where=server.address) as caught:
        checkpoint.open("zoo:small")
    assert "readme.txt" in caught.value.rule
    assert listing() == []


def test_damaged_folder_is_fetched_again(entry):
    prefix = checkpoint.open("zoo:small").prefix
    os.truncate(prefix + ".data-00000-of-00001", 10)
    assert checkpoint.open("zoo:small").array(WEIGHT).shape == (3, 3, 3, 32)


def test_running_averages_come_before_raw_weights(entry, server, tmp_path):
    raw = checkpoint_files(tmp_path / "raw", "v3/pristine/model.ckpt-540000", value=1.0)
    averaged = checkpoint_files(tmp_path / "averaged", "v3/ema/model-540000", value=2.0)
    server.content = tar({**averaged, **raw, "v3/._model.ckpt": b"junk"})
    assert checkpoint.open("zoo:small").array(WEIGHT).max() == 2.0


def test_unwritable_cache(entry, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path / "file"))
    with raises("unwritable-folder", where=cache()):
        checkpoint.open("zoo:small")


# ---- two at once, and kills --------------------------------------------------------------------------

FETCHER = """
import sys
from deeplab.utils import download
download.fetch(sys.argv[1], sys.argv[2], "")
"""


def test_two_at_once_download_once(entry, server, capfd):
    server.pause = 0.3
    with ThreadPoolExecutor(2) as pool:  # the lock is one of open files, so that it parts threads, too
        prefixes = list(pool.map(lambda name: checkpoint.open(name).prefix, ["zoo:small"] * 2))
    assert prefixes[0] == prefixes[1] and len(server.requests) == 1
    assert "another process is downloading zoo:small; waiting" in capfd.readouterr().err


def test_killed_download_is_resumed(entry, server, archive):
    server.stall_after = len(archive) // 2
    cache().mkdir(parents=True)
    target = cache() / server.name
    process = subprocess.Popen([sys.executable, "-c", FETCHER, server.address, str(target)], cwd=ROOT)
    part = cache() / (server.name + download.PART)
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == len(archive) // 2):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    server.stall_after = None
    assert checkpoint.open("zoo:small").prefix
    assert server.requests == [None, f"bytes={len(archive) // 2}-"]
    assert listing() == ["small", "some_name_2018.tar.gz.sha256"]


def test_kill_while_unpacking_leaves_nothing_that_looks_whole(entry, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    real = os.replace
    monkeypatch.setattr(zoo.os, "replace", lambda a, b: killed() if a.endswith("unpacking") else real(a, b))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.open("zoo:small")
    monkeypatch.undo()
    assert not (cache() / "small").exists()


def test_entry_without_settings_it_does_not_know():
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    assert all(set(entry.flags) <= known for entry in zoo.entries().values())


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"model_variant": "mobilenet_v2"}, "zoo:mobilenetv2_coco_voc_trainaug"),
        ({"model_variant": "mobilenet_v2", "decoder_output_stride": (4,)}, "zoo:mobilenetv2_ade20k_train"),
        ({"model_variant": "mobilenet_v2", "depth_multiplier": 0.5}, "zoo:mobilenetv2_dm05_coco_voc_trainaug"),
        ({"model_variant": "mobilenet_v2", "depth_multiplier": 0.75}, "zoo:slim_mobilenet_v2_0.75_224"),
        ({"model_variant": "resnet_v1_50_beta"}, "zoo:resnet_v1_50_beta_imagenet"),
        ({"model_variant": "mobilenet_edgetpu"}, "zoo:edgetpu_deeplab"),
    ],
)
def test_best_weights_are_those_of_a_segmentation_with_the_models_settings(settings, name, capsys):
    config = ModelConfig(**settings)
    assert zoo.best_weights(config) == zoo.published_weights("best_for_backbone", config) == name
    assert name in capsys.readouterr().err
    assert zoo.published_weights("logs/model.ckpt-3", config) == "logs/model.ckpt-3"


def test_every_backbone_of_the_zoo_has_initial_weights():
    variants = {(e.flags["model_variant"], e.flags.get("depth_multiplier", 1.0)) for e in zoo.entries().values()}
    for variant, multiplier in variants:
        config = ModelConfig(model_variant=variant, depth_multiplier=multiplier)
        for found in (zoo.imagenet_weights(config), zoo.best_weights(config)):
            flags = zoo.find(found).flags
            assert flags["model_variant"] in (variant, variant.removesuffix("_seg"))
    config = ModelConfig(model_variant="mobilenet_v3_large_seg")
    assert zoo.imagenet_weights(config) == "zoo:slim_mobilenet_v3_large_224_1.0_float"
    assert zoo.best_weights(config) == "zoo:mobilenetv3_large_cityscapes_trainfine"
    for variant in ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "xception_65"):
        plain, same = (ModelConfig(model_variant=name) for name in (variant, f"{variant}_same"))
        assert zoo.imagenet_weights(same) == zoo.imagenet_weights(plain)
