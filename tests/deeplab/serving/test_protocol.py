"""TensorFlow Serving's JSON: every form of a request, every form of a response, and what is refused."""

import base64
import json

import numpy as np
import pytest
from support.errors import raises

from deeplab.inference.predictor import Prediction
from deeplab.serving import protocol

PIXELS = [[[0, 128, 255], [1, 2, 3]]]
FILE = {"b64": base64.b64encode(b"file").decode()}


def parsed(**content):
    return protocol.parse(json.dumps(content).encode())


@pytest.mark.parametrize(
    "content",
    [
        {"instances": [PIXELS]},
        {"instances": [{"images": PIXELS}]},
        {"inputs": [PIXELS]},
        {"inputs": {"images": [PIXELS]}, "signature_name": "serving_default"},
    ],
)
def test_pixels(content):
    found = parsed(**content)
    assert found.images[0].dtype == np.uint8 and found.images[0].tolist() == PIXELS
    assert found.columnar == ("inputs" in content)


@pytest.mark.parametrize("signature", ["serving_bytes", "serving_png"])
@pytest.mark.parametrize(
    "content",
    [
        {"instances": [FILE]},
        {"instances": [{"image_bytes": FILE}]},
        {"inputs": {"image_bytes": [FILE]}},
        {"inputs": [FILE]},
    ],
)
def test_files(content, signature):
    assert parsed(**content, signature_name=signature).images == [b"file"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"instances": []}',
        b'{"instances": 3}',
        b'{"instances": [[[]]]}',
        b'{"instances": [[[["a", "b", "c"]]]]}',
        b'{"instances": [[[[0, 0, 0.5]]]]}',
        b'{"instances": [[[[0, 0, 256]]]]}',
        b'{"instances": [[[[0, 0, -1]]]]}',
        b'{"instances": [[[[0, 0, 1e400]]]]}',
        b'{"instances": [[[[0, 0, NaN]]]]}',
        b'{"instances": [[[[0, 0]]]]}',
        b'{"instances": [[[[0, 0, 0], [0]]]]}',
        b'{"instances": [{"file": "/etc/passwd"}]}',
        b'{"instances": [{"b64": "AAAA"}]}',  # the default signature takes pixels
        b'{"instances": [{"b64": "?"}], "signature_name": "serving_bytes"}',
        b'{"instances": [{"b64": 3}], "signature_name": "serving_bytes"}',
        b'{"instances": [{"b64": "\\u00e9"}], "signature_name": "serving_bytes"}',
        b'{"instances": ["http://example.org/a.png"], "signature_name": "serving_bytes"}',
        b'{"instances": [[[[0, 0, 0]]]], "signature_name": "other"}',
        b'{"instances": [[[[0, 0, 0]]]], "signature_name": ["serving_default"]}',
        b'{"instances": [[[[0, 0, 0]]]], "inputs": [[[[0, 0, 0]]]]}',
        b"[" * 100_000,
        b'{"instances": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
)
def test_what_is_refused(body):
    with raises("bad-request"):
        protocol.parse(body)


def predictions(*sizes):
    return [Prediction(np.ones(size, np.int32), np.full((*size, 2), 0.5, np.float32)) for size in sizes]


def respond(request, found):
    return json.loads(b"".join(protocol.response(request, found, lambda labels: b"png")))


def test_responses():
    rows = respond(parsed(instances=[PIXELS, PIXELS]), predictions((1, 2), (2, 1)))["predictions"]
    assert [row["SemanticPredictions"] for row in rows] == [[[1, 1]], [[1], [1]]]
    assert rows[0]["SemanticProbabilities"] == [[[0.5, 0.5], [0.5, 0.5]]]
    columns = respond(parsed(inputs=[PIXELS, PIXELS]), predictions((1, 2), (1, 2)))["outputs"]
    assert columns["SemanticPredictions"] == [[[1, 1]], [[1, 1]]]
    with raises("size-mismatch"):
        respond(parsed(inputs=[PIXELS, PIXELS]), predictions((1, 2), (2, 1)))
    files = respond(parsed(instances=[FILE], signature_name="serving_png"), predictions((1, 2)))
    assert files == {"predictions": [{"b64": base64.b64encode(b"png").decode()}]}
    without = [Prediction(np.ones((1, 1), np.int32), None)]
    assert respond(parsed(instances=[PIXELS]), without) == {"predictions": [{"SemanticPredictions": [[1]]}]}


def test_a_large_response_comes_in_pieces():
    pieces = list(protocol.response(parsed(instances=[PIXELS]), predictions((300, 900)), lambda labels: b""))
    assert len(pieces) > 5 and max(map(len, pieces)) < 600_000
    (row,) = json.loads(b"".join(pieces))["predictions"]
    assert np.shape(row["SemanticProbabilities"]) == (300, 900, 2)
