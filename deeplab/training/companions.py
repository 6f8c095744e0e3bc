"""Watches the other processes of a training, so that the end of one is noticed at once, whatever this one computes.

TensorFlow reports that a process is gone only at the next collective operation, which may be minutes away while this
process traces a function or evaluates. `connection.join` starts a `Watch` of the connections that the meeting left
open, and `connection.explained` ends it. The loss of a whole machine is noticed within a minute, by TCP keep-alive. A
process that hangs without ending is left to TensorFlow's heartbeats. It saves nothing: the last checkpoint is complete.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Mapping

PATIENCE = 40  # seconds in which a process may notice a loss by itself and end in its own way
_GOODBYE = b"bye\n"
_POLL = 0.5  # seconds
_KEEP_ALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))  # seconds, seconds, probes


class Watch:
    """Calls a function when another process has ended without a goodbye, and `end` is not called soon afterwards.

    Args:
      connections: sockets to other processes, by their numbers; `end` closes them.
      lost: called with the number of the process that ended, in the thread of the watch.
      patience: seconds between the end of the other process and the call.
    """

    def __init__(self, connections: Mapping[int, socket.socket], lost: Callable[[int], None], patience: float):
        self._connections, self._lost, self._patience = dict(connections), lost, patience
        self._is_over = threading.Event()
        for connection in self._connections.values():
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEP_ALIVE:
                if hasattr(socket, name):  # depends on the system
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._thread = threading.Thread(target=self._run, name="watch over other workers", daemon=True)
        self._thread.start()

    def end(self, goodbye: bool) -> None:
        """Ends the watch and closes the connections.

        Args:
          goodbye: tell the others that this process ends as intended; otherwise they count it as lost.
        """
        self._is_over.set()
        self._thread.join()
        for connection in self._connections.values():
            if goodbye:
                with contextlib.suppress(OSError):
                    connection.settimeout(_POLL)
                    connection.sendall(_GOODBYE)
            connection.close()

    def _run(self) -> None:
        said = dict.fromkeys(self._connections, b"")
        with selectors.DefaultSelector() as selector:
            for number, connection in self._connections.items():
                selector.register(connection, selectors.EVENT_READ, number)
            while not self._is_over.is_set():
                for key, _ in selector.select(_POLL):
                    more = _received(self._connections[key.data])
                    if more is None:
                        continue
                    said[key.data] = (said[key.data] + more)[-len(_GOODBYE) :]
                    if more and said[key.data] != _GOODBYE:
                        continue
                    selector.unregister(key.fileobj)
                    if not more:
                        if not self._is_over.wait(self._patience):
                            self._lost(key.data)
                        return
                if not selector.get_map():
                    return


def _received(connection: socket.socket) -> bytes | None:
    """What has come over a connection that does not block; empty at its end, None if nothing has come."""
    try:
        return connection.recv(len(_GOODBYE))
    except (BlockingIOError, InterruptedError):  # the system may say that there is something where there is nothing
        return None
    except OSError:  # reset, or timed out after the loss of a machine
        return b""
