"""The watch over other processes of a training, here over connections within this process."""

import contextlib
import socket
import threading
import time

import pytest

from deeplab.training.companions import Watch


@pytest.fixture
def pair():
    """Both ends of a TCP connection."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        near = stack.enter_context(socket.create_connection(server.getsockname()))
        far, _ = server.accept()
        stack.enter_context(far)
        yield near, far


class Losses:
    """What a watch has reported."""

    def __init__(self):
        self.numbers, self.any = [], threading.Event()

    def __call__(self, number):
        self.numbers.append(number)
        self.any.set()


def test_the_end_of_another_process_is_reported_after_the_patience(pair):
    losses, started = Losses(), time.monotonic()
    watch = Watch({3: pair[0]}, losses, patience=0.5)
    pair[1].close()
    assert losses.any.wait(60) and losses.numbers == [3]
    assert time.monotonic() - started >= 0.5
    watch.end(goodbye=False)


def test_a_connection_that_breaks_is_an_end(pair):
    losses = Losses()
    watch = Watch({1: pair[0]}, losses, patience=0)
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset in place of an end
    pair[1].close()
    assert losses.any.wait(60)
    watch.end(goodbye=False)


def test_after_a_goodbye_nothing_is_reported(pair):
    losses, others = Losses(), Losses()
    near, far = Watch({1: pair[0]}, losses, patience=0), Watch({0: pair[1]}, others, patience=0)
    near.end(goodbye=True)
    assert not others.any.wait(1.5)
    far.end(goodbye=True)
    assert losses.numbers == others.numbers == []


def test_without_a_goodbye_the_other_one_reports_it(pair):
    others = Losses()
    near, far = Watch({1: pair[0]}, Losses(), patience=0), Watch({0: pair[1]}, others, patience=0)
    near.end(goodbye=False)
    assert others.any.wait(60) and others.numbers == [0]
    far.end(goodbye=False)


def test_a_watch_that_ends_in_time_reports_nothing(pair):
    losses = Losses()
    watch = Watch({1: pair[0]}, losses, patience=1.0)
    pair[1].close()
    time.sleep(0.6)
    watch.end(goodbye=False)
    assert not losses.any.wait(1)
