"""A drawn sample dataset to start with: stylized portraits with hair, skin and background.

    python -m deeplab.data.sample_dataset --output_dir=sample_data --count=200

The command writes `images/*.jpg`, `color_masks/*.png` in the colors of the LFW part labels (blue background, red hair,
green skin) and `lists/train.txt`, `lists/val.txt`. The task is not trivial: tones of skin, hair and background overlap,
hair falls over the forehead in strands, clothes and hats are background, light and sharpness vary. 200 portraits take
about ten seconds on two processor cores.
"""

from __future__ import annotations

import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.data_config import SampleConfig
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.files import writing

BACKGROUND, HAIR, SKIN = 0, 1, 2
CLASS_NAMES = ("background", "hair", "skin")
MASK_COLORS = np.array([(0, 0, 255), (255, 0, 0), (0, 255, 0)], np.uint8)  # RGB, as in the LFW part labels
_TRAIN_FRACTION = 0.8
FINER = 2  # images are drawn this many times larger and then shrunk, for smooth edges

SKIN_TONES = ((255, 219, 186), (240, 195, 160), (224, 172, 125), (198, 134, 88), (141, 85, 52), (92, 56, 38))
HAIR_TONES = (
    (28, 24, 22),
    (60, 40, 28),
    (106, 72, 44),
    (150, 110, 66),
    (205, 170, 110),
    (150, 60, 30),
    (170, 168, 165),
)
CLOTH_TONES = ((40, 60, 110), (150, 40, 50), (60, 110, 70), (210, 200, 185), (45, 45, 50), (200, 150, 60))
STYLES = ("short", "short", "long", "long", "bob", "afro", "bun", "bald")

Array = np.ndarray


def write_sample_set(folder: str | pathlib.Path, count: int = 200, seed: int = 0) -> None:
    """Draw `count` portraits into `folder`; the docstring of the module lists the files.

    Raises:
      UserError: the folder holds a sample already (`would-overwrite`), or files cannot be written.
    """
    folder = pathlib.Path(folder)
    if (folder / "lists").exists():
        rule, hint = "holds a sample dataset already", "remove it, or give another `output_dir`"
        raise UserError("would-overwrite", rule, hint, where=folder)
    for name in ("images", "color_masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = [f"portrait_{number:04d}" for number in range(count)]
    with ThreadPoolExecutor() as pool:  # each portrait has its own random generator, so their order does not matter
        draw = [
            pool.submit(_write_portrait, folder, name, np.random.default_rng((seed, i))) for i, name in enumerate(names)
        ]
        for portrait in console.progress(draw, what="drawing portraits", unit="image"):
            portrait.result()
    _write_lists(folder, names)


def _write_portrait(folder: pathlib.Path, name: str, rng: np.random.Generator) -> None:
    height, width = (int(length) for length in rng.integers(160, 320, 2))
    image, label = draw_portrait(rng, height, width)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 96))]
    _write(folder / "images" / f"{name}.jpg", image, quality)
    _write(folder / "color_masks" / f"{name}.png", MASK_COLORS[label], [])


def _write(path: pathlib.Path, rgb: Array, options: list[int]) -> None:
    with writing(path):
        path.write_bytes(cv2.imencode(path.suffix, rgb[..., ::-1], options)[1].tobytes())


def _write_lists(folder: pathlib.Path, names: list[str]) -> None:
    """Write the lists last and in one rename, so that a folder with lists is complete."""
    border = min(len(names) - 1, max(1, round(len(names) * _TRAIN_FRACTION)))
    temporary = folder / ".lists"
    temporary.mkdir(exist_ok=True)
    for split, chosen in (("train", names[:border]), ("val", names[border:])):
        (temporary / f"{split}.txt").write_text("\n".join(chosen) + "\n")
    temporary.rename(folder / "lists")


# ---- one portrait --------------------------------------------------------------------------------------


def draw_portrait(rng: np.random.Generator, height: int, width: int) -> tuple[Array, Array]:
    """Draw a portrait and its label.

    Args:
      rng: the source of all randomness.
      height, width: size in pixels, each at least 64.

    Returns:
      uint8 [height, width, 3], RGB, and uint8 [height, width]: 0 background, 1 hair, 2 skin.
    """
    canvas = _Canvas(rng, height * FINER, width * FINER)
    face = _Face.random(rng, canvas.height, canvas.width)
    style = str(rng.choice(STYLES))
    canvas.paint_background()
    canvas.paint_hair(_back_hair(face, style, rng))
    _paint_body(canvas, face, rng)
    _paint_head(canvas, face, rng)
    canvas.paint_hair(_front_hair(face, style, rng))
    canvas.paint_strands(face, style)
    if rng.random() < 0.12 and style not in ("afro", "bun"):  # no hat fits over these
        canvas.paint(_hat(face, rng), canvas.pick(CLOTH_TONES), BACKGROUND)
    return _finish(canvas, rng, height, width)


