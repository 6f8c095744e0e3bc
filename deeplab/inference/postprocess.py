"""Post-processing: functions from (probabilities, image) to probabilities, applied to every predicted image.

The setting `postprocess="crf,min_area:200,fill_holes"` names them in their order, with numbers after colons. To add
one, register a function that takes its numbers and returns the step, and test it with
`tests/support/postprocess_battery.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np

from deeplab.config.fields import split_words
from deeplab.inference.predictor import Prediction, Predictor
from deeplab.utils.errors import UserError
from deeplab.utils.registry import Registry

# probabilities float32 [H, W, classes] and the image uint8 [H, W, 3] -> probabilities of the same shape
Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
STEPS: Registry[Callable[..., Step]] = Registry("post-processing", field="postprocess")
STEPS.register_lazily("crf", "deeplab.inference.dense_crf")
BACKGROUND = 0


class PostprocessedPredictor(Predictor):
    """Another Predictor whose probabilities go through steps; pixels that no step changes keep their label.

    Args:
      inner: must have probabilities.
      steps: in their order.
    """

    def __init__(self, inner: Predictor, steps: Sequence[Step]):
        super().__init__(inner.source, inner.num_classes, max_size=inner.max_size)
        self.class_names, self.colors, self.names_are_known = inner.class_names, inner.colors, inner.names_are_known
        self.inner, self.steps, self.bands = inner, tuple(steps), inner.bands

    @property
    def step(self) -> int:  # type: ignore[override]
        return self.inner.step

    def _predict(self, image: np.ndarray, probabilities: bool) -> Prediction:
        labels, before = self.inner.predict(image, probabilities=True)
        if before is None:
            rule, hint = "this model file has no probabilities", "leave it out, or predict from the checkpoint"
            raise UserError("no-probabilities", rule, hint, field="postprocess")
        after = before
        shown = image if self.bands.is_rgb else self.bands.quick_look(image)
        for step in self.steps:
            after = step(after, shown)
        if after is not before:
            changed = after.argmax(-1) != before.argmax(-1)
            labels = np.where(changed, after.argmax(-1), labels).astype(np.int32)
        return Prediction(labels, after if probabilities else None)


def parse(text: str) -> list[Step]:
    """Read a setting such as `min_area:200,fill_holes`.

    Raises:
      UserError: an unknown name (`unknown-name`), or numbers that do not fit it (`wrong-type`).
    """
    steps = []
    for part in split_words(text):
        name, *words = (word.strip() for word in part.split(":"))
        factory = STEPS.get(name)
        try:
            numbers = [int(word) for word in words]
            inspect.signature(factory).bind(*numbers)
        except (TypeError, ValueError):
            rule = f"{part!r} does not fit {name}{inspect.signature(factory)}"
            hint = "write whole numbers after the name, each after a colon: min_area:200"
            raise UserError("wrong-type", rule, hint, field="postprocess", value=part) from None
        if any(number < 0 for number in numbers):
            raise UserError(
                "out-of-range", f"numbers must be at least 0, not {part!r}", field="postprocess", value=part
            )
        steps.append(factory(*numbers))
    return steps


# ---- steps -------------------------------------------------------------------------------------------------


@STEPS.register("min_area")
def min_area(pixels: int) -> Step:
    """Remove connected regions of fewer pixels: each of their pixels takes its next most probable class.

    That may make another small region, which is removed in turn.
    """

    def step(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
        for _ in range(probabilities.shape[-1]):
            labels, removed = probabilities.argmax(-1), np.zeros(probabilities.shape[:2], bool)
            for index in np.unique(labels):
                regions, areas = _regions(labels == index)
                removed |= (areas < pixels)[regions] & (regions > 0)
            if not removed.any() or removed.all():
                break
            probabilities = _without(probabilities, labels, removed)
        return probabilities

    return step


@STEPS.register("guided_filter")
def guided_filter(pixels: int = 8, levels: int = 20) -> Step:
    """Smooth probabilities along the edges of the gray image (He, Sun and Tang 2010, equations 5, 6 and 8).

    Args:
      pixels: radius of the window, at least 1.
      levels: differences of brightness up to about this many levels of 0..255 count as flat.
    """

    def step(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
        import cv2

        size = (2 * max(1, pixels) + 1,) * 2
        guide = image.astype(np.float32).mean(-1) / 255

        def mean(values: np.ndarray) -> np.ndarray:
            return cv2.blur(values, size, borderType=cv2.BORDER_REFLECT)

        average = mean(guide)
        variance = np.maximum(mean(guide * guide) - average * average, 0) + max(levels, 0.5) ** 2 / 255**2
        found = np.empty_like(probabilities)
        for index in range(probabilities.shape[-1]):
            values = np.ascontiguousarray(probabilities[..., index])
            of_values = mean(values)
            slope = (mean(guide * values) - average * of_values) / variance
            found[..., index] = mean(slope) * guide + mean(of_values - slope * average)
        found = np.maximum(found, 0)
        total = found.sum(-1, keepdims=True)
        return np.where(total > 0, found / np.where(total > 0, total, 1), probabilities)

    return step


@STEPS.register("largest_component")
def largest_component() -> Step:
    """Keep only the largest connected region of every class but the background."""

    def step(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
        labels, removed = probabilities.argmax(-1), np.zeros(probabilities.shape[:2], bool)
        for index in set(np.unique(labels).tolist()) - {BACKGROUND}:
            regions, areas = _regions(labels == index)
            removed |= (regions > 0) & (regions != 1 + areas[1:].argmax())
        return _without(probabilities, labels, removed)

    return step


@STEPS.register("fill_holes")
def fill_holes(max_pixels: int = 0) -> Step:
    """Give background regions that one class encloses to that class; with a number, only regions of up to that size."""

    def step(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
        import cv2

        labels = probabilities.argmax(-1)
        regions, areas = _regions(labels == BACKGROUND, connectivity=4)
        at_border = set(np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])).tolist())
        filled = probabilities
        for index in set(range(1, len(areas))) - at_border:
            if max_pixels and areas[index] > max_pixels:
                continue
            region = regions == index
            ring = cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~region
            around = np.unique(labels[ring])
            if len(around) == 1:
                filled = probabilities.copy() if filled is probabilities else filled
                filled[region] = _certain(around[0], probabilities)
        return filled

    return step


def _regions(mask: np.ndarray, connectivity: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Connected regions of a mask: their number at every pixel (0 outside), and their areas by number."""
    import cv2

    _, regions, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    return regions, facts[:, cv2.CC_STAT_AREA]


def _without(probabilities: np.ndarray, labels: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Probabilities in which the removed pixels have lost their class; background where nothing else is left."""
    if not removed.any():
        return probabilities
    changed = probabilities.copy()
    rows = changed[removed]
    rows[np.arange(len(rows)), labels[removed]] = 0
    total = rows.sum(-1, keepdims=True)
    changed[removed] = np.where(total > 0, rows / np.where(total > 0, total, 1), _certain(BACKGROUND, rows))
    return changed


def _certain(index: int, probabilities: np.ndarray) -> np.ndarray:
    """Probabilities of a pixel that certainly has a class: [classes]."""
    found = np.zeros(probabilities.shape[-1], probabilities.dtype)
    found[index] = 1
    return found
