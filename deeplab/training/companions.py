"""The watch over the other processes of a training: the end of one is seen at once, whatever this one computes.

TensorFlow tells a process that another one is gone at its next operation together with the others, which may be minutes
away while it traces a function or evaluates. `connection.join` starts a `Watch` over the connections that the meeting
left open, and `connection.explained` ends it. Of a process whose machine is gone, the system notices it within a
minute. A process that has been stopped, but has not ended, is left to TensorFlow's heartbeats. It saves nothing: the
last checkpoint is whole.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Mapping

PATIENCE = 40  # seconds that a process has to notice a loss by itself, and to save what it must
_GOODBYE = b"bye\n"
_POLL = 0.5  # seconds
_SIGNS_OF_LIFE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))  # seconds, seconds, times


class Watch:
    """Calls a function when another process has ended without a goodbye, and this one has not noticed it in time.

    Args:
      connections: to other processes, by their numbers; it owns them from now on.
      lost: gets the number of the process that ended, in a thread of its own.
      patience: seconds between the end of the other process and the call.
    """

    def __init__(self, connections: Mapping[int, socket.socket], lost: Callable[[int], None], patience: float):
        self._connections, self._lost, self._patience = dict(connections), lost, patience
        self._is_over = threading.Event()
        for connection in self._connections.values():
            connection.settimeout(_POLL)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _SIGNS_OF_LIFE:
                if hasattr(socket, name):  # not on every system
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._thread = threading.Thread(target=self._run, name="watch over other workers", daemon=True)
        self._thread.start()

    def end(self, goodbye: bool) -> None:
        """Ends the watch; with a goodbye, the end of this process is no loss for the others."""
        self._is_over.set()
        self._thread.join()
        for connection in self._connections.values():
            if goodbye:
                with contextlib.suppress(OSError):
                    connection.sendall(_GOODBYE)
            connection.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for number, connection in self._connections.items():
                selector.register(connection, selectors.EVENT_READ, number)
            while not self._is_over.is_set():
                for key, _ in selector.select(_POLL):
                    selector.unregister(key.fileobj)
                    if not _says_goodbye(self._connections[key.data]):
                        if not self._is_over.wait(self._patience):
                            self._lost(key.data)
                        return
                if not selector.get_map():
                    return


def _says_goodbye(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(len(_GOODBYE)))
    except OSError:  # also TimeoutError, of a machine that is gone
        return False
