"""Which checkpoints are taken, and what is said while none comes."""

import pytest
import tensorflow as tf
from support.errors import raises

from deeplab.checkpoint import watch
from deeplab.checkpoint.manager import save_step


class Clock:
    """Time that passes only while someone sleeps; events happen at their seconds."""

    def __init__(self, events=()):
        self.now = 0.0
        self.events = sorted(events, key=lambda event: event[0])

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        if self.now > 10_000:
            raise KeyboardInterrupt
        while self.events and self.events[0][0] <= self.now:
            self.events.pop(0)[1]()


def save(folder, step):
    return lambda: save_step(folder, step, {"weights": [float(step)]})


def taken(folder, clock, **options):
    """(second, step) of every checkpoint until the wait ends by itself or is broken off."""
    found = []
    try:
        for opened in watch.checkpoints(str(folder), clock=clock, sleep=clock.sleep, **options):
            found.append((clock.now, opened.step))
    except KeyboardInterrupt:
        found.append("interrupted")
    return found


def test_one_is_taken_at_once_and_the_wait_ends(tmp_path):
    save(tmp_path, 5)()
    assert taken(tmp_path, Clock()) == [(0.0, 5)]


def test_a_checkpoint_of_the_older_format_is_taken(tmp_path):
    path = str(tmp_path / "model.ckpt-7")
    tf.raw_ops.Save(filename=path, tensor_names=["weights"], data=[tf.ones([2])])
    assert taken(tmp_path, Clock(), max_number=2)[0] == (0.0, 7)


def test_none_there_is_an_error(tmp_path):
    with raises("checkpoint-not-found", where=tmp_path):
        taken(tmp_path, Clock())


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_a_prefix_or_a_file_of_it(tmp_path, suffix):
    prefix = save_step(tmp_path, 5, {"weights": [1.0]})
    assert [opened.prefix for opened in watch.checkpoints(prefix + suffix)] == [prefix]


def test_one_checkpoint_is_not_waited_for(tmp_path, capsys):
    prefix = save_step(tmp_path, 5, {"weights": [1.0]})
    assert [opened.prefix for opened in watch.checkpoints(prefix, max_number=0)] == [prefix]
    assert "taken once" in capsys.readouterr().err


def test_new_ones_come_once_each_and_not_before_the_interval(tmp_path):
    save(tmp_path, 1)()
    clock = Clock([(10, save(tmp_path, 2)), (20, save(tmp_path, 3)), (500, save(tmp_path, 4))])
    # 2 is passed over: when its turn comes, 3 is there.
    assert taken(tmp_path, clock, max_number=0, interval_secs=100) == [(0, 1), (100, 3), (500, 4), "interrupted"]


def test_ends_after_so_many(tmp_path):
    clock = Clock([(50, save(tmp_path, 1)), (200, save(tmp_path, 2)), (300, save(tmp_path, 3))])
    assert taken(tmp_path, clock, max_number=2, interval_secs=1) == [(50, 1), (200, 2)]


def test_waits_for_a_folder_that_does_not_exist_yet(tmp_path, capsys):
    folder = tmp_path / "later"
    assert taken(folder, Clock([(130, save(folder, 1))]), max_number=2, interval_secs=1) == [(130, 1), "interrupted"]
    words = capsys.readouterr().err
    assert "later does not exist yet" in words and "after model.ckpt-1" in words


def test_says_every_minute_what_lies_there_instead(tmp_path, capsys):
    (tmp_path / "events.out").touch()
    taken(tmp_path, Clock([(150, save(tmp_path, 1))]), max_number=2)
    lines = [line for line in capsys.readouterr().err.splitlines() if "first checkpoint" in line]
    assert len(lines) == 2 and "it holds events.out" in lines[0]


def test_a_finished_training_ends_the_wait(tmp_path, capsys):
    (tmp_path / "config.yml").write_text("train: {training_number_of_steps: 2}\n")
    clock = Clock([(30, save(tmp_path, 2))])
    save(tmp_path, 1)()
    assert taken(tmp_path, clock, max_number=0, interval_secs=1) == [(0, 1), (30, 2)]
    assert "nothing more to wait for" in capsys.readouterr().err


def test_the_same_name_written_anew_counts_as_new(tmp_path):
    save(tmp_path, 1)()
    assert taken(tmp_path, Clock([(40, save(tmp_path, 1))]), max_number=0, interval_secs=1) == [
        (0, 1),
        (40, 1),
        "interrupted",
    ]
