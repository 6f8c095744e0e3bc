"""The meeting of the processes of a training, before TensorFlow connects them.

TensorFlow waits for other processes in native code, which signals and timeouts cannot interrupt, and accepts any
program that responds at an address. So all processes meet here first: the chief listens at its own port, and each other
process sends it its number, the addresses it knows, and its facts. When all have come, or the time is over, the chief
sends the same result to all; then TensorFlow finds all of them waiting. The connections stay open, so that the end of a
process is noticed at once: `companions.py` watches them. Called by `connection.join`. This module does not import
TensorFlow, and it transfers no data of the training itself.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from deeplab.utils.errors import UserError

_LONGEST = 1 << 20  # bytes of a message
_POLL = 0.2  # seconds
_PATIENCE = 5  # seconds that the others wait longer than the chief, whose result says who is missing


def meet(addresses: Sequence[str], index: int, facts: Mapping[str, str], wait: float) -> dict[int, socket.socket]:
    """Waits until all processes of a training have come, and compares their facts.

    Args:
      addresses: HOST:PORT of each process; the first is the chief's.
      index: number of this process.
      facts: what must be equal in all processes, by name.
      wait: seconds after which missing processes are an error.

    Returns:
      Open connections by the number of the process at the other end: in the chief, to all others; in each other
      process, to the chief.

    Raises:
      UserError: some did not come (`worker-missing`), or their facts differ (`workers-differ`), in all processes that
        are there; this process's port is in use (`port-in-use`).
    """
    require_free_port(addresses, index)
    if index == 0:
        return _host(addresses, dict(facts), wait)
    return {0: _attend(addresses, index, dict(facts), wait)}


def require_free_port(addresses: Sequence[str], index: int) -> None:
    """Refuses a port at which another program listens (`port-in-use`)."""
    port = addresses[index].rpartition(":")[2]
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", int(port)))
        except (OSError, ValueError, OverflowError) as problem:
            raise _in_use(addresses, index, problem) from None


def require_equal(of_all: Sequence[Mapping[str, str]]) -> None:
    """Refuses processes whose facts differ from the chief's.

    Args:
      of_all: the facts of each process by name, the chief's first.

    Raises:
      UserError: the facts of one differ (`workers-differ`).
    """
    for number, theirs in enumerate(of_all):
        for name in sorted({*of_all[0], *theirs}):
            if theirs.get(name) != of_all[0].get(name):
                rule = f"{name} is {theirs.get(name)} in worker {number}, but {of_all[0].get(name)} in worker 0"
                hint = "start all workers with the same command, with the same version and the same records"
                raise UserError("workers-differ", rule, hint, where=f"worker {number}", value=name)


def missing(addresses: Sequence[str], index: int, wait: float, absent: Mapping[int, str]) -> UserError:
    """The error of process `index` about missing ones: `absent` has a reason for each, such as "does not answer"."""
    others = ", ".join(address for number, address in enumerate(addresses) if number != index)
    who = [f"worker {number} ({addresses[number]}) {reason}" for number, reason in sorted(absent.items())]
    rule = f"after {wait:.0f} seconds {'; '.join(who) or f'not all other workers ({others}) are there'}"
    hint = "start all workers at the same time, check names and firewalls, or raise `worker_wait_secs`"
    value = tuple(f"{number} ({addresses[number]})" for number in sorted(absent))
    return UserError("worker-missing", rule, hint, where=f"worker {index}", value=value)


def _in_use(addresses: Sequence[str], index: int, problem: Exception) -> UserError:
    reason = getattr(problem, "strerror", None) or problem
    rule = f"worker {index} cannot listen at its port: {reason}"
    hint = "end the process that uses it, such as an earlier training, or choose another port"
    return UserError("port-in-use", rule, hint, where=addresses[index])


# ---- the chief -----------------------------------------------------------------------------------------


class _Guest(socketserver.BaseRequestHandler):
    """One connection: receives a process's introduction, and sends it the chief's result once there is one."""

    server: _Table

    def handle(self) -> None:
        self.thread = threading.current_thread()
        connection = self.request
        try:
            index, addresses, facts = _introduction(_read(connection, time.monotonic() + 2 * _PATIENCE))
        except (OSError, ValueError, TypeError, KeyError):
            return  # no process of a training
        if addresses != self.server.known:
            _send(connection, {"error": ["other-training", f"a training with the workers {self.server.known}"]})
            return
        with self.server.changed:
            self.server.present[index] = (self, facts)
            self.server.changed.notify_all()
        connection.settimeout(_POLL)
        while not self.server.decided.is_set():
            with contextlib.suppress(TimeoutError, BlockingIOError):
                if not _received(connection, 1):  # the process has ended
                    with self.server.changed:
                        if self.server.present.get(index, (None,))[0] is self:
                            del self.server.present[index]
                    return
        _send(connection, self.server.answer)
        if not self.server.answer:
            self.server.kept[index] = connection


class _Table(socketserver.ThreadingTCPServer):
    """The server with which the chief waits for the others.

    Attributes:
      known: addresses of all processes.
      present: the connection and the facts of each process that has come, by its number.
      answer: the result for all of them, once `decided`: empty, or with the error.
      kept: connections that stay open after the meeting, by the number of the process.
    """

    allow_reuse_address = True
    daemon_threads = True  # a stranger's connection must not keep the program from ending
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, addresses: Sequence[str]):
        if socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        self.known = list(addresses)
        self.present: dict[int, tuple[_Guest, dict[str, str]]] = {}
        self.kept: dict[int, socket.socket] = {}
        self.changed, self.decided, self.answer = threading.Condition(), threading.Event(), dict[str, Any]()
        super().__init__(("", int(addresses[0].rpartition(":")[2])), _Guest)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def shutdown_request(self, request: Any) -> None:
        if request not in self.kept.values():
            super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        """Prints nothing about connections that break."""


def _host(addresses: Sequence[str], facts: dict[str, str], wait: float) -> dict[int, socket.socket]:
    """The meeting in the chief."""
    try:
        table = _Table(addresses)
    except OSError as problem:
        raise _in_use(addresses, 0, problem) from None
    serving = threading.Thread(target=table.serve_forever, args=(_POLL,), daemon=True)
    serving.start()
    try:
        with table.changed:
            end = time.monotonic() + wait
            while len(table.present) < len(addresses) - 1 and time.monotonic() < end:
                table.changed.wait(_POLL)
            of_all = [facts, *(table.present[number][1] for number in sorted(table.present))]
            absent = {number: "has not come" for number in range(1, len(addresses)) if number not in table.present}
        try:
            if absent:
                raise missing(addresses, 0, wait, absent)
            require_equal(of_all)
        except UserError as error:
            table.answer = {"error": [error.code, error.rule, error.hint, error.where, error.value]}
            raise
        finally:
            table.decided.set()
    finally:
        table.shutdown()
        table.decided.set()  # also after a signal: the others see their connections end without a result, and try again
        for guest, _ in list(table.present.values()):
            guest.thread.join(2 * _PATIENCE)  # until it has sent the result: this process may be about to end
        table.server_close()
    return dict(table.kept)


# ---- the others ----------------------------------------------------------------------------------------


def _attend(addresses: Sequence[str], index: int, facts: dict[str, str], wait: float) -> socket.socket:
    """The meeting in a process other than the chief."""
    host, _, port = addresses[0].rpartition(":")
    end, reason = time.monotonic() + wait, "does not answer"
    words = {"deeplab": index, "addresses": list(addresses), "facts": facts}
    while time.monotonic() < end:
        try:
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(socket.create_connection((host.strip("[]"), int(port)), timeout=2))
                reason = "listens, but does not answer"
                _send(connection, words)
                answer = _read(connection, end + _PATIENCE)
                if answer == {}:
                    stack.pop_all()  # stays open
                    return connection
            code, rule, *more = answer["error"]
            if code != "other-training":
                hint, where, value = more
                where = f"worker {index}" if code == "worker-missing" else where
                value = tuple(value) if isinstance(value, list) else value
                raise UserError(code, rule, hint, where=where, value=value)
            reason = f"belongs to another training: {rule}"
        except OSError as problem:
            if isinstance(problem, socket.gaierror):
                reason = f"cannot be found: {problem.strerror}"
        except (ValueError, TypeError, KeyError):
            reason = "listens, but is no worker of a training"
        time.sleep(_POLL)
    raise missing(addresses, index, wait, {0: reason})


# ---- messages: one line of JSON each -------------------------------------------------------------------


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        connection.settimeout(_PATIENCE)
        connection.sendall(json.dumps(message).encode() + b"\n")


def _received(connection: socket.socket, number: int) -> bytes:
    try:
        return connection.recv(number)
    except ConnectionError:
        return b""


def _read(connection: socket.socket, end: float) -> dict[str, Any]:
    """The next message; raises OSError if none comes before `end`, ValueError if it is not one."""
    content = b""
    while not content.endswith(b"\n"):
        connection.settimeout(max(0.01, end - time.monotonic()))
        more = _received(connection, 65536)
        if not more:
            raise ConnectionResetError("no answer")
        content += more
        if len(content) > _LONGEST:
            raise ValueError("too long")
    message = json.loads(content)
    if not isinstance(message, dict):
        raise ValueError("no message")
    return message


def _introduction(message: dict[str, Any]) -> tuple[int, list[str], dict[str, str]]:
    """Number, addresses and facts of another process; raises ValueError if the message is not an introduction."""
    index, addresses = int(message["deeplab"]), [str(address) for address in message["addresses"]]
    if not 0 < index < len(addresses):
        raise ValueError("no such process")
    return index, addresses, {str(name): str(fact) for name, fact in message["facts"].items()}
