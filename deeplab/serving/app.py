"""The web server's application: the page, `/segment`, TensorFlow Serving's REST API, health and metrics.

Made by `create` from a `ServeConfig`; the command `serve` runs it with uvicorn. Clients send image files or pixels,
never paths or addresses. Decoding and encoding run in threads, models in the thread of their `Batcher`, so that the
server answers `/health` at any load.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import anyio.to_thread
import numpy as np
from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client import multiprocess as several_processes
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from deeplab import __version__
from deeplab.config.fields import make
from deeplab.config.prediction_config import InferenceConfig
from deeplab.config.serving_config import ServeConfig
from deeplab.data import mask_files
from deeplab.data.label_bits import as_label
from deeplab.inference.load import load
from deeplab.inference.predictor import Predictor
from deeplab.inference.tensor_names import BYTES_SIGNATURE, PNG_SIGNATURE
from deeplab.serving import protocol, segmentation_json
from deeplab.serving.admission import Admission, SentInPieces
from deeplab.serving.batching import Batcher, ModelFailed, QueueFull
from deeplab.serving.limits import RequestLimits
from deeplab.utils.errors import UserError
from deeplab.visualization.html_page import INTERACTIVE_STYLE

PAGE = pathlib.Path(__file__).parent / "page"
VERSION = 1
VersionNumber = Annotated[int, Path(ge=0, le=2**31 - 1)]
_STATUS = {
    "image-too-large": 413,
    "result-too-large": 413,
    "larger-than-crop": 413,
    "out-of-memory": 503,
    "unknown-name": 404,
}
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "description": "An image file: JPEG, PNG, WebP, TIFF or BMP.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/jpeg", "image/png", "application/octet-stream")
        },
    }
}


class ErrorBody(BaseModel):
    """What went wrong."""

    error: str
    code: str


class Health(BaseModel):
    """The state of the server."""

    status: Literal["ok"]
    version: str
    models: list[str]


class ServedClass(BaseModel):
    """A class of a model."""

    index: int
    name: str
    color: str


class ServedModel(BaseModel):
    """A model on this server."""

    name: str
    classes: list[ServedClass]


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The request cannot be understood."},
    401: {"model": ErrorBody, "description": "The key is missing or wrong."},
    404: {"model": ErrorBody, "description": "There is no such model."},
    408: {"model": ErrorBody, "description": "The request arrived too slowly."},
    413: {"model": ErrorBody, "description": "The request or its image is too large."},
    500: {"model": ErrorBody, "description": "The model failed."},
    503: {"model": ErrorBody, "description": "The server is busy; try again after the seconds in Retry-After."},
    504: {"model": ErrorBody, "description": "There was no result in time."},
}


class _Metrics:
    """Numbers for Prometheus, over all worker processes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("deeplab_requests", "Requests.", ("path", "status"), registry=self.registry)
        self.seconds = Histogram(
            "deeplab_request_seconds", "Time from a request to its response.", ("path",), registry=self.registry,
            buckets=_BUCKETS,
        )  # fmt: skip
        self.images = Counter("deeplab_images", "Images predicted.", ("model",), registry=self.registry)
        self.batches = Counter("deeplab_batches", "Calls of the model.", ("model",), registry=self.registry)
        self.failures = Counter(
            "deeplab_failed_batches", "Calls of the model that failed.", ("model", "code"), registry=self.registry
        )
        self.model_seconds = Histogram(
            "deeplab_model_seconds", "Time of a call of the model.", ("model",), registry=self.registry,
            buckets=_BUCKETS,
        )  # fmt: skip
        self.waiting = Gauge(
            "deeplab_queue_length", "Images that wait.", ("model",), registry=self.registry,
            multiprocess_mode="livesum",
        )  # fmt: skip

    def text(self) -> bytes:
        registry = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            several_processes.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


@dataclass(frozen=True)
class _Served:
    """A model on this server, and the queue in front of it."""

    name: str
    predictor: Predictor
    batcher: Batcher

    def description(self) -> ServedModel:
        colors = self.predictor.colors.tolist()
        classes = [
            ServedClass(index=index, name=name, color="#{:02x}{:02x}{:02x}".format(*colors[index]))
            for index, name in enumerate(self.predictor.class_names)
        ]
        return ServedModel(name=self.name, classes=classes)


def create(given: dict[str, Any], predictors: Sequence[Predictor] = ()) -> FastAPI:
    """Make the application.

    Args:
      given: settings of `ServeConfig` and `InferenceConfig` by name.
      predictors: the models, where they are loaded already; else they are loaded as `given` says.

    Raises:
      UserError: a model cannot be loaded.
    """
    config = make(ServeConfig, given)
    metrics = _Metrics()
    loaded = list(predictors) or load_models(given)
    names = [config.name, f"{config.name}-2"]
    served = {name: _serve(name, one, config, metrics) for name, one in zip(names, loaded, strict=False)}

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        for one in served.values():
            one.batcher.start()
        yield
        for one in served.values():
            await run_in_threadpool(one.batcher.stop, config.timeout_secs)

    app = FastAPI(
        title="deeplab",
        version=__version__,
        summary="Semantic segmentation of images.",
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses=_ERRORS,
    )
    app.state.served = served
    _add_middleware(app, config, metrics)
    _add_error_handlers(app)
    _add_page(app)
    admission = Admission(config)
    _add_segment(app, served, admission, metrics)
    _add_tensorflow_serving(app, served, admission)
    return app


