"""The command `browse-data`: its image grids hold exactly the pixels that training gets."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import deeplab.browse_data as command
from deeplab.config import run_file
from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig
from deeplab.data import dataset, pipeline, records
from deeplab.training.setup import TrainingConfigs, facts_of
from deeplab.visualization import dataset_browser

CROP = ("--train_crop_size=41,57", "--train_batch_size=4", "--min_scale_factor=0.5", "--max_scale_factor=1.25")
SEED = 11


@pytest.fixture
def run(monkeypatch, disc_records, tmp_path):
    """Runs the command with further flags on the small dataset; gives the exit code."""

    def run(*flags, given=None):
        given = (f"--dataset_dir={disc_records}", f"--output_dir={tmp_path}/out") if given is None else given
        monkeypatch.setattr(sys, "argv", ["browse_data.py", *given, *flags])
        return command.main()

    return run


def batches_of_training(disc_records, number, **changes):
    """What a training of `CROP` and `SEED` gets, straight from the input pipeline."""
    settings = {
        "crop_size": (41, 57),
        "batch_size": 4,
        "padding_color": (127.5, 127.5, 127.5),
        "ignore_label": 255,
        "num_classes": 3,
        "min_scale_factor": 0.5,
        "max_scale_factor": 1.25,
        "scale_factor_step_size": 0.25,
        "seed": SEED,
        **changes,
    }
    shards = records.list_shards(disc_records, "train")
    return [batch for batch, _ in zip(pipeline.train_batches(shards, **settings), range(number), strict=False)]


def require_shown(path, batch, disc_records, mean_pixel=(127.5,) * 3):
    """The grid shows the batch's images, and its labels in their colors, pixel for pixel."""
    drawn = np.asarray(Image.open(path))
    described = dataset.find("", disc_records)
    split = dataset_browser.RecordSplit(described, "train", [])
    (grid,) = dataset_browser.batch_grids(split, batch, mean_pixel, ("a", "b"), dataset_browser.GridStyle())
    colors = dataset_browser.LabelColors.of(described).colors
    for places, image, label in zip(grid.places(), batch["image"].numpy(), batch["label"].numpy(), strict=True):
        shown = [drawn[p.top : p.top + p.height, p.left : p.left + p.width] for p in places]
        np.testing.assert_array_equal(shown[0], np.rint(image))
        np.testing.assert_array_equal(shown[2][label != 255], colors[label[label != 255]])
        assert (shown[2][label == 255] != colors[0]).any(-1).all()


@pytest.fixture
def training(disc_records, tmp_path):
    """A folder in which a training with `CROP` and `SEED` has begun."""
    folder = tmp_path / "run"
    folder.mkdir()
    train = TrainConfig(str(folder), train_crop_size=(41, 57), train_batch_size=4, max_scale_factor=1.25)
    data = DatasetConfig(str(disc_records))
    settings = TrainingConfigs(ModelConfig(), ResizeConfig(), data, LossConfig(), OptimizerConfig(), train)
    run_file.save(folder, settings.groups(), {**facts_of(dataset.find("", disc_records), "train"), "seed": SEED})
    return folder


