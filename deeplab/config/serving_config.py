"""Config of `serve`: models, address, limits."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deeplab.config.data_config import IMAGE_SIDE
from deeplab.config.fields import Config, Size, setting
from deeplab.utils.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ServeConfig(Config):
    """Server."""

    model: str = setting(
        "",
        "Training folder, checkpoint prefix, zoo:NAME, hf://USER/NAME, or an exported file: frozen graph (.pb), "
        "SavedModel folder, .keras, .tflite, .onnx, .mnn, OpenVINO folder.",
        required=True,
    )
    compare: str = setting("", "A second model, to compare on the page; its name in addresses is NAME-2.")
    name: str = setting("deeplab", "Name of the model in addresses: /v1/models/NAME.")
    host: str = setting(
        "127.0.0.1",
        "Address to listen on; 0.0.0.0 = all, so that other machines can reach the server; set an `api_key` then.",
    )
    port: int = setting(8080, "Port; 0 = any that is free.", min=0, max=65535, because="ports have 16 bits")
    workers: int = setting(
        1, "Processes, each with the models in its memory.", min=1, max=64, because="each holds the models"
    )
    api_key: str = setting(
        "", "Key that clients must send as `Authorization: Bearer KEY` (unset: that in DEEPLAB_API_KEY, else none)."
    )
    max_batch: int = setting(
        8,
        "Images of one size that the model predicts together.",
        min=1,
        max=1024,
        because="they must fit into memory",
        unit="images",
    )
    batch_wait_ms: float = setting(
        2.0,
        "Maximum time that an image waits for others of its size.",
        min=0,
        max=10_000,
        because="clients would give up",
        unit="ms",
    )
    max_queue: int = setting(
        32,
        "Images that may wait per worker; further requests get 503.",
        min=1,
        max=100_000,
        because="waiting images take memory",
    )
    max_request_mb: float = setting(
        20.0, "Largest request.", above=0, max=4096, because="it is held in memory", unit="MB"
    )
    max_megapixels: float = setting(
        25.0, "Largest image.", above=0, max=1000, because="memory grows with it", unit="millions of pixels"
    )
    timeout_secs: float = setting(
        30.0,
        "Time for a request, from its first byte to its result; also for running requests when the server stops.",
        above=0,
        max=86_400,
        because="clients would give up",
        unit="seconds",
    )
    dataset: str = setting("", "Known dataset or dataset.yml for class names and colors (unset: as trained).")
    crop_size: Size | None = setting(
        None, "Height,width to which images are padded (unset: each keeps its size).", **IMAGE_SIDE, unit="pixels"
    )
    shrink_large_images: bool = setting(
        True, "Shrink images that are larger than the model takes, and enlarge their masks again."
    )

    def validate(self) -> None:
        if not NAME.fullmatch(self.name):
            rule = f"{self.name!r} cannot be part of an address"
            raise UserError("bad-name", rule, "use letters, digits, '.', '_' and '-'", field="name", value=self.name)
        if self.api_key and not self.api_key.isascii():
            raise UserError("bad-name", "must be ASCII, as it travels in a header", field="api_key")
