"""A client of a model server: `deeplab serve`, or TensorFlow Serving over REST or gRPC; a `Predictor` like any other.

    client = Client("http://127.0.0.1:8501", "mine")     # or "grpc://127.0.0.1:8500"
    client.segment("photo.jpg").save("masks", "photo")

`--model=http://127.0.0.1:8501/v1/models/mine` gives the same to every command that predicts. gRPC needs the extra
`grpc`. The server is one that the user names; this module never calls another.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from deeplab.inference.predictor import Prediction, Predictor
from deeplab.inference.runtimes import RUNTIMES, LoadOptions, Runtime
from deeplab.inference.tensor_names import (
    BYTES_SIGNATURE,
    DEFAULT_SIGNATURE,
    IMAGE_BYTES,
    IMAGES,
    LABELS,
    PNG_SIGNATURE,
    PROBABILITIES,
)
from deeplab.utils.errors import UserError
from deeplab.utils.extras import require
from deeplab.utils.remote_names import is_server

if TYPE_CHECKING:
    from deeplab.inference.segmenter import Segmentation

KEY_VARIABLE = "DEEPLAB_SERVER_KEY"  # key for the server that a command's `model` names
_PREFIX = "/v1/models/"
_MAX_WAIT = 5.0  # seconds between two tries at a busy server


class Client(Predictor):
    """Predicts on a server.

    Args:
      host: `http://host:port`, `https://...`, or `grpc://host:port`; without a scheme, http. An address that ends in
        `/v1/models/NAME` names the model as well.
      model: its name on the server.
      version: of the model (default: the server's choice, the latest).
      class_names: one name per class; unset = as the server says (`deeplab serve` does), else numbers.
      api_key: key of the server, where it has one.
      timeout: seconds for a request, waiting for a busy server included.

    Raises:
      UserError: `host` is not the address of a server (`wrong-address`), or the server cannot be reached, refuses, has
        no such model, or sends something else than TensorFlow Serving does (`server-failed`).
    """

    def __init__(
        self,
        host: str,
        model: str = "deeplab",
        *,
        version: int | None = None,
        class_names: Sequence[str] = (),
        api_key: str = "",
        timeout: float = 60.0,
    ):
        address, model = _split(host, model)
        transport = _Grpc if address.startswith("grpc://") else _Rest
        self._server: _Rest | _Grpc = transport(address, model, version, api_key, timeout)
        classes = self._server.classes()
        super().__init__(
            f"{address}{_PREFIX}{model}", self._server.num_classes(), class_names or classes[0], classes[1]
        )

    def segment(self, image: Any, probabilities: bool = True) -> Segmentation:
        """Segment one image, whatever `Segmenter` takes: a path, bytes, a PIL image, an array.

        Raises:
          UserError: an unreadable image, or the server failed (`server-failed`).
        """
        from deeplab.inference.segmenter import Segmenter

        return Segmenter(self)(image, probabilities)

    def _predict(self, image: np.ndarray, probabilities: bool) -> Prediction:
        labels, scores = self._server.predict(image, probabilities)
        if labels.shape != image.shape[:2]:
            rule = f"sent labels of {labels.shape} for an image of {image.shape[:2]}"
            raise UserError("server-failed", rule, where=self.source)
        return Prediction(labels.astype(np.int32), scores)


def _split(host: str, model: str) -> tuple[str, str]:
    """Return the address of the server, and the name of the model, which may be part of the first.

    Raises:
      UserError: it is no such address (`wrong-address`).
    """
    address = host if "://" in host else f"http://{host}"
    try:
        parts = urllib.parse.urlsplit(address)
        has_port = parts.port is not None or parts.scheme == "https"
    except ValueError:  # a port that is no number, a bracket that is not closed
        raise _wrong_address(host) from None
    valid = parts.scheme in ("http", "https", "grpc") and bool(parts.hostname) and has_port
    if not valid or parts.query or parts.username:
        raise _wrong_address(host)
    path = parts.path.rstrip("/")
    if _PREFIX in path:
        path, _, model = path.partition(_PREFIX)
    return f"{parts.scheme}://{parts.netloc}{path}", model


def _wrong_address(host: str) -> UserError:
    hint = "write http://host:8501/v1/models/NAME, or grpc://host:8500/v1/models/NAME; files must be downloaded first"
    return UserError("wrong-address", f"{host!r} is no address of a server", hint, value=host)


class _Rest:
    """TensorFlow Serving's REST API."""

    def __init__(self, address: str, model: str, version: int | None, api_key: str, timeout: float):
        self._root, self._timeout = address, timeout
        quoted = urllib.parse.quote(model, safe="")
        self._model = f"{address}{_PREFIX}{quoted}" + (f"/versions/{version}" if version is not None else "")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._name = model
        address = f"{self._model}/metadata"
        content = self._ask(address)
        with _understood(address):
            self._signatures: dict[str, Any] = json.loads(content)["metadata"]["signature_def"]["signature_def"]
            self._num_classes = self._classes_in_signature()

    def num_classes(self) -> int | None:
        """Return the number of classes in the signature; None if it does not state it."""
        return self._num_classes

    def _classes_in_signature(self) -> int | None:
        output = self._signatures.get(DEFAULT_SIGNATURE, {}).get("outputs", {}).get(PROBABILITIES, {})
        dims = output.get("tensor_shape", {}).get("dim", [])
        size = int(dims[-1]["size"]) if len(dims) == 4 else -1
        return size if size > 0 else None

    def classes(self) -> tuple[list[str], list[tuple[int, int, int]]]:
        """Return names and colors, which only `deeplab serve` sends; empty for other servers."""
        try:
            models = {one["name"]: one["classes"] for one in json.loads(self._ask(f"{self._root}/models"))}
            found = models[self._name]
            colors = [tuple(bytes.fromhex(one["color"][1:])) for one in found]
            return [one["name"] for one in found], colors  # type: ignore[return-value]
        except (UserError, ValueError, KeyError, TypeError):
            return [], []

    def predict(self, image: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Predict an image, uint8 [H, W, C]; images and masks are sent as files where the model has such signatures.

        Returns:
          Labels, integers [H, W], and probabilities, float32 [H, W, classes], or None.
        """
        signature = PNG_SIGNATURE if not probabilities and PNG_SIGNATURE in self._signatures else BYTES_SIGNATURE
        if signature in self._signatures:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG", compress_level=1)
            instance: Any = {IMAGE_BYTES: {"b64": base64.b64encode(file.getvalue()).decode()}}
        else:
            signature, instance = DEFAULT_SIGNATURE, {IMAGES: image.tolist()}
        body = json.dumps({"signature_name": signature, "instances": [instance]}).encode()
        address = f"{self._model}:predict"
        content = self._ask(address, body)
        with _understood(address):
            (row,) = json.loads(content)["predictions"]
            if signature == PNG_SIGNATURE:
                return np.asarray(Image.open(io.BytesIO(base64.b64decode(row["b64"])))), None
            scores = np.asarray(row[PROBABILITIES], np.float32) if probabilities and PROBABILITIES in row else None
            return np.asarray(row[LABELS]), scores

    def _ask(self, address: str, body: bytes | None = None) -> bytes:
        """Send a request and return the body of the response; a busy server gets it again until the time is over.

        Raises:
          UserError: it refuses, cannot be reached, or takes too long.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
            for name, value in self._headers.items():  # not sent to the server to which a redirect may lead
                request.add_unredirected_header(name, value)
            try:
                left = max(0.1, deadline - time.monotonic())
                with urllib.request.urlopen(request, timeout=left) as response:  # nosec B310  # http and https alone
                    return response.read()
            except urllib.error.HTTPError as refusal:
                wait = min(_seconds(refusal.headers.get("Retry-After")), _MAX_WAIT)
                if refusal.code == 503 and time.monotonic() + wait < deadline:
                    time.sleep(wait)
                    continue
                raise _failed(address, f"answered {refusal.code}: {_reason(refusal)}") from None
            except (OSError, http.client.HTTPException) as problem:
                reason = getattr(problem, "reason", None) or problem
                raise _failed(address, f"cannot be reached: {reason}") from None


class _Grpc:
    """TensorFlow Serving's PredictionService."""

    def __init__(self, address: str, model: str, version: int | None, api_key: str, timeout: float):
        self._grpc = require("grpc", "grpc")
        self._apis = {
            name: require(f"tensorflow_serving.apis.{name}", "grpc")
            for name in ("predict_pb2", "get_model_metadata_pb2", "prediction_service_pb2_grpc")
        }
        self._model, self._version, self._timeout, self._address = model, version, timeout, address
        self._metadata = [("authorization", f"Bearer {api_key}")] if api_key else None
        target = urllib.parse.urlsplit(address).netloc
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        channel = self._grpc.insecure_channel(target, unlimited)
        self._stub = self._apis["prediction_service_pb2_grpc"].PredictionServiceStub(channel)
        self._outputs = self._signature_outputs()

    def num_classes(self) -> int | None:
        """Return the number of classes as the signature tells it."""
        shape = self._outputs.get(PROBABILITIES, [])
        return shape[-1] if len(shape) == 4 and shape[-1] > 0 else None

    def classes(self) -> tuple[list[str], list[tuple[int, int, int]]]:
        """Return nothing: the service does not tell the classes."""
        return [], []

    def predict(self, image: np.ndarray, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Predict an image, uint8 [H, W, C]; only the wanted outputs are sent back."""
        import tensorflow as tf

        request = self._apis["predict_pb2"].PredictRequest()
        self._specify(request.model_spec)
        request.model_spec.signature_name = DEFAULT_SIGNATURE
        request.inputs[IMAGES].CopyFrom(tf.make_tensor_proto(image[np.newaxis], tf.uint8))
        wanted = [LABELS, *([PROBABILITIES] if probabilities and PROBABILITIES in self._outputs else [])]
        request.output_filter.extend(wanted)
        found = self._call(self._stub.Predict, request).outputs
        arrays = [tf.make_ndarray(found[name])[0] for name in wanted]
        return arrays[0], arrays[1] if len(arrays) > 1 else None

    def _signature_outputs(self) -> dict[str, list[int]]:
        """Return the shape of each output of the default signature."""
        request = self._apis["get_model_metadata_pb2"].GetModelMetadataRequest(metadata_field=["signature_def"])
        self._specify(request.model_spec)
        answer = self._call(self._stub.GetModelMetadata, request)
        signatures = self._apis["get_model_metadata_pb2"].SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        outputs = signatures.signature_def[DEFAULT_SIGNATURE].outputs
        return {name: [dim.size for dim in info.tensor_shape.dim] for name, info in outputs.items()}

    def _specify(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout, metadata=self._metadata, wait_for_ready=False)
        except self._grpc.RpcError as problem:
            raise _failed(self._address, f"{problem.code().name}: {problem.details()[:300]}") from None


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 1))
    except ValueError:  # a date
        return 1.0


def _reason(refusal: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(refusal.read(10_000))["error"])[:300]
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return str(refusal.reason)


@contextlib.contextmanager
def _understood(address: str) -> Iterator[None]:
    """Turns what malformed content of a response raises into a UserError about its address."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OSError, Image.DecompressionBombError) as problem:
        rule = f"sent something else than TensorFlow Serving's REST API: {type(problem).__name__}: {str(problem)[:100]}"
        raise _failed(address, rule) from problem


def _failed(address: str, rule: str) -> UserError:
    hint = f"check that the server runs, the name of the model, and the key ({KEY_VARIABLE} for commands)"
    return UserError("server-failed", rule, hint, where=address)


def _load(path: str, _options: LoadOptions) -> Predictor:
    address, _ = _split(path, "")
    if _PREFIX not in path and urllib.parse.urlsplit(address).path:
        raise _wrong_address(path)
    return Client(path, api_key=os.environ.get(KEY_VARIABLE, ""))


RUNTIMES.register("server")(Runtime(is_server, _load, is_program=False))