class TestBatches:
    def test_flags_of_the_training(self, run, disc_records, tmp_path):
        assert run(*CROP, f"--random_seed={SEED}", "--batches=2") == 0
        first, second = batches_of_training(disc_records, 2)
        require_shown(tmp_path / "out" / "train-step-000001.png", first, disc_records)
        require_shown(tmp_path / "out" / "train-step-000002.png", second, disc_records)
        assert len(list((tmp_path / "out").iterdir())) == 2

    def test_backbone_and_resizing_count(self, run, disc_records, tmp_path):
        flags = ("--model_variant=resnet_v1_50", "--min_resize_value=30", "--max_resize_value=40", "--images=4")
        assert run(*CROP, *flags, f"--random_seed={SEED}", "--augmented=true") == 0
        mean_pixel = (123.15, 115.90, 103.06)
        resize = ResizeConfig(min_resize_value=30, max_resize_value=40)
        (batch,) = batches_of_training(disc_records, 1, padding_color=mean_pixel, resize=resize)
        require_shown(tmp_path / "out" / "train-step-000001.png", batch, disc_records, mean_pixel)

    @pytest.mark.parametrize("way", ["--train_logdir={}", "--config={}/config.yml"])
    def test_a_training_folder_says_it_all(self, run, training, disc_records, tmp_path, way):
        flags = (way.format(training), f"--output_dir={tmp_path}/out", "--batches=1", "--first_step=3")
        assert run(*flags, given=()) == 0
        *_, third = batches_of_training(disc_records, 3)
        require_shown(tmp_path / "out" / "train-step-000003.png", third, disc_records)

    def test_what_differs_from_the_training_is_said(self, run, training, capsys):
        assert run(f"--train_logdir={training}", "--train_batch_size=2", "--random_seed=5", "--batches=1") == 0
        said = capsys.readouterr().err
        assert (
            "--train_batch_size: was 4, is 2" in said
            and "--random_seed=5 has no effect: that training has seed" in said
        )

    def test_a_network_of_another_kind_is_refused(self, run, training, capsys):
        assert run(f"--train_logdir={training}", "--model_variant=xception_65", "--batches=1") == 1
        assert "--model_variant=xception_65, trained with mobilenet_v2" in capsys.readouterr().err

    def test_without_a_seed_one_is_drawn_and_said(self, run, disc_records, tmp_path, capsys):
        assert run(*CROP, "--batches=1", f"--train_logdir={tmp_path}/later") == 0
        said = capsys.readouterr().err
        assert "does not exist yet" in said
        seed = int(said.split("--random_seed=")[1].split()[0])
        (batch,) = batches_of_training(disc_records, 1, seed=seed)
        require_shown(tmp_path / "out" / "train-step-000001.png", batch, disc_records)

    def test_a_large_batch_takes_several_grids(self, run, tmp_path):
        assert run(*CROP, "--random_seed=1", "--batches=1", "--images_per_sheet=3") == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "train-step-000001-1.png",
            "train-step-000001-2.png",
        ]


class TestRecords:
    def test_grids_of_a_split(self, run, tmp_path, capsys):
        assert run("--images=5", "--images_per_sheet=2", "--random=true") == 0
        names = [f"train-grid-00{number}.png" for number in (1, 2, 3)]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
        assert capsys.readouterr().out == "written: " + ", ".join(f"{tmp_path}/out/{name}" for name in names) + "\n"

    def test_another_split(self, run, tmp_path):
        assert run("--split=val", "--picture_size=100") == 0
        assert Image.open(tmp_path / "out" / "val-grid-001.png").width < 700

    def test_nothing_is_overwritten_unasked(self, run, tmp_path, capsys):
        assert run("--images=2", "--images_per_sheet=1") == 0
        before = (tmp_path / "out" / "train-grid-001.png").read_bytes()
        assert run("--images=2", "--random=true") == 1
        assert "--overwrite=true replaces them" in capsys.readouterr().err
        assert (tmp_path / "out" / "train-grid-001.png").read_bytes() == before
        assert run("--images=2", "--overwrite=true", "--random=true") == 0
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["train-grid-001.png"]
        assert (tmp_path / "out" / "train-grid-001.png").read_bytes() != before

    def test_a_damaged_record(self, run, disc_records, tmp_path, capsys):
        broken = tmp_path / "records"
        shutil.copytree(disc_records, broken)
        shard = broken / records.shard_name("train", 0, 1)
        whole = shard.read_bytes()
        shard.write_bytes(whole[: len(whole) // 2])
        flags = (f"--dataset_dir={broken}", f"--output_dir={tmp_path}/out")
        assert run(given=flags) == 1
        assert "train-00000-of-00001.tfrecord: record" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        assert run("--batches=1", given=flags) == 1
        assert "train-00000-of-00001.tfrecord: record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--split=vla"], "did you mean split 'val'?"),
        (["--classes=dics"], "did you mean 'disc'?"),
        (["--images=0"], "--images: must be at least 1"),
        (["--overlay_opacity=2"], "--overlay_opacity: must be at least 0 and at most 1"),
        (["--batches=-1"], "--batches: must be at least 0"),
        (["--batches=1", "--classes=disc"], "--classes: selects records"),
        (["--augmented=true", "--random=true"], "--random: selects records"),
        (["--config=nowhere/config.yml"], "nowhere/config.yml: does not exist"),
    ],
)
def test_bad_flags_are_refused(run, tmp_path, capsys, flags, words):
    assert run(*flags) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_records_are_named(run, capsys):
    assert run(given=()) == 2
    assert "--dataset_dir: must be given" in capsys.readouterr().err


def test_two_at_once(run, tmp_path, capsys):
    from deeplab.utils.locks import folder_lock

    (tmp_path / "out").mkdir()
    with folder_lock(tmp_path / "out", "drawing", ""):
        assert run() == 1
    assert "another process is drawing in this folder" in capsys.readouterr().err
