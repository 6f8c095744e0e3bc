"""The client against `deeplab serve`'s application, and against a small PredictionService that runs the SavedModel."""

import base64
import concurrent.futures
import contextlib
import http.server
import io
import json
import threading
import time
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.errors import raises
from support.export_battery import CLASSES, export
from support.golden_recipe import image
from support.runtime_battery import RuntimeBattery
from support.small_exports import make_balanced_network
from support.threshold_predictor import ByRed

from deeplab import __main__ as program
from deeplab.inference.load import load
from deeplab.inference.predictor import Prediction, Predictor
from deeplab.serving import Client
from deeplab.serving.client import _split

IMAGE = image(50, 61)[0].astype(np.uint8)
DISCS = np.zeros((8, 9, 3), np.uint8)
DISCS[2:5, 3:6, 0] = 255


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Versions 3 and 4 of a SavedModel, as TensorFlow Serving wants them."""
    folder = tmp_path_factory.mktemp("models")
    for version in (3, 4):
        export(make_balanced_network(IMAGE), folder, formats=("saved_model",), parity_images=1, model_version=version)
    return folder / "saved_model"


# --- REST -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(model=None, **settings):
    """A server of a model that tells discs by their color, or of another one; its host and port."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from deeplab.serving import app

    if model is None:
        model = ByRed()
        model.set_classes(("ground", "disc", "leaf"), ((1, 2, 3), (200, 0, 0), (0, 0, 9)))
    made = app.create({"model": "made", **settings}, [model])
    server = uvicorn.Server(uvicorn.Config(made, log_level="warning", port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def server():
    with serving(api_key="secret") as address:
        yield address


class TestBattery(RuntimeBattery):
    """A server is a model as every file is; there is nothing of it that could be truncated."""

    name = "server"
    test_truncated_files_are_refused = None

    @pytest.fixture(scope="class")
    def path(self):
        with serving() as address:
            yield f"http://{address}/v1/models/deeplab"


def test_rest_gives_what_the_model_gives(server):
    client = Client(server, api_key="secret")
    assert client.class_names == ("ground", "disc", "leaf") and client.num_classes == 3
    assert client.colors[1].tolist() == [200, 0, 0]
    expected = ByRed().predict(DISCS)
    labels, scores = client.predict(DISCS)
    assert labels.dtype == np.int32 and (labels == expected.labels).all() and (scores == expected.probabilities).all()
    labels, scores = client.predict(DISCS, probabilities=False)
    assert (labels == expected.labels).all() and scores is None
    assert client.segment(DISCS).fractions()["disc"] == pytest.approx(9 / 72)
    assert Client(f"http://{server}/v1/models/deeplab", api_key="secret", version=1).predict(DISCS).labels.sum() == 9


@pytest.mark.parametrize("command", ["predict", "benchmark"])
def test_commands_take_an_address(command, tmp_path, monkeypatch):
    """As docs/serving.md says: nothing of that name is looked for on the disk; the key comes from the environment."""
    monkeypatch.setenv("DEEPLAB_SERVER_KEY", "secret")
    Image.fromarray(DISCS).save(tmp_path / "photo.png")
    flags = [f"--input={tmp_path / 'photo.png'}"]
    flags += [f"--output_dir={tmp_path / 'out'}"] if command == "predict" else ["--runs=1"]
    with serving(api_key="secret") as address:
        code = program.command_of(command).main([f"--model=http://{address}/v1/models/deeplab", *flags])
    assert code == 0
    if command == "predict":
        assert np.asarray(Image.open(tmp_path / "out" / "mask" / "photo.png"))[3, 4] == 1


class ManyNumbers(Predictor):
    """300 classes: the red of a pixel and, where there is green, 44 more, so that every number occurs."""

    def __init__(self):
        super().__init__("many", 300)
        self.set_classes([f"thing {index}" for index in range(300)], ())

    def _predict(self, image, probabilities):
        labels = image[..., 0].astype(np.int32) + np.where(image[..., 1] > 0, 44, 0)
        return Prediction(labels, np.eye(300, dtype=np.float32)[labels] if probabilities else None)


def test_labels_above_255_come_back_right_in_every_form(tmp_path):
    """Classes 0 to 299: as JSON and PNG of both APIs, by every signature, and through the client into files."""
    pixels = np.zeros((2, 256, 3), np.uint8)
    pixels[..., 0], pixels[1, :, 1] = np.arange(256), 1
    expected = np.stack([np.arange(256), np.arange(256) + 44])
    assert len(np.unique(expected)) == 300
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    with serving(ManyNumbers()) as address:

        def post(path, body):
            with urllib.request.urlopen(f"http://{address}{path}", body, timeout=60) as answer:
                return answer.read()

        def predicted(signature, instance):
            body = json.dumps({"signature_name": signature, "instances": [instance]}).encode()
            (row,) = json.loads(post("/v1/models/deeplab:predict", body))["predictions"]
            return row

        def decoded(png, is_text=True):
            return np.asarray(Image.open(io.BytesIO(base64.b64decode(png) if is_text else png))).astype(int)

        encoded = {"b64": base64.b64encode(file.getvalue()).decode()}
        forms = {
            "png": decoded(post("/segment", file.getvalue()), is_text=False),
            "serving_default": np.array(predicted("serving_default", pixels.tolist())["SemanticPredictions"]),
            "serving_bytes": np.array(predicted("serving_bytes", encoded)["SemanticPredictions"]),
            "serving_png": decoded(predicted("serving_png", encoded)["b64"]),
        }
        found = json.loads(post("/segment?output=json&polygons=true", file.getvalue()))
        forms["json"], planes = decoded(found["labels_png"]), decoded(found["labels_rgb_png"])
        forms["json, two bytes"] = planes[..., 0] + 256 * planes[..., 1]
        client = Client(address)
        forms["client"] = client.predict(pixels, probabilities=False).labels
        forms["client with probabilities"], scores = client.predict(pixels)
        paths = client.segment(pixels, probabilities=False).save(tmp_path, "many")
        np.save(tmp_path / "many.npy", client.segment(pixels).labels)
    for name, labels in forms.items():
        np.testing.assert_array_equal(labels, expected, name)
    np.testing.assert_array_equal(scores.argmax(-1), expected)
    assert [one["index"] for one in found["classes"]] == list(range(300)) and client.num_classes == 300
    assert found["classes"][299] == {**found["classes"][299], "name": "thing 299", "fraction": 1 / 512}
    np.testing.assert_array_equal(np.asarray(Image.open(paths["mask"])), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "many.npy"), expected)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"api_key": "other"}, "401"),
        ({"api_key": "secret", "model": "other"}, "404"),
        ({"api_key": "secret", "version": 2}, "404"),
    ],
)
def test_refusals(server, settings, words):
    with raises("server-failed", where=server) as caught:
        Client(server, **settings)
    assert words in caught.value.rule


