"""Build, train, resume, eval, vis, export and predict with every path on remote storage, and nothing left here.

The commands run in this process, on TensorFlow's `ram://`, and on a stand-in for object storage that fails at first.
"""

import json

import cv2
import numpy as np
import pytest
import tensorflow as tf
from conftest import disc_pair, png
from support.object_storage import ObjectStorage

import deeplab
from deeplab import build_data, eval, export_model, predict, train, vis
from deeplab.config import run_file
from deeplab.utils import remote_files

pytestmark = pytest.mark.xdist_group("remote")


def run(command, *words, **flags):
    """Runs a command on its words; the exit code."""
    return command.COMMAND.main([*words, *(f"--{name}={value}" for name, value in flags.items())])


def train_for(steps, root):
    return run(
        train,
        dataset_dir=f"{root}/records",
        train_logdir=f"{root}/run",
        depth_multiplier=0.25,
        output_stride=16,
        aspp_convs_filters=16,
        train_crop_size="33,33",
        train_batch_size=2,
        training_number_of_steps=steps,
        save_interval_steps=2,
        random_seed=1,
    )


def names(root):
    return {name.removeprefix(f"{root}/") for name in remote_files.list_files(root)}


@pytest.fixture(scope="module", params=["ram", "object"])
def root(request, tmp_path_factory):
    """The name of a remote folder with images, masks and what the commands made of them."""
    folder = tmp_path_factory.mktemp("remote")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPLAB_CACHE", str(folder / "cache"))
        patch.setattr(remote_files, "_PAUSES", (0.0, 0.0))
        if request.param == "object":
            storage, find = ObjectStorage(folder / "storage"), remote_files.file_system
            patch.setattr(remote_files, "file_system", lambda scheme: storage if scheme == "gs" else find(scheme))
            storage.failures = {kind: [TimeoutError(), ConnectionResetError()] for kind in ("list", "read", "write")}
        root = f"{'gs' if request.param == 'object' else 'ram'}://bucket/{request.param}"
        for number in range(8):
            image, label = disc_pair(number)
            for kind, pixels in (("images", image), ("masks", label)):
                path = folder / "in" / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(pixels))
        remote_files.write_files(folder / "in", root)
        data = {"image_folder": f"{root}/images", "mask_folder": f"{root}/masks", "class_names": "ground,disc,square"}
        assert run(build_data, "folder", **data, output_dir=f"{root}/records", num_shards=1, check=False) == 0
        assert train_for(2, root) == 0
        yield root


def test_the_records_are_there(root):
    assert names(f"{root}/records") >= {"dataset.yml", "train-00000-of-00001.tfrecord", "val-00000-of-00001.tfrecord"}
    assert deeplab.load_dataset(f"{root}/records").class_names == ("ground", "disc", "square")


def test_a_training_resumes_where_it_was_stopped_on_a_machine_without_copies(root, tmp_path, monkeypatch, capsys):
    assert {"checkpoint", "config.yml", "model.ckpt-2.index"} <= names(f"{root}/run")
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path))
    assert train_for(4, root) == 0
    said = capsys.readouterr().err
    assert "model.ckpt-2" in said and "no locks" in said
    assert str(tmp_path) not in said.replace(f"written in {tmp_path}", "")
    assert "model.ckpt-4.index" in names(f"{root}/run")
    saved = run_file.load(remote_files.local_copy(f"{root}/run"))
    assert (saved["dataset_dir"], saved["train_logdir"]) == (f"{root}/records", f"{root}/run")
    assert not list((tmp_path / "remote-work").iterdir())


def test_the_model_is_evaluated_on_the_records_it_was_trained_on(root, capsys):
    assert run(eval, model=f"{root}/run", eval_logdir=f"{root}/eval") == 0
    assert f"{root}/eval/metrics.json" in capsys.readouterr().out
    metrics = json.loads(remote_files.read_bytes(f"{root}/eval/metrics.json"))
    assert metrics["settings"]["dataset_dir"] == f"{root}/records" and 0 <= metrics["mean_iou"] <= 1
    assert run(vis, model=f"{root}/run", vis_logdir=f"{root}/vis") == 0
    assert any(name.endswith(".png") for name in names(f"{root}/vis"))


def test_predictions_are_those_of_local_files(root, tmp_path, capsys):
    assert run(predict, model=f"{root}/run", input=f"{root}/images", output_dir=f"{root}/out") == 0
    assert f"written: 8 of 8 images into {root}/out" in capsys.readouterr().out
    assert run(predict, model=f"{root}/run", input=f"{root}/images/*.png", output_dir=tmp_path / "out") == 0
    held = remote_files.read_bytes(f"{root}/out/mask/3.png")
    assert held == (tmp_path / "out" / "mask" / "3.png").read_bytes()
    assert np.array_equal(
        cv2.imdecode(np.frombuffer(held, np.uint8), cv2.IMREAD_UNCHANGED).shape[:2], disc_pair(3)[1].shape
    )
    assert run(predict, model=f"{root}/run", input=f"{root}/images/3.png", output_dir=f"{root}/out") == 1
    assert "would-overwrite" in capsys.readouterr().err


def test_exports_and_the_python_interface(root):
    assert run(export_model, checkpoint_path=f"{root}/run", export_path=f"{root}/export/a.pb", parity_images=1) == 0
    assert "export/a.pb" in names(root)
    segmenter = deeplab.Segmenter(f"{root}/export/a.pb")
    assert segmenter.class_names == ("ground", "disc", "square")
    assert segmenter(disc_pair(3)[0]).labels.shape == disc_pair(3)[1].shape


def test_what_is_not_there(root, capsys):
    assert run(predict, model=f"{root}/none", input=f"{root}/images", output_dir=f"{root}/out2") == 1
    said = capsys.readouterr().err
    assert f"{root}/none: does not exist" in said and "file-not-found" in said
    assert not tf.io.gfile.exists("ram://bucket/ram/out2") and not names(f"{root}/out2")