def _find(served: dict[str, _Served], name: str) -> _Served:
    if name not in served:
        rule = f"there is no model {name[:64]!r} here"
        raise UserError("unknown-name", rule, f"this server has {', '.join(served)}", value=name)
    return served[name]


def load_models(given: dict[str, Any]) -> list[Predictor]:
    """The model of `given`, and the one to compare it with if there is one; both have predicted once.

    Raises:
      UserError: a model cannot be loaded, or takes other images than RGB.
    """
    config = make(ServeConfig, given)
    own = {name: value for name, value in given.items() if name in InferenceConfig.__dataclass_fields__}
    found = []
    for source in filter(None, (config.model, config.compare)):
        predictor = load(source, dict(own), config.dataset, config.crop_size, config.shrink_large_images)
        if not predictor.bands.is_rgb:
            channels, dtype = predictor.bands.channels, predictor.bands.dtype
            rule = f"takes images of {channels} channels of {dtype}; the server takes 8-bit RGB alone"
            raise UserError("wrong-channels", rule, "predict with `deeplab predict`", where=source, value=channels)
        predictor.predict(np.zeros((65, 65, 3), np.uint8))  # compiles, so that the first client need not wait
        found.append(predictor)
    return found


def _serve(name: str, predictor: Predictor, config: ServeConfig, metrics: _Metrics) -> _Served:
    def count(number: int, seconds: float) -> None:
        metrics.images.labels(name).inc(number)
        metrics.batches.labels(name).inc()
        metrics.model_seconds.labels(name).observe(seconds)

    def count_failure(code: str) -> None:
        metrics.failures.labels(name, code).inc()

    wait = config.batch_wait_ms / 1000 if config.max_batch > 1 else 0.0
    batcher = Batcher(predictor, config.max_batch, wait, config.max_queue, count, count_failure)
    return _Served(name, predictor, batcher)


# --- Routes -------------------------------------------------------------------------------------------------


