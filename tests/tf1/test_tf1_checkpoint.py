"""Checkpoints between this project and TensorFlow 1.15, both ways: names, values, slots, step, state file."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from support import golden_recipe

from deeplab import checkpoint
from deeplab.checkpoint import manager
from deeplab.checkpoint.restore import restore

pytestmark = pytest.mark.tf1

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "checkpoint_networks.json"
NETWORK = json.loads(GOLDEN.read_text())["mobilenet_v2_dm025_os16"]["shapes"] | {
    "MobilenetV2/Conv/BatchNorm/moving_mean": [8],
    "MobilenetV2/Conv/BatchNorm/moving_variance": [8],
}
TRAINABLE = [name for name in NETWORK if "moving_" not in name]
SHAPES = {f"shape:{name}": shape for name, shape in NETWORK.items()}


def checkpoint_with_slots(step: int, leaves: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Every variable of the model, its optimizer's slots and the step, with values from their names."""
    slots = {f"{name}/{leaf}": NETWORK[name] for name in TRAINABLE for leaf in leaves}
    tensors = {name: golden_recipe.weight(name, tuple(shape)) for name, shape in (NETWORK | slots).items()}
    return tensors | {"global_step": np.int64(step)}


def restored_by_tf1(tf1, folder, optimizer: str) -> dict[str, np.ndarray]:
    """Names and values of all variables as TensorFlow 1.15 sees them, and path and listing of the state file."""
    return tf1.run("under_tf1_restore", folder=folder, optimizer=optimizer, **SHAPES)


@pytest.mark.parametrize(
    ("optimizer", "leaves", "extra"),
    [
        ("momentum", ("Momentum",), {}),
        ("adam", ("Adam", "Adam_1"), {"beta1_power": np.float32(0.81), "beta2_power": np.float32(0.998)}),
    ],
)
def test_tensorflow_1_restores_ours_by_name(tf1, tmp_path, optimizer, leaves, extra):
    tensors = checkpoint_with_slots(1234567890123, leaves) | extra
    manager.save_step(tmp_path, 7, {"unrelated": np.zeros(1, np.float32)})
    manager.save_step(tmp_path, 1234567890123, tensors)
    seen = restored_by_tf1(tf1, tmp_path, optimizer)
    assert str(seen.pop("path")) == str(tmp_path / "model.ckpt-1234567890123")
    assert list(seen.pop("listed")) == manager.all_checkpoints(tmp_path)
    assert {name.removeprefix("value:") for name in seen} == set(tensors)
    for name, value in seen.items():
        ours = tensors[name.removeprefix("value:")]
        assert value.dtype == np.asarray(ours).dtype, name
        np.testing.assert_array_equal(value, ours, err_msg=name)


def test_tensorflow_1_finds_ours_under_an_odd_name(tf1, tmp_path):
    folder = tmp_path / "modèle é"
    saved = manager.save_step(folder, 3, checkpoint_with_slots(3, ("Momentum",)))
    assert str(restored_by_tf1(tf1, folder, "momentum")["path"]) == saved


@pytest.fixture(scope="module")
def training(tf1, tmp_path_factory):
    """One training of three steps for all tests."""
    folder = tmp_path_factory.mktemp("training")
    return folder, tf1.run("under_tf1_train", prefix=folder / "model.ckpt", steps=3, optimizer="momentum", **SHAPES)


@pytest.fixture
def trained(training, tmp_path):
    """A folder in which TensorFlow 1.15 trained three steps with momentum, and the values at the end."""
    folder, values = training
    shutil.copytree(folder, tmp_path / "logs")
    return tmp_path / "logs", values


def test_we_read_what_tensorflow_1_wrote(trained):
    folder, values = trained
    assert manager.latest(folder, checksums=True).prefix == str(folder / "model.ckpt-3")
    back = checkpoint.open(folder).arrays()
    assert set(back) == set(values) == set(checkpoint_with_slots(0, ("Momentum",)))
    for name, value in values.items():
        assert back[name].dtype == value.dtype
        np.testing.assert_array_equal(back[name], value, err_msg=name)
    assert back["global_step"].dtype == np.int64 and checkpoint.open(folder).step == 3
    assert np.abs(back[f"{TRAINABLE[0]}/Momentum"]).max() > 0, "the slots hold what three steps left there"


def test_we_restore_variables_slots_and_step_from_tensorflow_1(trained):
    import keras

    folder, values = trained
    model = {name: keras.Variable(np.zeros_like(value), dtype=str(value.dtype)) for name, value in values.items()}
    report = restore(model, folder, require_all=True)
    assert set(report.restored) == set(values)
    for name, variable in model.items():
        np.testing.assert_array_equal(np.asarray(variable), values[name], err_msg=name)


def test_we_go_on_in_a_folder_of_tensorflow_1_and_it_goes_on_in_ours(tf1, trained):
    folder, values = trained
    assert [pathlib.Path(p).name for p in manager.read_state(str(folder)).listed] == ["model.ckpt-2", "model.ckpt-3"]
    for step in (4, 5):
        manager.save_step(folder, step, {**values, "global_step": step}, keep=2)
    left = {path.name.split(".data")[0].removesuffix(".index") for path in folder.iterdir()} - {"checkpoint"}
    assert left == {"model.ckpt-4", "model.ckpt-5"}, "what TensorFlow 1 wrote, .meta files too, went in its turn"
    seen = restored_by_tf1(tf1, folder, "momentum")
    assert str(seen["path"]) == str(folder / "model.ckpt-5") and int(seen["value:global_step"]) == 5


def test_moved_folder_of_tensorflow_1(trained, tmp_path_factory):
    folder, _ = trained
    absolute = (folder / "checkpoint").read_text().replace('"model', f'"{folder}/model')
    (folder / "checkpoint").write_text(absolute)
    moved = tmp_path_factory.mktemp("elsewhere") / "logs"
    folder.rename(moved)
    assert manager.latest(moved).prefix == str(moved / "model.ckpt-3")