def test_nobody_listens():
    with raises("server-failed") as caught:
        Client("http://127.0.0.1:9", timeout=5)
    assert "cannot be reached" in caught.value.rule


class Busy(http.server.BaseHTTPRequestHandler):
    """A server of the default signature alone, which is busy at every second request."""

    count = 0

    def _answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "0.01")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        outputs = {"SemanticPredictions": {}}
        found = {"metadata": {"signature_def": {"signature_def": {"serving_default": {"outputs": outputs}}}}}
        self._answer(found if self.path.endswith("metadata") else {}, 200 if self.path.endswith("metadata") else 404)

    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Busy.count += 1
        if Busy.count % 2:
            self._answer({"error": "busy"}, 503)
            return
        pixels = np.asarray(content["instances"][0]["images"])
        self._answer({"predictions": [{"SemanticPredictions": (pixels[..., 0] > 150).astype(int).tolist()}]})

    def log_message(self, *_):
        pass


def test_a_busy_server_is_asked_again_and_other_signatures_do():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = Client(f"http://127.0.0.1:{server.server_port}", "any")
        labels, scores = client.predict(DISCS)
        assert labels.sum() == 9 and scores is None and client.num_classes is None and Busy.count == 2
        server.shutdown()


STRANGE = {  # name of a model -> metadata (None = as of `Busy`), response to a prediction
    "page": (b"<html>", b""),
    "list": (b"[]", b""),
    "empty": (b"{}", b""),
    "null": (b'{"metadata": {"signature_def": {"signature_def": null}}}', b""),
    "no-row": (None, b'{"predictions": []}'),
    "no-labels": (None, b'{"predictions": [{"other": 1}]}'),
    "text": (None, b'{"predictions": ["mask"]}'),
    "half": (None, b'{"predictions": [{"Sem'),
}
KEYS = []  # that the server has received


class Strange(Busy):
    """A server that is not TensorFlow Serving: the name of the model chooses what it sends."""

    def _send(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        name = self.path.split("/")[3] if self.path.startswith("/v1/") else ""
        if name == "moved":
            self.send_response(302)
            self.send_header("Location", "/v1/models/page/metadata")
            self.end_headers()
            return
        KEYS.append(self.headers.get("Authorization"))
        metadata = STRANGE.get(name, (None,))[0]
        super().do_GET() if metadata is None else self._send(metadata)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(STRANGE[self.path.split("/")[3].partition(":")[0]][1])


@pytest.fixture(scope="module")
def strange():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Strange) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", STRANGE)
def test_a_server_that_sends_something_else_is_named(strange, name):
    with raises("server-failed") as caught:
        Client(strange, name).predict(DISCS)
    assert "REST API" in caught.value.rule and str(caught.value.where).startswith(f"{strange}/v1/models/{name}")