def _add_middleware(app: FastAPI, config: ServeConfig, metrics: _Metrics) -> None:
    def measure(scope: dict[str, Any], status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", "other")  # never what a client wrote: it would fill the memory
        metrics.requests.labels(path, status).inc()
        metrics.seconds.labels(path).observe(seconds)

    api_key = config.api_key or os.environ.get("DEEPLAB_API_KEY", "")
    app.add_middleware(
        RequestLimits,
        max_bytes=int(config.max_request_mb * 1e6),
        timeout=config.timeout_secs,
        api_key=api_key,
        on_response=measure,
    )


def _add_error_handlers(app: FastAPI) -> None:
    def error(status: int, text: str, code: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": text, "code": code}, status, headers)

    @app.exception_handler(UserError)
    async def report_user_error(_request: Request, problem: UserError) -> JSONResponse:
        headers = {"Retry-After": "1"} if problem.code == "out-of-memory" else None
        return error(_STATUS.get(problem.code, 400), problem.text(), problem.code, headers)

    @app.exception_handler(QueueFull)
    async def report_busy(_request: Request, _problem: QueueFull) -> JSONResponse:
        return error(503, "too many images wait; try again", "busy", {"Retry-After": "1"})

    @app.exception_handler(TimeoutError)
    async def report_timeout(_request: Request, _problem: TimeoutError) -> JSONResponse:
        return error(504, "there was no result in time", "timeout")

    @app.exception_handler(ModelFailed)
    async def report_failure(_request: Request, _problem: ModelFailed) -> JSONResponse:
        return error(500, "the model failed: the server's terminal shows the traceback", "internal-error")

    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    @app.exception_handler(RequestValidationError)
    async def report_invalid(_request: Request, problem: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problem.errors()]
        return error(400, "; ".join(parts)[:500], "bad-request")

    @app.exception_handler(HTTPException)
    async def report_http_error(_request: Request, problem: HTTPException) -> JSONResponse:
        return error(problem.status_code, str(problem.detail), "bad-request", dict(problem.headers or {}))

    @app.exception_handler(Exception)
    async def report_bug(_request: Request, _problem: Exception) -> JSONResponse:
        return error(500, "the server has a bug: its terminal shows the traceback", "internal-error")


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get(f"/static/{INTERACTIVE_STYLE.name}", include_in_schema=False)
    async def style() -> FileResponse:
        return FileResponse(INTERACTIVE_STYLE)

    app.mount("/static", StaticFiles(directory=PAGE), name="static")


def _add_segment(app: FastAPI, served: dict[str, _Served], admission: Admission, metrics: _Metrics) -> None:
    default = next(iter(served))

    @app.get("/health", summary="Whether the server is up")
    async def health() -> Health:
        return Health(status="ok", version=__version__, models=list(served))

    @app.get("/models", summary="The models and their classes")
    async def models() -> list[ServedModel]:
        return [one.description() for one in served.values()]

    @app.get(
        "/metrics",
        summary="Numbers for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def numbers() -> Response:
        for one in served.values():
            metrics.waiting.labels(one.name).set(len(one.batcher))
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.post(
        "/segment",
        summary="Segment an image",
        description=(
            "The body is an image file, or a form with the file in the field `image`. The result is a palette PNG of "
            "class numbers, or JSON with classes and their areas, labels and confidence as PNG, and polygons if wanted."
        ),
        response_class=Response,
        openapi_extra=_IMAGE_BODY,
        responses={
            200: {
                "content": {
                    "image/png": {"schema": {"type": "string", "format": "binary"}},
                    "application/json": {"schema": {"type": "object"}},
                }
            }
        },
    )
    async def segment(
        request: Request,
        model: Annotated[str, Query(description="Name of the model.", max_length=70)] = default,
        output: Annotated[Literal["png", "json"], Query(description="Kind of the result.")] = "png",
        polygons: Annotated[bool, Query(description="Add outlines to the JSON.")] = False,
    ) -> Response:
        wanted = _find(served, model)
        data = await _image_file(request)
        (prediction,) = await admission.predict(wanted.batcher, [data], probabilities=output == "json")
        if output == "png":
            encoded = await run_in_threadpool(_palette_png, prediction.labels, wanted.predictor.colors)
            return Response(encoded, media_type="image/png")
        found = await run_in_threadpool(segmentation_json.content, model, wanted.predictor, prediction, polygons)
        return JSONResponse(found)


async def _image_file(request: Request) -> bytes:
    """The image in a request: its body, or the field `image` of a form."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await request.body()
    async with request.form(max_files=1, max_fields=10) as form:
        field = form.get("image")
        if field is None or isinstance(field, str):
            raise UserError("bad-request", "has no file in the field `image`", "curl -F image=@photo.jpg", where="form")
        return await field.read()


def _palette_png(labels: np.ndarray, colors: np.ndarray) -> bytes:
    # There are 256 colors, or 65536 where labels have 16 bits.
    return mask_files.encode_index_png(as_label(labels, len(colors)), colors)


def _add_tensorflow_serving(app: FastAPI, served: dict[str, _Served], admission: Admission) -> None:
    def require_version(number: int) -> None:
        if number != VERSION:
            raise UserError("unknown-name", f"there is no version {number}", f"this server has version {VERSION}")

    @app.get("/v1/models/{name}", summary="State of a model", tags=["TensorFlow Serving"])
    async def status(name: str) -> dict[str, Any]:
        _find(served, name)
        return protocol.status(VERSION)

    @app.get("/v1/models/{name}/versions/{number}", summary="State of a version", tags=["TensorFlow Serving"])
    async def version_status(name: str, number: VersionNumber) -> dict[str, Any]:
        _find(served, name)
        require_version(number)
        return protocol.status(VERSION)

    @app.get("/v1/models/{name}/metadata", summary="Signatures of a model", tags=["TensorFlow Serving"])
    async def metadata(name: str) -> dict[str, Any]:
        return protocol.metadata(name, VERSION, _find(served, name).predictor.num_classes)

    @app.get("/v1/models/{name}/versions/{number}/metadata", include_in_schema=False)
    async def version_metadata(name: str, number: VersionNumber) -> dict[str, Any]:
        require_version(number)
        return await metadata(name)

    @app.post(
        "/v1/models/{name}:predict",
        summary="Predict images",
        tags=["TensorFlow Serving"],
        response_class=Response,
        openapi_extra=_PREDICT_BODY,
        responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
    )
    async def predict(name: str, request: Request) -> Response:
        wanted = _find(served, name)
        asked = await anyio.to_thread.run_sync(protocol.parse, await request.body(), limiter=admission.parsers)
        colors, classes = wanted.predictor.colors, wanted.predictor.num_classes or 1

        def encode(labels: np.ndarray) -> bytes:
            return _palette_png(labels, colors)

        if asked.signature == PNG_SIGNATURE:
            found = await admission.predict(wanted.batcher, asked.images, probabilities=False)
            body = await run_in_threadpool(lambda: b"".join(protocol.response(asked, found, encode)))
            return Response(body, media_type="application/json")
        async with admission.sending(classes, asked.images) as sent:
            found = await admission.predict(wanted.batcher, asked.images, probabilities=True)
            return SentInPieces(protocol.response(asked, found, encode), sent)

    @app.post("/v1/models/{name}/versions/{number}:predict", include_in_schema=False)
    async def predict_version(name: str, number: VersionNumber, request: Request) -> Response:
        require_version(number)
        return await predict(name, request)


_PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "signature_name": {"type": "string", "enum": [*protocol.INPUT_OF]},
                        "instances": {"type": "array", "items": {}, "minItems": 1},
                        "inputs": {},
                    },
                    "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
                },
                "example": {"signature_name": BYTES_SIGNATURE, "instances": [{"b64": "..."}]},
            }
        },
    }
}
