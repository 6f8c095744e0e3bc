"""The JSON of TensorFlow Serving's REST API: requests to images, predictions to responses.

As in https://www.tensorflow.org/tfx/serving/api_rest: `instances` is a list of inputs and gives `predictions`, a list;
`inputs` holds whole tensors and gives `outputs`. An input is an image as nested lists of 0..255, [H][W][3], or the
content of an image file as `{"b64": "..."}`. The names are those of our SavedModels. Pure functions; nothing is opened
but the bytes of the request.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.inference.predictor import Prediction
from deeplab.inference.tensor_names import (
    BYTES_SIGNATURE,
    DEFAULT_SIGNATURE,
    IMAGE_BYTES,
    IMAGES,
    LABELS,
    MASK_BYTES,
    PNG_SIGNATURE,
    PROBABILITIES,
)
from deeplab.utils.errors import UserError

INPUT_OF = {DEFAULT_SIGNATURE: IMAGES, BYTES_SIGNATURE: IMAGE_BYTES, PNG_SIGNATURE: IMAGE_BYTES}
_PIECE = 1 << 18  # characters
_EXAMPLE = '{"instances": [{"b64": "..."}], "signature_name": "' + BYTES_SIGNATURE + '"}'


@dataclass(frozen=True)
class PredictRequest:
    """A request to predict.

    Attributes:
      images: what the images are: uint8 [H, W, 3], or the bytes of image files.
      signature: one of `INPUT_OF`.
      columnar: whether it came as `inputs`, so that `outputs` goes back.
    """

    images: list[np.ndarray | bytes]
    signature: str
    columnar: bool


def parse(body: bytes) -> PredictRequest:
    """Read the body of a predict request.

    Raises:
      UserError: it is not such JSON (`bad-request`).
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise _bad(f"is not JSON: {str(problem)[:100]}") from None
    if not isinstance(content, dict) or ("instances" in content) == ("inputs" in content):
        raise _bad("must be an object with either `instances` or `inputs`")
    signature = content.get("signature_name") or DEFAULT_SIGNATURE
    if not isinstance(signature, str) or signature not in INPUT_OF:
        raise _bad(f"has no signature {str(signature)[:60]!r}: there are {', '.join(INPUT_OF)}")
    columnar = "inputs" in content
    name = INPUT_OF[signature]
    given = content["inputs"] if columnar else content["instances"]
    if columnar:
        given = _unwrapped(given, name)
    if not isinstance(given, list) or not given:
        raise _bad("has no image")
    images = [_image(given[place] if columnar else _unwrapped(given[place], name)) for place in range(len(given))]
    if any(isinstance(image, bytes) != (signature != DEFAULT_SIGNATURE) for image in images):
        kind = "arrays of pixels" if signature == DEFAULT_SIGNATURE else 'image files as {"b64": "..."}'
        raise _bad(f"has other images than the signature {signature} takes, which are {kind}")
    return PredictRequest(images, signature, columnar)


def _unwrapped(value: Any, name: str) -> Any:
    """Return the value of an object that has only the signature's input; anything else as it is."""
    if not isinstance(value, Mapping) or set(value) == {"b64"}:
        return value
    if set(value) != {name}:
        raise _bad(f"has the inputs {sorted(map(str, value))[:5]}, but the signature takes {name!r}")
    return value[name]


def _image(value: Any) -> np.ndarray | bytes:
    if isinstance(value, Mapping):
        text = value.get("b64") if set(value) == {"b64"} else None
        try:
            if isinstance(text, str):
                return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            pass
        raise _bad('has an image that is not {"b64": "..."} with base64 text')
    try:
        pixels = np.asarray(value)
    except ValueError:  # lists of different lengths
        pixels = np.zeros(0)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size or pixels.dtype.kind not in "iu":
        raise _bad("has an image that is not whole numbers [H][W][3]")
    if pixels.min() < 0 or pixels.max() > 255:
        raise _bad("has pixels outside 0..255")
    return pixels.astype(np.uint8)


