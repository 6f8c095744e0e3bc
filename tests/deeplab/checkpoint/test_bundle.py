"""Reading one checkpoint: names and arrays, its step and config, and damaged files."""

import pathlib

import numpy as np
import pytest
from support.errors import raises

from deeplab import checkpoint
from deeplab.checkpoint import manager, writer

DATA = ".data-00000-of-00001"


def test_arrays_come_back_bit_by_bit(prefix, tensors):
    back = checkpoint.open(prefix).arrays()
    assert set(back) == set(tensors)
    for name in set(tensors) - {"global_step"}:
        assert back[name].dtype == np.float32
        np.testing.assert_array_equal(back[name], tensors[name])


def test_global_step_is_an_int64_scalar(prefix):
    step = checkpoint.open(prefix).array("global_step")
    assert (step.dtype, step.shape, int(step)) == (np.int64, (), 300)


def test_shapes_are_known_without_reading_values(prefix):
    opened = checkpoint.open(prefix)
    assert opened.shapes["MobilenetV2/Conv/weights"] == (3, 3, 3, 8)
    assert opened.dtypes["global_step"] == np.int64
    assert "logits/semantic/biases" in opened and "nothing" not in opened
    with pytest.raises(KeyError):
        opened.array("nothing")


def test_step_as_stored_then_as_named_then_zero(tmp_path, prefix):
    assert checkpoint.open(prefix).step == 300
    assert checkpoint.open({"global_step": np.int64(12)}).step == 12
    named = writer.write(str(tmp_path / "model.ckpt-77"), {"a": np.ones(1, np.float32)})
    assert checkpoint.open(named).step == 77
    assert checkpoint.open({"a": np.ones(1)}).step == 0


def test_config_beside_it(tmp_path, tensors):
    saved = manager.save_step(tmp_path, 4, tensors)
    assert checkpoint.open(saved).config == {}
    (tmp_path / "config.yml").write_text("model: {output_stride: 8}\ndataset_facts: {num_classes: 3}\n")
    opened = checkpoint.open(saved)
    assert opened.folder == str(tmp_path) and opened.config == {"output_stride": 8, "num_classes": 3}


def test_an_opened_checkpoint_is_handed_on_and_not_opened_again(prefix, tensors):
    opened = checkpoint.open(prefix)
    assert checkpoint.open(opened) is opened
    arrays = checkpoint.open(tensors)
    assert checkpoint.open(arrays) is arrays


AVERAGES = {
    "Net/a/weights/ExponentialMovingAverage": np.full(2, 3.0, np.float32),  # alone
    "Net/b/weights": np.full(2, 5.0, np.float32),
    "Net/b/weights/ExponentialMovingAverage": np.full(2, 7.0, np.float32),
    "Net/a/BatchNorm/moving_mean": np.full(2, 9.0, np.float32),
}


@pytest.mark.parametrize("on_disk", [True, False])
def test_an_average_without_its_weight_is_the_weight(tmp_path, on_disk):
    opened = checkpoint.open(writer.write(str(tmp_path / "model.ckpt-3"), AVERAGES) if on_disk else AVERAGES)
    found = opened.arrays()
    assert list(opened.shapes) == sorted(found) if on_disk else set(opened.shapes) == set(found)
    assert {name: float(value[0]) for name, value in found.items()} == {
        "Net/a/weights": 3,
        "Net/b/weights": 5,
        "Net/b/weights/ExponentialMovingAverage": 7,
        "Net/a/BatchNorm/moving_mean": 9,
    }
    assert "Net/a/weights" in opened and "Net/a/weights/ExponentialMovingAverage" not in opened
    assert opened.averages_alone == {"Net/a/weights": "Net/a/weights/ExponentialMovingAverage"}
    assert opened.remark.endswith("holds the running averages of 1 weight alone, which are taken as the weights")
    plain = checkpoint.open({"Net/a/weights": np.ones(2)})
    assert plain.averages_alone == {} and plain.remark == ""


# ---- damaged files -----------------------------------------------------------------------------------


def test_truncated_data_are_named(prefix, damage):
    damage(prefix + DATA, size=1000)
    with raises("damaged-checkpoint", where=f"{prefix}{DATA}") as caught:
        checkpoint.open(prefix)
    assert caught.value.value == 1000 and "is truncated: 1000 of 1748 bytes" in caught.value.rule


def test_truncated_index_is_named(prefix, damage):
    damage(prefix + ".index", size=60)
    with raises("damaged-checkpoint", where=f"{prefix}.index") as caught:
        checkpoint.open(prefix)
    assert "60 bytes" in caught.value.rule


def test_flipped_bit_in_the_data_names_file_and_variable(prefix, damage):
    damage(prefix + DATA, position=5)
    with raises("damaged-checkpoint", where=f"{prefix}{DATA}") as caught:
        checkpoint.open(prefix).arrays()
    assert caught.value.value == "MobilenetV2/Conv/weights"


def test_flipped_bit_in_the_index(prefix, damage):
    damage(prefix + ".index", position=20)
    with raises("damaged-checkpoint", where=f"{prefix}.index"):
        checkpoint.open(prefix)


def test_one_of_two_files_missing(prefix):
    pathlib.Path(prefix + ".index").rename(prefix + ".away")
    with raises("incomplete-checkpoint", where=f"{prefix}.index") as caught:
        checkpoint.open(prefix)
    assert f"model.ckpt-300{DATA} is there" in caught.value.rule
    pathlib.Path(prefix + ".away").rename(prefix + ".index")
    pathlib.Path(prefix + DATA).unlink()
    with raises("incomplete-checkpoint", where=f"{prefix}{DATA}") as caught:
        checkpoint.open(prefix)
    assert "model.ckpt-300.index is there" in caught.value.rule
