r"""Serves a model: a page to try it, and an API for programs.

    deeplab serve --model=runs/mine/export/frozen_inference_graph.pb
    deeplab serve --model=runs/mine/train --compare=runs/other --port=9000
    curl --data-binary @photo.jpg http://127.0.0.1:8080/segment > mask.png

Open the printed address in a browser: drop, paste or choose images, or use the camera. The page loads nothing from
other servers, so it works offline. Programs get a mask from POST /segment, or use TensorFlow Serving's REST API under
/v1/models/NAME; /openapi.json describes everything, /metrics is for Prometheus, /health for load balancers. Needs the
extra `serve`.

Requests are limited in size, pixels, time and number; clients send images, never paths or addresses. Without a key,
anyone who can reach the port can use the model; on a network that you do not control, put a proxy with TLS in front of
it. Ctrl-C or SIGTERM ends it after the running requests.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config.command_line import OK, Command, Given, configs_from
from deeplab.config.prediction_config import InferenceConfig
from deeplab.config.serving_config import ServeConfig
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.extras import require

GROUPS = (ServeConfig, InferenceConfig)
SECONDS_TO_STOP = 120.0
KEY = "DEEPLAB_API_KEY"


def run(given: Given) -> int:
    """Runs the command until it is stopped; returns the exit code."""
    (config, _) = configs_from(given, GROUPS)
    require("fastapi", "serve")
    require("uvicorn", "serve")
    listener = _listener(config)
    address = _address(config.host, listener.getsockname()[1])
    if config.host not in ("127.0.0.1", "::1", "localhost") and not (config.api_key or os.environ.get(KEY)):
        console.warning("other machines can use this model without a key: `api_key` sets one")
    settings = {
        "timeout_graceful_shutdown": int(config.timeout_secs) + 1,
        "limit_concurrency": 64 + 2 * config.max_queue,
        "log_level": "warning",
        "server_header": False,
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt), listener:
        if config.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read when the metrics are made
        console.import_tensorflow()
        from deeplab.serving import app as application

        predictors = application.load_models(given)  # an error ends the command, not a worker
        by = f" by {config.workers} processes" if config.workers > 1 else ""
        print(f"serving {config.model} at {address}{by}; Ctrl-C ends it", flush=True)
        if config.workers == 1:
            _serve(application.create(given, predictors), listener, settings)
        else:
            del predictors
            _supervise(config, (given, listener, settings))
    print("stopped", flush=True)
    return OK


def _serve(app: Any, listener: socket.socket, settings: dict[str, Any]) -> None:
    """Serves an application until SIGINT or SIGTERM."""
    uvicorn = require("uvicorn", "serve")
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    from deeplab.serving.connections import limited_protocol

    protocol = limited_protocol(
        AutoHTTPProtocol, settings["timeout_graceful_shutdown"], settings["limit_concurrency"] - 2
    )
    server = uvicorn.Server(uvicorn.Config(app, http=protocol, ws="none", **settings))
    server.capture_signals = lambda: _ending(server)
    server.run([listener])


def work(given: Given, listener: socket.socket, settings: dict[str, Any]) -> None:
    """Serves in a process of its own; called by `_supervise`."""
    console.import_tensorflow()
    from deeplab.serving import app as application

    _serve(application.create(given), listener, settings)


def _supervise(config: ServeConfig, arguments: tuple[Any, ...]) -> None:
    """Runs `work` in several processes, and starts another where one ends, until this process is interrupted."""
    context = multiprocessing.get_context("spawn")  # TensorFlow's threads do not survive a fork

    def start() -> multiprocessing.process.BaseProcess:
        process = context.Process(target=work, args=arguments, daemon=True)
        process.start()
        return process

    workers = [start() for _ in range(config.workers)]
    try:
        while True:
            ended = multiprocessing.connection.wait([worker.sentinel for worker in workers])
            for worker in [worker for worker in workers if worker.sentinel in ended]:
                worker.join()
                console.warning(f"a worker ended with exit code {worker.exitcode}; another takes its place")
                time.sleep(1)
                workers[workers.index(worker)] = start()
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(config.timeout_secs + 5)
            worker.kill()


@contextlib.contextmanager
def _ending(server: Any) -> Iterator[None]:
    """Lets SIGINT and SIGTERM end a server gracefully; unlike uvicorn's own way, they are not sent a second time."""
    kept = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _listener(config: ServeConfig) -> socket.socket:
    """Returns a socket that listens on the address of the config.

    Raises:
      UserError: the address does not exist, or is used (`address-in-use`).
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(128)
        return listener
    except OSError as problem:
        listener.close()
        rule = f"cannot listen on {config.host}:{config.port}: {problem.strerror or problem}"
        hint = "another program uses it: give another port, or 0 for any that is free"
        raise UserError("address-in-use", rule, hint, field="port", value=config.port) from None


def _address(host: str, port: int) -> str:
    """Returns the address to open in a browser."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # nosec B104  # nothing is bound here
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


COMMAND = Command("serve", run, GROUPS, __doc__, grace=SECONDS_TO_STOP)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
