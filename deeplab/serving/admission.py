"""Admits images to the models as memory allows: their number of pixels is known before they are decoded.

The routes of the server call it with the bytes of requests. It decodes images and hands them to the queue of a model
(`batching.py`); it knows nothing of HTTP but how a response that is sent in pieces gives its memory back.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import anyio.to_thread
import numpy as np
from fastapi.responses import StreamingResponse
from PIL import Image
from starlette.concurrency import run_in_threadpool

from deeplab.config.serving_config import ServeConfig
from deeplab.data import images
from deeplab.inference.predictor import Prediction
from deeplab.inference.tensor_names import PNG_SIGNATURE
from deeplab.serving.batching import Batcher
from deeplab.utils.errors import UserError

_NUMBERS = 4  # of a response in JSON, per pixel of the largest image


class Budget:
    """An amount that running requests share: a request that needs more than is left waits for the others.

    Args:
      total: the amount; a request must not need more.
    """

    def __init__(self, total: float):
        self.total, self._taken, self._changed = total, 0.0, asyncio.Condition()

    async def take(self, amount: float) -> None:
        """Wait until so much is left, and take it. Cancel the call to give up."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._taken + amount <= self.total)
            self._taken += amount

    async def give_back(self, amount: float) -> None:
        """Return what was taken."""
        async with self._changed:
            self._taken -= amount
            self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def taken(self, amount: float) -> AsyncIterator[None]:
        """Take an amount for the time of a block."""
        await self.take(amount)
        try:
            yield
        finally:
            await asyncio.shield(self.give_back(amount))


class Admission:
    """From the bytes of a request to predictions, within the limits.

    Args:
      config: of the server.

    Attributes:
      pixels: of the images that are decoded, wait or are predicted; together no more than the largest image may have.
      numbers: labels and probabilities that are being sent as JSON.
      parsers: the number of requests whose JSON is read at the same time.
    """

    def __init__(self, config: ServeConfig):
        self.config = config
        self.pixels = Budget(config.max_megapixels * 1e6)
        self.numbers = Budget(_NUMBERS * config.max_megapixels * 1e6)
        self.parsers = anyio.CapacityLimiter(1)

    async def predict(
        self, batcher: Batcher, given: Sequence[np.ndarray | bytes], probabilities: bool
    ) -> list[Prediction]:
        """Decode and predict.

        Args:
          batcher: the queue of the model.
          given: uint8 images [H, W, 3], RGB, or the bytes of image files.
          probabilities: whether predictions have the probabilities of the classes.

        Raises:
          UserError: an image that cannot be read, or is too large.
          QueueFull: too many images wait.
          TimeoutError: there is no result in time.
        """
        async with asyncio.timeout(self.config.timeout_secs):
            size = await self.size(given)
            async with self.pixels.taken(size):
                pixels = [await run_in_threadpool(_decoded, one, place) for place, one in enumerate(given)]
                futures = batcher.submit(pixels, probabilities)
                try:
                    return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))
                finally:
                    for future in futures:
                        future.cancel()

    async def size(self, given: Sequence[np.ndarray | bytes]) -> int:
        """The number of pixels of all images together, from their headers.

        Raises:
          UserError: an image that cannot be read, or one or all of them are too large.
        """
        return await run_in_threadpool(self._size, given)

    def _size(self, given: Sequence[np.ndarray | bytes]) -> int:
        total, limit = 0, self.config.max_megapixels
        for place, one in enumerate(given):
            width, height = _size_of(one, place)
            total += width * height
            if total > limit * 1e6:
                rule, where = f"has {width}x{height} pixels, more than {limit:g} million", f"image {place}"
                if width * height <= limit * 1e6:
                    rule, where = f"has images of more than {limit:g} million pixels together", "the request"
                raise UserError("image-too-large", rule, "make them smaller, or send fewer of them", where=where)
        return total

    @contextlib.asynccontextmanager
    async def sending(
        self, classes: int, given: Sequence[np.ndarray | bytes]
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Reserve the memory of labels and probabilities that are sent as JSON.

        Args:
          classes: number of probabilities per pixel.
          given: as in `predict`.

        Yields:
          What to call when they have been sent; after an error in the block that is done already.

        Raises:
          UserError: they are too many (`result-too-large`).
          TimeoutError: other responses use the memory for too long.
        """
        amount = await self.size(given) * (classes + 1)
        if amount > self.numbers.total:
            rule = f"would give {amount / 1e6:.0f} million numbers, more than {self.numbers.total / 1e6:g} million"
            hint = f"use the signature {PNG_SIGNATURE}, or /segment?output=json, or send smaller images"
            raise UserError("result-too-large", rule, hint, where="the request")
        async with asyncio.timeout(self.config.timeout_secs):
            await self.numbers.take(amount)

        async def give_back() -> None:
            await asyncio.shield(self.numbers.give_back(amount))

        try:
            yield give_back
        except BaseException:
            await give_back()
            raise


class SentInPieces(StreamingResponse):
    """A response whose memory is given back when it has been sent, or the client is gone.

    Args:
      pieces: of its JSON.
      at_end: what gives the memory back.
    """

    def __init__(self, pieces: Iterator[bytes], at_end: Callable[[], Awaitable[None]]):
        super().__init__(pieces, media_type="application/json")
        self._at_end = at_end

    async def __call__(self, *given: Any) -> None:
        try:
            await super().__call__(*given)
        finally:
            await self._at_end()


def _size_of(given: np.ndarray | bytes, place: int) -> tuple[int, int]:
    """Width and height of an image.

    Raises:
      UserError: it is no image.
    """
    if isinstance(given, np.ndarray):
        return given.shape[1], given.shape[0]
    try:
        with Image.open(io.BytesIO(given)) as opened:
            return opened.size
    except Image.DecompressionBombError:
        return 1_000_000, 1_000_000
    except Exception as problem:  # damaged headers raise whatever they like
        rule = "is not an image that can be read" if given else "is empty"
        hint = "send the content of a JPEG or PNG file"
        raise UserError("unreadable-image", rule, hint, where=f"image {place}") from problem


def _decoded(given: np.ndarray | bytes, place: int) -> np.ndarray:
    return given if isinstance(given, np.ndarray) else images.decode_rgb(given, f"image {place}")