def test_the_key_is_not_sent_to_where_a_redirect_leads(strange):
    KEYS.clear()
    for name in ("page", "moved"):
        with raises("server-failed"):
            Client(strange, name, api_key="secret")
    assert KEYS == ["Bearer secret", None]


@pytest.mark.parametrize(
    "host, expected",
    [
        ("localhost:8501", ("http://localhost:8501", "m")),
        ("https://a.b/proxy/", ("https://a.b/proxy", "m")),
        ("http://a:1/v1/models/x", ("http://a:1", "x")),
        ("grpc://a:1/v1/models/x", ("grpc://a:1", "x")),
    ],
)
def test_addresses(host, expected):
    assert _split(host, "m") == expected


@pytest.mark.parametrize(
    "host",
    ["", "file:///etc/passwd", "ftp://a:1", "http://", "http://a:b", "http://u:p@a:1", "grpc://a", "http://[::1"],
)
def test_what_is_no_address(host):
    with raises("wrong-address"):
        _split(host, "m")


def test_files_on_servers_are_not_models():
    with raises("wrong-address") as caught:
        load("https://example.org/model.tflite")
    assert "downloaded" in caught.value.hint


# --- gRPC -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(exported):
    """A PredictionService that runs the latest version of the SavedModel; its address."""
    grpc = pytest.importorskip("grpc", reason="needs the extra grpc")
    pytest.importorskip("tensorflow_serving.apis", reason="needs the extra grpc")
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

    folder = exported / "4"
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def _require(self, spec, context):
            if spec.name != "mine" or (spec.HasField("version") and spec.version.value != 4):
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")

        def GetModelMetadata(self, request, context):
            self._require(request.model_spec, context)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, one in content.meta_graphs[0].signature_def.items():
                signatures.signature_def[name].CopyFrom(one)
            answer = get_model_metadata_pb2.GetModelMetadataResponse()
            answer.metadata["signature_def"].Pack(signatures)
            return answer

        def Predict(self, request, context):
            self._require(request.model_spec, context)
            found = signature(images=tf.make_ndarray(request.inputs["images"]))
            answer = predict_pb2.PredictResponse()
            for name in request.output_filter or found:
                answer.outputs[name].CopyFrom(tf.make_tensor_proto(found[name]))
            return answer

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None)


def test_grpc_gives_what_the_file_gives(service, exported):
    client = Client(service, "mine", class_names=CLASSES.names)
    assert client.num_classes == 4 and client.class_names == CLASSES.names
    expected = load(str(exported)).predict(IMAGE)
    labels, scores = client.predict(IMAGE)
    assert (labels == expected.labels).all() and len(np.unique(labels)) > 1
    np.testing.assert_allclose(scores, expected.probabilities, atol=1e-6)
    assert client.predict(IMAGE, probabilities=False).probabilities is None
    assert (client.segment(IMAGE).labels == expected.labels).all()
    assert (load(f"{service}/v1/models/mine").predict(IMAGE).labels == expected.labels).all()  # as --model takes it
    for settings in ({"model": "other"}, {"model": "mine", "version": 3}):
        with raises("server-failed") as caught:
            Client(service, **settings)
        assert "NOT_FOUND" in caught.value.rule


# --- The versioned SavedModel -----------------------------------------------------------------------------------


def test_versions_are_kept_and_the_latest_is_loaded(exported):
    assert sorted(path.name for path in exported.iterdir()) == ["3", "4"]
    found = load(str(exported))
    assert found.source == str(exported / "4") and found.class_names == CLASSES.names
    assert load(str(exported / "3")).predict(IMAGE).labels.shape == IMAGE.shape[:2]


def test_every_signature_and_the_warm_up_requests(exported):
    """The requests are read by TensorFlow Serving's own protocol buffers, and run."""
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason="needs the extra grpc")
    loaded = tf.saved_model.load(str(exported / "4"))
    path = exported / "4" / "assets.extra" / "tf_serving_warmup_requests"
    seen = []
    for record in tf.data.TFRecordDataset(str(path)):
        request = logs.PredictionLog.FromString(record.numpy()).predict_log.request
        seen.append(request.model_spec.signature_name)
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        assert loaded.signatures[seen[-1]](**inputs)
    assert seen == ["serving_default", "serving_bytes", "serving_png"]


def test_masks_as_png_files_equal_the_labels(exported):
    loaded = tf.saved_model.load(str(exported / "4"))
    files = tf.stack([tf.io.encode_png(IMAGE), tf.io.encode_png(IMAGE[:, ::-1])])
    labels = loaded.signatures["serving_bytes"](image_bytes=files)["SemanticPredictions"].numpy()
    masks = loaded.signatures["serving_png"](image_bytes=files)["mask_png_bytes"].numpy()
    assert labels.shape == (2, *IMAGE.shape[:2])
    for label, mask in zip(labels, masks, strict=True):
        assert (np.asarray(Image.open(io.BytesIO(mask))) == label).all()