def _bad(rule: str) -> UserError:
    return UserError("bad-request", rule, f"for example {_EXAMPLE}", where="the request")


def response(
    request: PredictRequest, predictions: Sequence[Prediction], encode: Callable[[np.ndarray], bytes]
) -> Iterator[bytes]:
    """Return the body of the response in pieces, so that neither memory nor Python's lock is held for all of it.

    Args:
      request: what was asked.
      predictions: one per image.
      encode: labels, int32 [H, W] -> a PNG file's bytes.

    Raises:
      UserError: `inputs` holds images of different sizes, whose outputs are no tensor (`size-mismatch`).
    """
    if request.columnar and request.signature != PNG_SIGNATURE and len({one.labels.shape for one in predictions}) > 1:
        rule = "holds images of different sizes, so that their outputs cannot form one tensor"
        raise UserError("size-mismatch", rule, "send them as `instances`", where="the request")
    return _joined(_parts(request, predictions, encode))


def _parts(
    request: PredictRequest, predictions: Sequence[Prediction], encode: Callable[[np.ndarray], bytes]
) -> Iterator[str]:
    """The texts that together are the response."""
    yield '{"outputs":' if request.columnar else '{"predictions":'
    if request.signature == PNG_SIGNATURE:  # a single output has no name
        yield from _listed([_dumped({"b64": base64.b64encode(encode(one.labels)).decode()})] for one in predictions)
    elif request.columnar:
        scores = [one.probabilities for one in predictions if one.probabilities is not None]
        yield from _named([one.labels for one in predictions], scores or None, _tensors)
    else:
        yield from _listed(_named(one.labels, one.probabilities, _rows) for one in predictions)
    yield "}"


def _named(labels: Any, probabilities: Any, parts: Callable[[Any], Iterator[str]]) -> Iterator[str]:
    """An object with labels and, if there are any, probabilities."""
    yield f'{{"{LABELS}":'
    yield from parts(labels)
    if probabilities is not None:
        yield f',"{PROBABILITIES}":'
        yield from parts(probabilities)
    yield "}"


def _tensors(arrays: Sequence[np.ndarray]) -> Iterator[str]:
    return _listed(map(_rows, arrays))


def _rows(array: np.ndarray) -> Iterator[str]:
    return _listed([_dumped(row.tolist())] for row in array)


def _listed(items: Iterable[Iterable[str]]) -> Iterator[str]:
    for number, parts in enumerate(items):
        yield "," if number else "["
        yield from parts
    yield "]"


def _joined(texts: Iterable[str]) -> Iterator[bytes]:
    """The texts in pieces that are worth to be sent."""
    kept, size = [], 0
    for text in texts:
        kept.append(text)
        size += len(text)
        if size > _PIECE:
            yield "".join(kept).encode()
            kept, size = [], 0
    yield "".join(kept).encode()


def _dumped(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))


def status(version: int) -> dict[str, Any]:
    """The response to a question for the state of a model."""
    ready = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": str(version), "state": "AVAILABLE", "status": ready}]}


def metadata(name: str, version: int, num_classes: int | None) -> dict[str, Any]:
    """The response to a question for the signatures of a model."""
    classes = num_classes or -1
    labels = _tensor("DT_INT32", LABELS, -1, -1, -1)
    outputs = {LABELS: labels, PROBABILITIES: _tensor("DT_FLOAT", PROBABILITIES, -1, -1, -1, classes)}
    file = _tensor("DT_STRING", IMAGE_BYTES, -1)
    signatures = {
        DEFAULT_SIGNATURE: _signature({IMAGES: _tensor("DT_UINT8", IMAGES, -1, -1, -1, 3)}, outputs),
        BYTES_SIGNATURE: _signature({IMAGE_BYTES: file}, outputs),
        PNG_SIGNATURE: _signature({IMAGE_BYTES: file}, {MASK_BYTES: _tensor("DT_STRING", MASK_BYTES, -1)}),
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _signature(inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    return {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}


def _tensor(dtype: str, name: str, *shape: int) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": f"{name}:0"}
