"""The meeting of the processes of a training, before TensorFlow connects them.

TensorFlow waits for other processes in native code, which signals and timeouts cannot interrupt, and accepts any
program that responds at an address. So all processes meet here first: the chief listens at its own port, and each other
process sends it its number, the addresses it knows, and its facts, and responds when the chief asks whether it is still
there. When all have come, or the time is over, the chief sends the same result to all; then TensorFlow finds all of
them waiting. The connections stay open, so that the end of a process is noticed at once: `companions.py` watches them.
Called by `connection.join`. This module does not import TensorFlow, and it transfers no data of the training itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import socketserver
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deeplab.utils.errors import UserError

_LONGEST = 1 << 20  # bytes of a message
_POLL = 0.2  # seconds
_PATIENCE = 5  # seconds that the others wait longer than the chief, whose result says who is missing
_BETWEEN_QUESTIONS = 1.0  # seconds after which the chief asks a process again whether it is still there
_FRESH = 3.0  # seconds for which a process counts as present after it was heard
_SILENCE = 10.0  # seconds without a response after which its connection is closed
_QUESTION = {"question": "are you there"}


@dataclass(frozen=True)
class Participant:
    """A process at the meeting.

    Attributes:
      index: its number.
      addresses: HOST:PORT of each process that it knows of.
      facts: what must be equal in all processes, by name.
      token: differs between any two processes.
      name: host and number of the process, for messages.
    """

    index: int
    addresses: tuple[str, ...]
    facts: Mapping[str, str]
    token: str
    name: str

    @classmethod
    def here(cls, addresses: Sequence[str], index: int, facts: Mapping[str, str]) -> Participant:
        """This process."""
        name = f"{socket.gethostname()}, process {os.getpid()}"
        return cls(index, tuple(addresses), dict(facts), uuid.uuid4().hex, name)

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Participant:
        """The process that sent a message; raises ValueError, TypeError or KeyError if it is no introduction."""
        index, addresses = int(message["deeplab"]), tuple(str(address) for address in message["addresses"])
        if not 0 <= index < len(addresses):
            raise ValueError("no such process")
        facts = {str(name): str(fact) for name, fact in message["facts"].items()}
        name = re.sub(r"[^\w.:,\- ]", "?", str(message["name"]))[:300]
        return cls(index, addresses, facts, str(message["token"]), name)

    def message(self) -> dict[str, Any]:
        """The introduction of this process."""
        content = {"deeplab": self.index, "addresses": list(self.addresses), "facts": dict(self.facts)}
        return {**content, "token": self.token, "name": self.name}


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
      UserError: some did not come (`worker-missing`), two have the same number (`same-worker`), or their facts differ
        (`workers-differ`), in all processes that are there; this process's port is in use (`port-in-use`).
    """
    require_free_port(addresses, index)
    own = Participant.here(addresses, index, facts)
    return {0: _attend(own, wait)} if index else _host(own, wait)


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
    if _is_elsewhere(addresses[index]):
        rule += f"; this process is worker {index}, but {addresses[index]} is no address of this machine"
        hint += "; give each worker its own index"
    value = tuple(f"{number} ({addresses[number]})" for number in sorted(absent))
    return UserError("worker-missing", rule, hint, where=f"worker {index}", value=value)


def _in_use(addresses: Sequence[str], index: int, problem: Exception) -> UserError:
    reason = getattr(problem, "strerror", None) or problem
    rule = f"worker {index} cannot listen at its port: {reason}"
    hint = "end the process that uses it, such as an earlier training or another worker with the same index, or choose "
    return UserError("port-in-use", rule, f"{hint}another port", where=addresses[index])


