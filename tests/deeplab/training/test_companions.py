"""The watch over other processes of a training, here over connections within this process."""

import contextlib
import errno
import socket
import threading
import time
from typing import ClassVar

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


class Moody(socket.socket):
    """A socket that is said to have something to read when it has nothing."""

    errors: ClassVar[list] = []

    def recv(self, *given):
        if self.errors:
            raise self.errors.pop()
        return super().recv(*given)


@pytest.mark.parametrize("error", [BlockingIOError(errno.EAGAIN, "again"), InterruptedError(errno.EINTR, "signal")])
@pytest.mark.parametrize("ends", [False, True])
def test_a_socket_without_anything_to_read_is_no_loss(pair, monkeypatch, error, ends):
    monkeypatch.setattr(Moody, "errors", [error])
    losses = Losses()
    with Moody(fileno=pair[0].detach()) as near:
        watch = Watch({1: near}, losses, patience=0)
        pair[1].sendall(b"b")  # the first part of a goodbye
        time.sleep(0.2)
        assert Moody.errors == [] and not losses.any.is_set()
        pair[1].sendall(b"" if ends else b"ye\n")
        pair[1].close()
        assert losses.any.wait(60 if ends else 1.0) == ends
        watch.end(goodbye=False)


def test_a_machine_that_no_longer_answers_is_lost(pair, monkeypatch):
    monkeypatch.setattr(Moody, "errors", [TimeoutError(errno.ETIMEDOUT, "keep-alive")])
    losses = Losses()
    with Moody(fileno=pair[0].detach()) as near:
        watch = Watch({2: near}, losses, patience=0)
        pair[1].sendall(b"anything that wakes it")
        assert losses.any.wait(60) and losses.numbers == [2]
        watch.end(goodbye=False)


def test_what_is_left_of_the_meeting_is_no_goodbye(pair):
    losses = Losses()
    watch = Watch({1: pair[0]}, losses, patience=0)
    pair[1].sendall(b'{"question": "are you there"}\n')
    assert not losses.any.wait(1.0)
    pair[1].close()
    assert losses.any.wait(60)
    watch.end(goodbye=False)


def test_a_watch_that_ends_in_time_reports_nothing(pair):
    losses = Losses()
    watch = Watch({1: pair[0]}, losses, patience=1.0)
    pair[1].close()
    time.sleep(0.6)
    watch.end(goodbye=False)
    assert not losses.any.wait(1)
