"""What stops a training, and what it leaves behind."""

import os
import signal
import threading

import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises

from deeplab.data import pipeline
from deeplab.data.decoding import as_report
from deeplab.training import guards
from deeplab.utils.errors import UserError


def batch(number=0):
    return {
        "image": tf.fill([2, 2, 2, 3], float(number)),
        "label": tf.constant([[[0, 1], [1, 255]], [[1, 1], [1, 1]]]),
        "image_name": tf.constant([b"seven", b"eight"]),
    }


def results(loss, labeled=1.0):
    values = {"total_loss": loss, "task_loss": loss, "regularization_loss": 0.0, "learning_rate": 0.5}
    return {name: tf.constant(value) for name, value in {**values, "labeled_fraction": labeled}.items()}


class TestSteps:
    def refuse(self, message):
        def step(*_):
            raise tf.errors.InvalidArgumentError(None, None, message)

        return step

    def test_labels_that_are_no_classes_are_saved_with_their_images(self, tmp_path):
        report = as_report(UserError("label-out-of-range", "label values must be 0..2", "correct them"))
        with raises("label-out-of-range", where="step 5") as caught:
            guards.run_step(self.refuse(report), batch(), 4, str(tmp_path))
        assert "label values must be 0..2; images: seven, eight" in caught.value.rule
        assert caught.value.value == str(tmp_path / "bad_batch_step_5.npz")
        with np.load(caught.value.value) as saved:
            np.testing.assert_array_equal(saved["label"], batch()["label"])

    def test_a_worker_that_is_not_the_chief_saves_nothing(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with raises("unusable-batch", where="step 1") as caught:
            guards.run_step(self.refuse("a strange shape"), batch(), 0, "")
        assert caught.value.rule.endswith("images: seven, eight") and not list(tmp_path.iterdir())

    def test_other_refusals_say_what_tensorflow_says(self, tmp_path):
        with raises("unusable-batch", where="step 1") as caught:
            guards.run_step(self.refuse("a strange shape\nwith details"), batch(), 0, str(tmp_path))
        assert caught.value.rule.startswith("a strange shape; images")

    def test_too_little_memory_says_what_to_lower(self, tmp_path):
        def exhausted(*_):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")

        with raises("out-of-memory", "train_batch_size") as caught:
            guards.run_step(exhausted, batch(), 0, str(tmp_path))
        assert "`train_crop_size`" in caught.value.hint and "fine_tune_batch_norm" not in caught.value.hint

    def test_errors_of_records_are_explained(self, disc_records):
        shards = [str(disc_records / "train-00000-of-00001.tfrecord")]
        batches = pipeline.train_batches(
            shards,
            crop_size=(33, 33),
            batch_size=2,
            padding_color=(127.5,) * 3,
            ignore_label=255,
            num_classes=2,
            seed=0,
        )
        iterator = iter(batches)
        with raises("label-out-of-range", where="pair_"):
            for _ in range(6):
                guards.next_batch(iterator, shards)


class TestUncheckedResults:
    def test_nothing_is_fetched_before_it_is_needed(self, tmp_path, monkeypatch):
        stacked = []
        stack = tf.stack
        monkeypatch.setattr(guards.tf, "stack", lambda values: stacked.append(len(values)) or stack(values))
        unchecked = guards.UncheckedResults(batch, str(tmp_path))
        for step in range(1, 9):
            unchecked.add(step, results(float(step)))
        assert stacked == []
        assert unchecked.latest()["total_loss"] == 8.0 and stacked == [8 * 5]
        assert unchecked.latest()["total_loss"] == 8.0 and stacked == [8 * 5]

    @pytest.mark.parametrize("loss", [np.nan, np.inf])
    def test_the_first_loss_that_is_not_finite_is_found_later_and_its_batch_made_again(self, tmp_path, loss):
        unchecked = guards.UncheckedResults(batch, str(tmp_path))
        for step, value in enumerate((0.5, 0.25, loss, loss), start=1):
            unchecked.add(step, results(value))
        with raises("loss-not-finite", where="step 3") as caught:
            unchecked.latest()
        assert "images: seven, eight" in caught.value.rule and "0: 1, 1: 6, 255: 1" in caught.value.rule
        assert "`base_learning_rate`" in caught.value.hint
        with np.load(tmp_path / "bad_batch_step_3.npz") as saved:
            assert (saved["image"] == 2.0).all()  # the third step is number 2, counted from 0

    def test_a_batch_without_labels_is_said(self, tmp_path, capsys):
        unchecked = guards.UncheckedResults(batch, str(tmp_path))
        unchecked.add(1, results(0.0, labeled=0.0))
        unchecked.add(2, results(0.5))
        unchecked.latest()
        assert "step 1: no pixel of the batch is labeled" in capsys.readouterr().err


class TestSavedBatches:
    def test_parts_of_several_devices_are_joined(self, tmp_path):
        class Parts:
            values = (tf.zeros([1, 2]), tf.ones([1, 2]))

        with np.load(guards.save_batch({"image": Parts()}, tmp_path / "batch.npz")) as saved:
            np.testing.assert_array_equal(saved["image"], [[0, 0], [1, 1]])

    def test_they_are_on_the_disk_before_they_have_their_name(self, tmp_path, monkeypatch):
        done = []
        for name in ("fsync", "replace"):
            original = getattr(os, name)
            monkeypatch.setattr(
                os, name, lambda *args, name=name, original=original: (done.append(name), original(*args))[1]
            )
        guards.save_batch(batch(), tmp_path / "batch.npz")
        assert done.index("fsync") < done.index("replace")
        assert [path.name for path in tmp_path.iterdir()] == ["batch.npz"]


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_first_is_noted_the_second_stops_at_once(self, number):
        before = signal.getsignal(number)
        with pytest.raises(KeyboardInterrupt), guards.deferred_signals() as stop:
            assert not stop.received
            os.kill(os.getpid(), number)
            assert stop.received
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is before

    def test_other_threads_are_left_alone(self):
        found = []

        def work():
            with guards.deferred_signals() as stop:
                found.append(stop.received)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == [False]
