"""Prediction in a pipeline: the files of a local run, one model per process, shards that resume, retries, errors."""

import csv
import json
import shutil
import threading

import numpy as np
import pytest
from PIL import Image
from support import golden_recipe
from support.errors import raises
from support.object_storage import ObjectStorage

import deeplab.predict as command
from deeplab.config.prediction_config import PredictConfig
from deeplab.data.image_files import ImageFile, find_images
from deeplab.inference import beam_prediction, folder_prediction, inputs
from deeplab.inference.segmenter import Segmenter
from deeplab.utils import remote_files
from deeplab.utils.errors import UserError

pytest.importorskip("apache_beam", reason="the extra beam is not installed")


@pytest.fixture(autouse=True)
def no_model_is_loaded(monkeypatch):
    beam_prediction._load.cache_clear()
    monkeypatch.setattr(beam_prediction, "_PAUSE", 0.0)
    monkeypatch.setattr(remote_files, "_PAUSES", (0.0, 0.0))


@pytest.fixture
def album(tmp_path):
    """A folder with five images, one of them damaged, one in a folder of its own."""
    folder = tmp_path / "album"
    for number, name in enumerate(("a", "a.b", "in/c", "d")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(golden_recipe.image(33 + number, 40)[0]).save(folder / f"{name}.png")
    (folder / "bad.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def run(small_run, album):
    """Runs the command on the album; gives the exit code."""

    def run(output, *flags, input=album):
        words = [f"--model={small_run}", f"--input={input}", f"--output_dir={output}", "--recursive", *flags]
        return command.COMMAND.main(words)

    return run


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OUTPUTS = ("--save_probabilities=png", "--save_areas", "--save_cutouts", "--save_polygons=labelme,geojson")


def test_the_files_are_those_of_a_local_run(run, album, tmp_path, monkeypatch, capsys):
    assert run(tmp_path / "local", *OUTPUTS) == 1
    said = capsys.readouterr()
    loaded = []
    real = Segmenter.__init__
    monkeypatch.setattr(Segmenter, "__init__", lambda *given, **named: loaded.append(1) or real(*given, **named))
    assert run(tmp_path / "piped", *OUTPUTS, "--beam", "--images_per_shard=2") == 1
    piped = capsys.readouterr()
    assert contents(tmp_path / "piped") == contents(tmp_path / "local") and len(contents(tmp_path / "local")) > 20
    assert "written: 4 of 5 images" in piped.out
    assert piped.out.replace("piped", "local") == said.out
    (about_bad,) = [line for line in said.err.splitlines() if line.startswith(f"error: {album / 'bad.png'}")]
    assert about_bad in piped.err.splitlines()
    assert len(loaded) == 1


def test_tfrecords_hold_the_same_files(run, tmp_path):
    import tensorflow as tf

    assert run(tmp_path / "local", *OUTPUTS) == 1
    assert run(tmp_path / "piped", *OUTPUTS, "--beam", "--beam_output=tfrecord", "--images_per_shard=3") == 1
    names = [f"predictions-{number:05d}-of-00002.tfrecord" for number in range(2)]
    assert sorted(contents(tmp_path / "piped")) == sorted(["areas.csv", "summary.csv", *names])
    found = {}
    for name in names:
        for record in tf.data.TFRecordDataset(str(tmp_path / "piped" / name)).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            image = feature["image/filename"].bytes_list.value[0].decode()
            assert json.loads(feature["fractions"].bytes_list.value[0]).keys() == {"ground", "disc", "square"}
            for key, value in feature.items():
                kind, _, rest = key.partition("/")
                if rest == "encoded":
                    found[f"{kind}/{image}"] = value.bytes_list.value[0]
                elif kind == "probabilities":
                    found[f"{kind}/{image}/{rest}"] = value.bytes_list.value[0]
    local = {path.rpartition(".")[0]: data for path, data in contents(tmp_path / "local").items() if "/" in path}
    assert found == local
    assert run(tmp_path / "piped", "--beam", "--beam_output=tfrecord", "--images_per_shard=3") == 1


def test_a_run_that_was_stopped_goes_on(run, album, tmp_path, monkeypatch, capsys):
    (album / "bad.png").unlink()
    real, predicted = folder_prediction.predict_files, []

    def stopping(segmenter, files, *arguments, **named):
        if any(file.name == "d" for file in files):
            raise RuntimeError("the machine was lost")
        predicted.extend(file.name for file in files)
        return real(segmenter, files, *arguments, **named)

    monkeypatch.setattr(folder_prediction, "predict_files", stopping)
    out = tmp_path / "out"
    assert run(out, "--beam", "--images_per_shard=1") == 1
    said = capsys.readouterr().err
    assert "failed-pipeline" in said and "the machine was lost" in said
    done = {path.stem for path in (out / ".beam").glob("predictions-*")}
    assert len(done) == len(set(predicted)) and not (out / "summary.csv").exists()
    monkeypatch.setattr(folder_prediction, "predict_files", real)
    before = {path: path.stat().st_mtime_ns for path in (out / "mask").rglob("*.png")}
    assert run(out, "--beam", "--images_per_shard=1") == 0
    assert f"{len(done)} of 4 shards were finished by an earlier run" in capsys.readouterr().err
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    rows = list(csv.DictReader((out / "summary.csv").open()))
    assert [row["image"] for row in rows] == ["a.b", "a", "d", "in/c"] and not (out / ".beam").exists()
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert run(out, "--beam") == 1 and "would-overwrite" in capsys.readouterr().err
    assert run(out, "--beam", "--overwrite") == 0


def test_another_model_or_setting_does_not_go_on(run, album, tmp_path, monkeypatch, capsys):
    (album / "bad.png").unlink()
    monkeypatch.setattr(beam_prediction, "_collected", lambda *_: 1 / 0)
    assert run(tmp_path / "out", "--beam") == 70
    capsys.readouterr()
    monkeypatch.undo()
    assert run(tmp_path / "out", "--beam", "--save_color=false") == 1
    assert "would-overwrite" in capsys.readouterr().err


def test_failures_that_pass_are_tried_again(small_run, album, tmp_path, monkeypatch):
    job = beam_prediction.PredictionJob(
        str(small_run), (), PredictConfig(input=("x",), output_dir=str(tmp_path / "o")), ""
    )
    files = find_images([str(album / "a.png")])
    real, calls = beam_prediction._predicted, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) < 3:
            raise [OSError("disk"), UserError("remote-failed", "slow")][len(calls) - 1]
        return real(*arguments)

    monkeypatch.setattr(beam_prediction, "_predicted", failing)
    (task,) = beam_prediction.shard_tasks(files, job.config)
    assert beam_prediction.predict_shard(task, job) == "predictions-00000-of-00001" and len(calls) == 3
    assert json.loads((tmp_path / "o/.beam/predictions-00000-of-00001.json").read_text())["errors"] == []


def test_errors_of_the_model_or_a_setting_end_the_command(run, tmp_path, capsys):
    assert run(tmp_path / "out", "--beam", "--save_cutouts", "--cutout_classes=cat") == 1
    said = capsys.readouterr().err
    assert "unknown-name" in said and "--cutout_classes" in said and "failed-pipeline" not in said


def test_all_workers_load_the_checkpoint_that_is_the_best_now(small_run, album, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(small_run, folder / "best")
    shutil.copytree(small_run, folder, dirs_exist_ok=True)
    jobs = []
    monkeypatch.setattr(beam_prediction, "run_pipeline", lambda tasks, work, given, *_, **__: jobs.append(given[0]))
    for which in ("best", "latest"):
        with raises("failed-pipeline", "output_dir"):
            predict_in(folder, album, tmp_path / which, checkpoint=which)
    assert [job.source for job in jobs] == [str(folder / "best" / "model.ckpt-7"), str(folder / "model.ckpt-7")]
    assert all("checkpoint" not in dict(job.settings) for job in jobs)
    assert beam_prediction._loaded(jobs[0].source, jobs[0].settings).class_names == ("ground", "disc", "square")


def predict_in(model, album, output, **settings):
    files = find_images([str(album / "a.png")])
    output.mkdir()
    config = PredictConfig(input=("x",), output_dir=str(output), beam=True)
    return beam_prediction.predict_in_pipeline(str(model), settings, files, config)


def test_what_a_pipeline_does_not_predict(run, tmp_path, capsys):
    for flags, named in (
        ({"input": "-"}, "--input"),
        ({"input": "clip.mp4"}, "clip.mp4"),
    ):
        assert run(tmp_path / "out", "--beam", **flags) == 1
        said = capsys.readouterr().err
        assert "conflicting-settings" in said and named in said
    assert run(tmp_path / "out", "--beam", "--save_polygons=labelme,coco") == 1
    said = capsys.readouterr().err
    assert "coco writes one file for all images" in said and "choose among labelme, geojson" in said
    with raises("conflicting-settings", "max_frames"):
        PredictConfig(input=("x",), output_dir="o", beam=True, max_frames=3)


def test_shards_are_in_the_order_of_the_images():
    files = [ImageFile(str(number), str(number)) for number in range(5)]
    tasks = beam_prediction.shard_tasks(files, PredictConfig(input=("x",), output_dir="o", images_per_shard=2))
    assert [[file.name for file in task.files] for task in tasks] == [["0", "1"], ["2", "3"], ["4"]]
    assert tasks[2].name == "predictions-00002-of-00003"


def test_one_model_for_threads_that_come_together(monkeypatch):
    loaded = []
    monkeypatch.setattr(beam_prediction, "Segmenter", lambda *_, **__: loaded.append(1) or object())
    got = []
    threads = [threading.Thread(target=lambda: got.append(beam_prediction._loaded("m", ()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    beam_prediction._load.cache_clear()
    assert len(loaded) == 1 and len(set(map(id, got))) == 1


def test_workers_read_and_write_remote_files_themselves(run, album, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path / "cache"))
    storage = ObjectStorage(tmp_path / "storage")
    monkeypatch.setattr(remote_files, "file_system", lambda scheme: storage)
    remote_files.write_files(album, "gs://b/album")
    storage.failures = {"read": [TimeoutError()] * 2, "write": [TimeoutError()] * 2}
    assert run(tmp_path / "local") == 1
    assert run("gs://b/out", "--beam", "--images_per_shard=2", input="gs://b/album") == 1
    assert "written: 4 of 5 images into gs://b/out" in capsys.readouterr().out
    assert contents(storage.folder / "b" / "out") == contents(tmp_path / "local")
    assert not (tmp_path / "cache" / "remote").exists()  # no copies of images on the machine of the command
    assert run("gs://b/out", "--beam", input="gs://b/album") == 1
    assert "would-overwrite" in capsys.readouterr().err
    assert run("gs://b/out", "--beam", "--overwrite", input="gs://b/album/*.png") == 1
    assert "3 of 4 images" in capsys.readouterr().out


def test_remote_images_are_named_as_local_ones(album, tmp_path, monkeypatch):
    storage = ObjectStorage(tmp_path / "storage")
    monkeypatch.setattr(remote_files, "file_system", lambda scheme: storage)
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path / "cache"))
    remote_files.write_files(album, "gs://b/album")
    for recursive in (False, True):
        found = inputs.find_inputs(["gs://b/album"], recursive)
        local = inputs.find_inputs([str(album)], recursive)
        assert sorted(file.name for file in found) == sorted(file.name for file in local)
    (one,) = inputs.find_inputs(["gs://b/album/a.b.png"])
    assert one.name == "a.b"
    assert np.array_equal(inputs.read(one), inputs.read(ImageFile(str(album / "a.b.png"), "a.b")))
    with raises("no-images", where="gs://b/none"):
        inputs.find_inputs(["gs://b/none"])
