"""Connections of clients that do not send or read; with a real uvicorn and sockets."""

import contextlib
import socket
import threading
import time

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
from uvicorn.protocols.http.auto import AutoHTTPProtocol  # noqa: E402

from deeplab.serving.connections import limited_protocol  # noqa: E402

REQUEST = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


async def application(scope, receive, send):
    """Sends a short response, or for `/large` one that no buffer holds."""
    size = 60_000_000 if scope["path"] == "/large" else 2
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"x" * size})


@contextlib.contextmanager
def serving(timeout, max_connections=100):
    protocol = limited_protocol(AutoHTTPProtocol, timeout, max_connections)
    config = uvicorn.Config(application, http=protocol, ws="none", lifespan="off", log_level="critical", port=0)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def connected(address, said=b""):
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.settimeout(60)
    opened.connect(address)
    opened.sendall(said)
    return opened


def is_closed(opened):
    try:
        return opened.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost", REQUEST % b""])
def test_a_connection_without_a_request_is_closed(said):
    with serving(0.3) as address, connected(address, said) as opened:
        if said.endswith(b"\r\n\r\n"):
            said = b""
            while not said.endswith(b"xx"):
                said += opened.recv(1000)
            with contextlib.suppress(ConnectionError):
                opened.sendall(b"GET")  # the next one does not come either; uvicorn has stopped to count the time
        assert is_closed(opened)


def test_a_response_that_is_not_read_ends_the_connection():
    with serving(0.3) as address, connected(address, 2 * (REQUEST % b"large")) as opened:
        time.sleep(2)
        received = 0
        with contextlib.suppress(ConnectionError):
            while more := opened.recv(1 << 20):
                received += len(more)
        assert received < 60_000_000


def test_idle_connections_make_room_for_others():
    with serving(3600, max_connections=3) as address, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(address)) for _ in range(20)]
        for _ in range(3):
            with connected(address, REQUEST % b"") as asking:
                assert asking.recv(1000).startswith(b"HTTP/1.1 200")
        assert all(map(is_closed, idle[:17]))