def _is_elsewhere(address: str) -> bool:
    """Whether an address is known to be that of another machine, or of a network that translates addresses."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, place in found:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as trial:
            trial.bind(place)
            return False
    return True


def _same_number(one: str, other: str, own: Participant, index: int) -> UserError:
    """The error about two processes, both of which are worker `index`."""
    listed = ", ".join(f"{number} = {address}" for number, address in enumerate(own.addresses))
    hint = f"give each worker the index of its own address in TF_CONFIG ({listed}), or end the one that is left over"
    rule = f"two processes are worker {index}: {one} and {other}"
    return UserError("same-worker", rule, hint, where=f"worker {index}", value=(one, other))


# ---- the chief -----------------------------------------------------------------------------------------


class _Guest(socketserver.BaseRequestHandler):
    """One connection: receives a process's introduction, and sends it the chief's result once there is one.

    Attributes:
      participant: who has come.
      asked: how many times the chief has asked whether it is still there.
      answered: how many times it has responded.
      heard: when it was heard the last time.
    """

    server: _Table

    def handle(self) -> None:
        self.thread, self.asked, self.answered, self.heard = threading.current_thread(), 0, 0, 0.0
        table = self.server
        try:
            message = _read(self.request, time.monotonic() + 2 * _PATIENCE)
            self.participant = Participant.of_message(message)
        except (OSError, ValueError, TypeError, KeyError):
            return  # no process of a training
        self.heard = time.monotonic()
        if self.participant.addresses != table.own.addresses:
            rule = f"a training with the workers {', '.join(table.own.addresses)}"
            _send(self.request, {"error": ["other-training", rule]})
            return
        if self.participant.token == table.own.token:  # the chief calls itself, see `_call_own_address`
            _send(self.request, {})
            return
        with table.changed:
            table.guests.append(self)
        if self._take_seat():
            self._stay()
        if table.result is not None and (table.result or table.present.get(self.participant.index) is self):
            _send(self.request, table.result)
            if not table.result:
                table.kept[self.participant.index] = self.request
        with table.changed:
            table.guests.remove(self)
            if table.result is None and table.present.get(self.participant.index) is self:
                del table.present[self.participant.index]
                table.changed.notify_all()

    def name(self) -> str:
        """Who has come, and from where."""
        return f"{self.participant.name} ({self.client_address[0].removeprefix('::ffff:')})"

    def _take_seat(self) -> bool:
        """Makes this process the one with its number; False = it is one too many, or the meeting is over.

        A process that has the number already, and responds to a question asked from now on, is another one that is
        alive. If it does not, its machine is gone, and it was started once more.
        """
        table, index = self.server, self.participant.index
        with table.changed:
            last = table.present.get(index)
            question = last.asked + 1 if last else 0
            while not table.decided.is_set() and not table.error:
                holder = table.present.get(index)
                if index and (holder is None or holder.participant.token == self.participant.token):
                    table.present[index] = self
                    table.changed.notify_all()
                    return True
                if holder is not last and holder:
                    last, question = holder, holder.asked + 1
                if holder is None or holder.answered >= question:
                    other = holder.name() if holder else table.own.name
                    table.error = _same_number(other, self.name(), table.own, index)
                    table.changed.notify_all()
                else:
                    table.changed.wait(_POLL)
        table.decided.wait(_PATIENCE)
        return False

    def _stay(self) -> None:
        """Returns when the meeting is over, or when this process is gone, or has come by another connection."""
        asked = time.monotonic()
        while not self.server.decided.is_set() and self.server.present.get(self.participant.index) is self:
            now = time.monotonic()
            if now - self.heard > _SILENCE:
                return
            if now - asked >= _BETWEEN_QUESTIONS:
                asked, self.asked = now, self.asked + 1
                _send(self.request, _QUESTION)
            self.request.settimeout(_POLL)
            with contextlib.suppress(TimeoutError, BlockingIOError):
                said = _received(self.request, 65536)
                if not said:  # the process has ended
                    return
                self.answered += said.count(b"\n")
                self.heard = time.monotonic()


class _Table(socketserver.ThreadingTCPServer):
    """The server with which the chief waits for the others.

    Attributes:
      own: the chief.
      present: the connection of each process that has come, by its number.
      guests: connections that still get the result.
      error: why the meeting cannot succeed; None = it may.
      result: for all of them, once `decided`: empty, or with the error; None = there is none, the chief ends.
      kept: connections that stay open after the meeting, by the number of the process.
    """

    allow_reuse_address = True
    daemon_threads = True  # a stranger's connection must not keep the program from ending
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, own: Participant):
        if socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        self.own = own
        self.present: dict[int, _Guest] = {}
        self.guests: list[_Guest] = []
        self.kept: dict[int, socket.socket] = {}
        self.error: UserError | None = None
        self.result: dict[str, Any] | None = None
        self.changed, self.decided = threading.Condition(), threading.Event()
        self.others = range(1, len(own.addresses))
        super().__init__(("", int(own.addresses[0].rpartition(":")[2])), _Guest)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def shutdown_request(self, request: Any) -> None:
        if request not in self.kept.values():
            super().shutdown_request(request)

    def absent(self) -> dict[int, str]:
        """Why processes do not count as present, by their numbers."""
        now = time.monotonic()
        late = {number for number, guest in self.present.items() if now - guest.heard > _FRESH}
        found = {number: "has not come" for number in self.others if number not in self.present}
        return found | dict.fromkeys(late, "has come, but does not respond any more")

    def handle_error(self, *_: Any) -> None:
        """Prints nothing about connections that break."""


def _host(own: Participant, wait: float) -> dict[int, socket.socket]:
    """The meeting in the chief."""
    addresses = own.addresses
    try:
        table = _Table(own)
    except OSError as problem:
        raise _in_use(addresses, 0, problem) from None
    for work, given in ((table.serve_forever, (_POLL,)), (_call_own_address, (table,))):
        threading.Thread(target=work, args=given, daemon=True).start()
    try:
        with table.changed:
            end = time.monotonic() + wait
            while not table.error and (absent := table.absent()) and time.monotonic() < end:
                table.changed.wait(_POLL)
            of_all = [own.facts, *(table.present[number].participant.facts for number in sorted(table.present))]
            try:
                if table.error:
                    raise table.error
                if absent:
                    raise missing(addresses, 0, wait, absent)
                require_equal(of_all)
                table.result = {}
            except UserError as error:
                table.result = {"error": [error.code, error.rule, error.hint, error.where, error.value]}
                raise
            finally:
                table.decided.set()
    finally:
        table.decided.set()  # also after a signal: the others see their connections end without a result, and try again
        table.shutdown()
        for guest in list(table.guests):
            guest.thread.join(2 * _PATIENCE)  # until it has sent the result: this process may be about to end
        table.server_close()
    return dict(table.kept)


def _call_own_address(table: _Table) -> None:
    """Introduces the chief at its own address, where another process may listen that is worker 0 as well."""
    while not table.decided.is_set():
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, UnicodeError):
            with _connected(table.own.addresses[0]) as connection:
                _send(connection, table.own.message())
                answer = _read(connection, time.monotonic() + 2 * _PATIENCE)
            if answer and answer["error"][0] == "same-worker":
                error = _received_error(answer["error"])
                with table.changed:
                    table.error = table.error or error
                    table.changed.notify_all()
            return
        table.decided.wait(_POLL)


# ---- the others ----------------------------------------------------------------------------------------


def _attend(own: Participant, wait: float) -> socket.socket:
    """The meeting in a process other than the chief."""
    end, reason = time.monotonic() + wait, "does not answer"
    while time.monotonic() < end:
        try:
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(_connected(own.addresses[0]))
                reason = "listens, but does not answer"
                _send(connection, own.message())
                while (answer := _read(connection, end + _PATIENCE)) == _QUESTION:
                    _send(connection, answer)
                if answer == {}:
                    stack.pop_all()  # stays open
                    return connection
            code, rule, *more = answer["error"]
            if code != "other-training":
                hint, where, value = more
                where = f"worker {own.index}" if code == "worker-missing" else where
                raise _received_error([code, rule, hint, where, value])
            reason = f"belongs to another training: {rule}"
        except OSError as problem:
            if isinstance(problem, socket.gaierror):
                reason = f"cannot be found: {problem.strerror}"
        except (ValueError, TypeError, KeyError):
            reason = "listens, but is no worker of a training"
        time.sleep(_POLL)
    raise missing(own.addresses, own.index, wait, {0: reason})


# ---- messages: one line of JSON each -------------------------------------------------------------------


def _connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=2)


def _received_error(content: Sequence[Any]) -> UserError:
    """The error that the chief has sent: code, rule, hint, where, value."""
    code, rule, hint, where, value = content
    return UserError(code, rule, hint, where=where, value=tuple(value) if isinstance(value, list) else value)


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        connection.settimeout(_PATIENCE)
        connection.sendall(json.dumps(message).encode() + b"\n")


def _received(connection: socket.socket, number: int, flags: int = 0) -> bytes:
    try:
        return connection.recv(number, flags)
    except ConnectionError:
        return b""


def _read(connection: socket.socket, end: float) -> dict[str, Any]:
    """The next message, and nothing of what follows it.

    Raises:
      OSError: none comes before `end`.
      ValueError: it is not one.
    """
    content = b""
    while not content.endswith(b"\n"):
        connection.settimeout(max(0.01, end - time.monotonic()))
        waiting = _received(connection, 65536, socket.MSG_PEEK)
        more = _received(connection, waiting.find(b"\n") + 1 or len(waiting)) if waiting else b""
        if not more:
            raise ConnectionResetError("no answer")
        content += more
        if len(content) > _LONGEST:
            raise ValueError("too long")
    message = json.loads(content)
    if not isinstance(message, dict):
        raise ValueError("no message")
    return message