@dataclass(frozen=True)
class _Face:
    """Position of the face: center, half axes in pixels, tilt in radians. In its own units 1 is half an axis."""

    x: float
    y: float
    a: float
    b: float
    tilt: float

    @staticmethod
    def random(rng: np.random.Generator, height: int, width: int) -> _Face:
        a = min(height, width) * rng.uniform(0.15, 0.25)
        return _Face(
            width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.52), a, a * rng.uniform(1.2, 1.4),
            rng.uniform(-0.25, 0.25),
        )  # fmt: skip

    def at(self, u: float | Array, v: float | Array) -> Array:
        """Pixels of points in the face's own units: (0, 0) its center, (0, -1) its top. Shape [..., 2]: x, y."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        du, dv = np.asarray(u) * self.a, np.asarray(v) * self.b
        return np.stack([self.x + du * cos - dv * sin, self.y + du * sin + dv * cos], -1)

    def oval(
        self, ru: float, rv: float, u: float = 0.0, v: float = 0.0, wobble: float = 0.0, phase: float = 0.0
    ) -> Array:
        """Outline of an ellipse around (u, v), its radius wobbling a little."""
        angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
        radius = 1 + wobble * np.sin(7 * angle + phase) + wobble * np.sin(3 * angle - phase)
        return self.at(u + ru * radius * np.cos(angle), v + rv * radius * np.sin(angle))


class _Canvas:
    """An image and its label, painted together."""

    def __init__(self, rng: np.random.Generator, height: int, width: int):
        self.rng, self.height, self.width = rng, height, width
        self.image = np.zeros((height, width, 3), np.float32)
        self.label = np.full((height, width), BACKGROUND, np.uint8)
        self.skin, self.hair = self.pick(SKIN_TONES), self.pick(HAIR_TONES)
        self.strands = _strand_texture(rng, height, width)

    def pick(self, tones: tuple[tuple[int, int, int], ...]) -> Array:
        """One of the tones, slightly varied."""
        return np.clip(np.array(tones[self.rng.integers(len(tones))]) + self.rng.normal(0, 8, 3), 0, 255)

    def region(self, outline: Array) -> Array:
        """bool [H, W]: the inside of an outline of points [n, 2]."""
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
        return mask.astype(bool)

    def paint(self, outline: Array, color: Array, label: int | None = None) -> None:
        """Fills an outline with a color, and the label if one is given."""
        points = [np.round(outline).astype(np.int32)]
        cv2.fillPoly(self.image, points, [float(c) for c in color])
        if label is not None:
            cv2.fillPoly(self.label, points, label)

    def shade(self, outline: Array, brightness: Array) -> None:
        """Multiplies the image inside an outline by a brightness for each column, float [W]."""
        left, top, width, height = cv2.boundingRect(np.round(outline).astype(np.int32))
        rows, columns = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        factor = np.where(self.region(outline)[rows, columns], brightness[columns], 1)
        self.image[rows, columns] *= factor[..., np.newaxis]

    def paint_hair(self, outline: Array | None) -> None:
        """Fills an outline with strands of hair."""
        if outline is None:
            return
        region = self.region(outline)
        self.image[region] = self.hair * self.strands[region][:, np.newaxis]
        self.label[region] = HAIR

    def paint_strands(self, face: _Face, style: str) -> None:
        """Single strands outside the outline, most of them over forehead and temples."""
        if style == "bald":
            return
        for _ in range(int(self.rng.integers(40, 110))):
            angle, length = self.rng.uniform(-np.pi * 0.95, -np.pi * 0.05), self.rng.uniform(0.15, 0.6)
            start = np.array([np.cos(angle) * 1.02, np.sin(angle) * 0.98 * self.rng.uniform(0.75, 1.15)])
            bend = self.rng.uniform(-0.5, 0.5)
            t = np.linspace(0, 1, 8)
            points = face.at(start[0] + bend * length * t**2, start[1] + length * t * self.rng.choice([1.0, -0.3]))
            self._line(points, self.hair * self.rng.uniform(0.7, 1.3), int(self.rng.integers(1, 4)))

    def _line(self, points: Array, color: Array, thickness: int) -> None:
        pixels = [np.round(points).astype(np.int32)]
        cv2.polylines(self.image, pixels, False, [float(c) for c in np.clip(color, 0, 255)], thickness, cv2.LINE_AA)
        cv2.polylines(self.label, pixels, False, HAIR, thickness)

    def paint_background(self) -> None:
        """A wall: gradient, perhaps stripes or patches, in tones that skin and hair may have, too."""
        rng = self.rng
        tones = [*SKIN_TONES, *HAIR_TONES, *CLOTH_TONES, (120, 160, 200), (90, 130, 80), (220, 220, 225)]
        first, second = self.pick(tuple(tones)), self.pick(tuple(tones))
        height, width = self.height // FINER, self.width // FINER  # no detail here needs more
        rows, columns = np.ogrid[0:height, 0:width]
        angle = rng.uniform(0, np.pi)
        along = ((columns * np.cos(angle) + rows * np.sin(angle)) / max(height, width)).astype(np.float32)
        kind = rng.integers(3)
        if kind == 0:
            weight = np.clip(along, 0, 1)
        elif kind == 1:
            weight = 0.5 + 0.5 * np.sign(np.sin(along * rng.uniform(15, 60)))
        else:
            weight = _smooth_noise(rng, height, width, int(rng.integers(4, 14)))
        wall = first + (second - first) * (weight * rng.uniform(0.3, 1.0))[..., np.newaxis]
        cv2.resize(wall.astype(np.float32), (self.width, self.height), dst=self.image)
        for _ in range(int(rng.integers(0, 5))):  # furniture, lamps, other things
            center = rng.uniform(0, 1, 2) * (self.width, self.height)
            size = rng.uniform(0.04, 0.2, 2) * self.width
            angles = np.linspace(0, 2 * np.pi, int(rng.choice([4, 6, 40])), endpoint=False) + rng.uniform(0, 3)
            self.paint(center + size * np.stack([np.cos(angles), np.sin(angles)], -1), self.pick(tuple(tones)))


# ---- parts of a portrait -------------------------------------------------------------------------------


def _back_hair(face: _Face, style: str, rng: np.random.Generator) -> Array | None:
    """Hair behind the head and the shoulders."""
    phase = rng.uniform(0, 6)
    if style == "afro":
        return face.oval(rng.uniform(1.6, 2.0), rng.uniform(1.35, 1.6), 0, -0.35, 0.03, phase)
    if style in ("long", "bob"):
        drop = rng.uniform(1.7, 2.6) if style == "long" else rng.uniform(0.9, 1.2)
        u = np.array([-1.25, -1.4, -1.3, -0.6, 0.6, 1.3, 1.4, 1.25, 0.7, 0.0, -0.7]) * rng.uniform(0.95, 1.15)
        v = np.array([-0.4, 0.5, drop, drop * 1.05, drop * 1.05, drop, 0.5, -0.4, -1.15, -1.32, -1.15])
        return _rounded(face.at(u, v + rng.normal(0, 0.04, v.shape)))
    if style == "bun":
        return face.oval(0.55, 0.45, rng.uniform(-0.3, 0.3), -1.45, 0.04, phase)
    return None


def _front_hair(face: _Face, style: str, rng: np.random.Generator) -> Array | None:
    """The cap of hair over skull and forehead, with a parting or a fringe."""
    if style == "bald":
        return None
    top = {"afro": 1.6, "long": 1.3, "bob": 1.3, "bun": 1.22}.get(style, rng.uniform(1.2, 1.4))
    side = rng.uniform(-0.25, 0.1) if style == "short" else rng.uniform(0.0, 0.35)
    angle = np.linspace(np.pi + 0.15, 2 * np.pi - 0.15, 24)
    outer = np.stack([1.16 * np.cos(angle), top * np.sin(angle)], -1)
    outer = np.concatenate([[[-1.1, side]], outer, [[1.1, side]]])
    across = np.linspace(0.95, -0.95, 15)
    parting, depth = rng.uniform(-0.7, 0.7), rng.uniform(0.35, 0.85)
    fringe = -depth + 0.35 * np.abs(across - parting) + rng.normal(0, 0.05, across.shape)
    inner = np.stack([across * 0.98, np.minimum(fringe, 0.1)], -1)
    outline = np.concatenate([outer, inner])
    return _rounded(face.at(outline[:, 0], outline[:, 1]))


def _paint_body(canvas: _Canvas, face: _Face, rng: np.random.Generator) -> None:
    """Clothes (background), and the neck with a neckline (skin)."""
    cloth = canvas.pick(CLOTH_TONES if rng.random() < 0.8 else SKIN_TONES)
    breadth, drop = rng.uniform(1.9, 2.8), rng.uniform(1.35, 1.6)
    u = np.array([-0.5, 0.5, 1.2, breadth, breadth * 1.1, -breadth * 1.1, -breadth, -1.2])
    v = np.array([drop, drop, drop + 0.15, drop + 0.6, 6.0, 6.0, drop + 0.6, drop + 0.15])
    outline = _rounded(face.at(u, v))
    canvas.paint(outline, cloth, BACKGROUND)
    if rng.random() < 0.5:
        stripe, body = canvas.pick(CLOTH_TONES), canvas.region(outline)
        stripes = np.zeros_like(body)
        for level in np.arange(drop + 0.3, 5.0, rng.uniform(0.3, 0.6)):
            line = face.at(np.array([-breadth, breadth, breadth, -breadth]), level + np.array([0, 0, 0.1, 0.1]))
            stripes |= canvas.region(line)
        canvas.image[body & stripes] = stripe
    neckline = rng.uniform(0.05, 0.7)
    u = np.array([-0.5, 0.5, 0.55, 0.3, 0.0, -0.3, -0.55])
    v = np.array([0.5, 0.5, drop, drop + neckline * 0.6, drop + neckline, drop + neckline * 0.6, drop])
    canvas.paint(_rounded(face.at(u, v)), canvas.skin * 0.85, SKIN)


def _paint_head(canvas: _Canvas, face: _Face, rng: np.random.Generator) -> None:
    """Ears, face and features, all skin."""
    for ear in (-1, 1):
        canvas.paint(face.oval(0.16, 0.22, ear * 1.02, 0.05), canvas.skin * 0.92, SKIN)
    outline = face.oval(1.0, 1.0, wobble=0.01, phase=rng.uniform(0, 6))
    canvas.paint(outline, canvas.skin, SKIN)
    canvas.shade(outline, 1 + rng.uniform(-0.25, 0.25) * (np.arange(canvas.width) - face.x) / face.a / 2)
    gaze, iris = rng.uniform(-0.04, 0.04), canvas.pick(((60, 90, 130), (70, 50, 35), (70, 110, 70)))
    for eye in (-0.4, 0.4):
        canvas.paint(face.oval(0.17, 0.07, eye, -0.08), np.array([240, 240, 240]))
        canvas.paint(face.oval(0.07, 0.06, eye + gaze, -0.08), iris)
        canvas.paint(face.oval(0.03, 0.03, eye + gaze, -0.08), np.array([15, 15, 15]))
        canvas.paint(face.oval(0.22, 0.035, eye, -0.28), canvas.hair * 0.9)
    canvas.paint(face.oval(0.1, 0.16, 0.02, 0.22), canvas.skin * 0.9)
    canvas.paint(face.oval(rng.uniform(0.2, 0.33), 0.06, 0, 0.55), np.clip(canvas.skin * (0.9, 0.6, 0.6), 0, 255))
    if rng.random() < 0.2:  # glasses
        for eye in (-0.4, 0.4):
            ring = np.round(face.oval(0.28, 0.2, eye, -0.08)).astype(np.int32)
            cv2.polylines(canvas.image, [ring], True, (30.0, 30.0, 30.0), 2 * FINER, cv2.LINE_AA)


def _hat(face: _Face, rng: np.random.Generator) -> Array:
    brim, top = rng.uniform(-0.75, -0.55), rng.uniform(-1.7, -1.45)
    u = np.array([-1.6, -1.15, -1.0, 1.0, 1.15, 1.6, 1.6, -1.6])
    return face.at(u, np.array([brim - 0.1, brim - 0.12, top, top, brim - 0.12, brim - 0.1, brim, brim]))


# ---- textures and light --------------------------------------------------------------------------------


def _strand_texture(rng: np.random.Generator, height: int, width: int) -> Array:
    """Brightness of hair, about 1: noise stretched along the strands, straight or curly. float32 [H, W]."""
    noise = rng.standard_normal((height, width), np.float32)
    noise = cv2.blur(noise, (1, int(rng.integers(15, 45)))) * 4
    curl, period = rng.uniform(0, 10) * FINER, rng.uniform(15, 45) * FINER
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    noise = cv2.remap(
        noise, columns + curl * np.sin(rows / period * 6.28), rows, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT
    )
    return np.clip(1 + 0.16 * noise, 0.45, 1.7)


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> Array:
    """Soft patches, 0..1, float32 [H, W]."""
    return cv2.resize(rng.random((cells, cells), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def _rounded(points: Array) -> Array:
    """A polygon with its corners cut three times (Chaikin 1974): a smooth outline."""
    for _ in range(3):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], 1).reshape(-1, 2)
    return points


def _finish(canvas: _Canvas, rng: np.random.Generator, height: int, width: int) -> tuple[Array, Array]:
    """Adds light, blur and noise, and shrinks image and label to their final size."""
    light = 0.75 + 0.5 * _smooth_noise(rng, height, width, 3)
    image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA) * light[..., np.newaxis]
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    image = image * rng.uniform(0.7, 1.2) + rng.uniform(1, 12) * rng.standard_normal(image.shape, np.float32)
    label = cv2.resize(canvas.label, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), label


def run(given: Given) -> None:
    """Runs the command."""
    (config,) = configs_from(given, [SampleConfig])
    write_sample_set(config.output_dir, config.count, config.seed)


COMMAND = Command("sample_dataset", run, (SampleConfig,), __doc__)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
