"""The serve command as a process: it answers, ends gracefully, and refuses what it cannot do."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import cv2
import numpy as np
import pytest
from support.export_battery import export
from support.golden_recipe import image
from support.small_exports import make_balanced_network

pytest.importorskip("fastapi", reason="needs the extra serve")
from deeplab import serve
from deeplab.inference.load import load

ROOT = pathlib.Path(__file__).parents[2]
IMAGE = image(50, 61)[0].astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A frozen graph that predicts several classes."""
    path = tmp_path_factory.mktemp("model") / "frozen_inference_graph.pb"
    export(make_balanced_network(IMAGE), path, formats=("frozen_graph",), parity_images=1)
    return path


@pytest.fixture
def server(model, request):
    """A running server, its address, and the process."""
    words = [sys.executable, "-m", "deeplab", "serve", f"--model={model}", "--port=0", *request.param]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        line = process.stdout.readline()
        yield re.search(r"http://[^;\s]+", line)[0], process
    finally:
        process.kill()
        process.wait()


def png(image):
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("server", [[], ["--workers=2", "--api_key=secret"]], indirect=True, ids=["one", "two"])
def test_it_answers_and_ends_after_running_requests(server, model):
    address, process = server
    headers = {"Authorization": "Bearer secret", "Content-Type": "image/png"}
    request = urllib.request.Request(f"{address}/segment", png(IMAGE), headers)
    mask = cv2.imdecode(np.frombuffer(urllib.request.urlopen(request, timeout=120).read(), np.uint8), -1)
    expected = load(str(model)).predict(IMAGE).labels
    colors = load(str(model)).colors
    assert (mask[..., ::-1] == colors[expected]).all()  # OpenCV shows the palette
    request = urllib.request.Request(f"{address}/metrics", headers=headers)
    metrics = urllib.request.urlopen(request, timeout=120).read().decode()
    assert re.search(r'deeplab_images_total\{model="deeplab"\} 1\.0', metrics)  # over all processes
    process.send_signal(signal.SIGTERM)
    printed = process.stdout.read()
    assert process.wait(120) == 0 and printed.endswith("stopped\n")
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{address}/health", timeout=10)


def test_a_port_in_use(model, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert serve.COMMAND.main([f"--model={model}", f"--port={other.getsockname()[1]}"]) == 1
    printed = capsys.readouterr().err
    assert "--port" in printed and "[address-in-use]" in printed


@pytest.mark.parametrize(
    "words, code",
    [
        ([], "missing-setting"),
        (["--model=/nowhere", "--port=0"], "checkpoint-not-found"),
        (["--model=/nowhere", "--name=a/b"], "bad-name"),
        (["--model=/nowhere", "--port=70000"], "out-of-range"),
    ],
)
def test_what_is_refused(words, code, capsys):
    assert serve.COMMAND.main(words) in (1, 2)
    assert f"[{code}]" in capsys.readouterr().err


def test_a_missing_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert serve.COMMAND.main(["--model=x"]) == 1
    printed = capsys.readouterr().err
    assert "[missing-library]" in printed and "serve" in printed


def test_the_settings_survive_the_way_to_a_worker():
    given = serve.COMMAND.parse(["--model=a", "--crop_size=65,97", "--eval_scales=0.5,1"])[1]
    from deeplab.config.fields import make
    from deeplab.config.prediction_config import InferenceConfig
    from deeplab.config.serving_config import ServeConfig

    sent = json.loads(json.dumps(given))
    assert make(ServeConfig, sent).crop_size == (65, 97)
    assert make(InferenceConfig, sent).eval_scales == (0.5, 1.0)
