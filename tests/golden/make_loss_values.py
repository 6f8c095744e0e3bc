"""Makes loss_values.json: values and gradients of losses by PyTorch, for tests/support/loss_battery.py.

    PYTHONPATH=tests python tests/golden/make_loss_values.py

Needs torch 2.13 and segmentation-models-pytorch 0.6 (`pip install --no-deps` will do, as only its losses are imported);
the tests need neither. Dice, Jaccard, Tversky and Lovasz are those of segmentation-models-pytorch; cross-entropy and
label smoothing those of torch. The others are written here by their formulas, because the libraries mean something else
by these names: their focal loss is a sum of binary ones (the same in mmsegmentation), their Tversky takes the power of
the mean instead of each class, and their boundary losses need distance maps from the dataset. Bootstrapping is
mmsegmentation's OHEMPixelSampler, averaged over the pixels that it keeps.
"""

import importlib
import importlib.util
import json
import math
import pathlib
import sys
import types

import numpy as np
import torch
from support.loss_batches import CLASSES, IGNORE, batch
from torch.nn.functional import cross_entropy

BATCHES = [{"number": 0}, {"number": 1, "size": [3, 8, 7], "scale": 1.0}]
EVERY = 11  # of how many pixels one has its gradient in the file


def main() -> None:
    """Writes the file."""
    found = {name: [measured(loss, kind) for kind in BATCHES] for name, loss in all_losses().items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(cases)}" for name, cases in found.items())
    path = pathlib.Path(__file__).with_name("loss_values.json")
    path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def measured(loss, kind: dict) -> dict:
    """One case: how the batch is made, the value, and the gradient of every eleventh pixel."""
    logits, labels = batch(**kind)
    logits = torch.tensor(np.moveaxis(logits, -1, 1), dtype=torch.float64, requires_grad=True)
    value = loss(logits, torch.tensor(labels, dtype=torch.int64))
    value.backward()
    gradient = np.moveaxis(logits.grad.numpy(), 1, -1).reshape(-1, CLASSES)[::EVERY]
    rounded = [[float(f"{number:.7g}") for number in pixel] for pixel in gradient.tolist()]
    return {"batch": kind, "value": float(f"{value.item():.9g}"), "gradient": rounded, "gradient_every": EVERY}


def all_losses() -> dict:
    """Functions of logits [B, C, H, W] and labels [B, H, W] by the name of this project's loss."""
    library = library_losses()
    region = {"mode": "multiclass", "from_logits": True, "ignore_index": IGNORE}
    return {
        "cross_entropy": lambda x, y: cross_entropy(x, y, ignore_index=IGNORE),
        "label_smoothing": lambda x, y: cross_entropy(x, y, ignore_index=IGNORE, label_smoothing=0.1),
        "focal": lambda x, y: focal(x, y, 2.0),
        "focal(gamma=0.5)": lambda x, y: focal(x, y, 0.5),
        "dice": library.DiceLoss(**region),
        "jaccard": library.JaccardLoss(**region),
        "tversky(alpha=0.3, beta=0.7)": library.TverskyLoss(**region, alpha=0.3, beta=0.7),
        "focal_tversky": focal_tversky,
        "lovasz": lambda x, y: library.LovaszLoss("multiclass", False, IGNORE)(x.float(), y),
        "lovasz(per_image=True)": lambda x, y: library.LovaszLoss("multiclass", True, IGNORE)(x.float(), y),
        "bootstrapped_cross_entropy": bootstrapped,
        "boundary_cross_entropy": boundary,
    }


def library_losses() -> types.ModuleType:
    """The losses of segmentation-models-pytorch, without the models that its package imports."""
    name = "segmentation_models_pytorch"
    package = types.ModuleType(name)
    package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = package
    return importlib.import_module(f"{name}.losses")


def focal(logits, labels, gamma: float):
    """Mean of (1 - p) ** gamma * -log(p) over the labeled pixels (Lin et al. 2017, equation 4)."""
    entropy = cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")[labels != IGNORE]
    return ((1 - torch.exp(-entropy)) ** gamma * entropy).mean()


def focal_tversky(logits, labels, alpha: float = 0.3, beta: float = 0.7, gamma: float = 0.75):
    """Mean over the classes of (1 - Tversky index) ** gamma (Abraham and Khan 2018)."""
    labeled = labels != IGNORE
    probabilities = logits.softmax(1).movedim(1, -1)[labeled]
    truth = torch.nn.functional.one_hot(labels[labeled], CLASSES)
    hits = (probabilities * truth).sum(0)
    misses, alarms = (truth * (1 - probabilities)).sum(0), (probabilities * (1 - truth)).sum(0)
    return ((1 - hits / (hits + alpha * alarms + beta * misses)) ** gamma).mean()


def bootstrapped(logits, labels, threshold: float = 0.7, fraction: float = 0.0625):
    """Mean cross-entropy of the pixels with a probability below the threshold, at least the hardest `fraction`."""
    entropy = cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")[labels != IGNORE]
    ranked = entropy.detach().sort(descending=True).values
    limit = min(-math.log(threshold), ranked[max(int(fraction * len(ranked)) - 1, 0)].item())
    return entropy[entropy >= limit].mean()


def boundary(logits, labels, strength: float = 4.0, width: int = 5):
    """Cross-entropy times 1 + strength * exp(-d ** 2 / (2 (width / 2) ** 2)), d by brute force, below `width`."""
    entropy = cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    weights = torch.ones_like(entropy)
    for image, label in enumerate(labels.numpy()):
        pixels = [tuple(place) for place in np.argwhere(label != IGNORE)]
        border = [
            (y, x)
            for y, x in pixels
            if {*label[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].ravel().tolist()} - {IGNORE, int(label[y, x])}
        ]
        for y, x in pixels:
            distance = min((max(abs(y - v), abs(x - u)) for v, u in border), default=width)
            if distance < width:
                weights[image, y, x] += strength * math.exp(-(distance**2) / (2 * (width / 2) ** 2))
    return (entropy * weights)[labels != IGNORE].mean()


if __name__ == "__main__":
    main()
