"""TensorBoard summaries."""

import numpy as np
import pytest
import tensorflow as tf
from support.callback_battery import BATCH, CallbackBattery, make_state, run
from support.errors import raises

from deeplab.training.callbacks import summaries
from deeplab.training.callbacks.summaries import Summaries


class TestSummaries(CallbackBattery):
    name = "summaries"
    config = {"save_summaries_images": True}  # noqa: RUF012


def tags_by_step(folder):
    found: dict[int, set] = {}
    for path in folder.glob("events.out*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            found.setdefault(event.step, set()).update(value.tag for value in event.summary.value)
    return {step: tags for step, tags in found.items() if tags}


def test_scalars_come_with_the_progress_lines_and_the_rest_at_the_end(tmp_path):
    run(Summaries(), make_state(tmp_path, log_steps=4, save_summaries_images=True))
    scalars = {*summaries.TAGS.values(), "global_step/sec"}
    rest = {"logits/kernel_1", "logits/bias_1", "samples/image", "samples/label", "samples/semantic"}
    assert tags_by_step(tmp_path) == {1: scalars, 4: scalars, 6: scalars | rest}


def test_samples_are_the_first_devices_images(tmp_path):
    state = make_state(tmp_path)

    class Parts:
        def __init__(self, value):
            self.values = (value[:1], value[1:])

    state.batch = {name: Parts(value) for name, value in BATCH.items()}
    images = summaries.samples(state, np.arange(768, dtype=np.uint8).reshape(256, 3))
    assert {name: image.shape for name, image in images.items()} == dict.fromkeys(
        ("samples/image", "samples/label", "samples/semantic"), (1, 4, 4, 3)
    )
    np.testing.assert_array_equal(images["samples/image"], tf.cast(BATCH["image"][:1], tf.uint8))


def test_a_full_disk_is_an_error_of_the_folder(tmp_path):
    with raises("unwritable-file", where=tmp_path), summaries.writing(make_state(tmp_path)):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")


@pytest.mark.parametrize("name", ["total_loss_1", "Losses/clone_loss", "Losses/regularization_loss", "learning_rate"])
def test_tags_are_the_references(name):
    assert name in summaries.TAGS.values()


def test_no_files_are_written_where_tensorboard_is_not_wanted(tmp_path):
    state = make_state(tmp_path, report_to=("none",), save_summaries_images=True)
    callback = Summaries()
    run(callback, state)
    callback.on_evaluation(state, {"mean_iou": 0.5})
    assert list(tmp_path.iterdir()) == []
