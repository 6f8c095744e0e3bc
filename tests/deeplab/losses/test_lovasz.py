"""Lovasz-softmax."""

import numpy as np
import pytest
from support.loss_battery import LossBattery, batch

from deeplab import losses


class TestLovasz(LossBattery):
    loss = "lovasz"
    golden = True


class TestLovaszPerImage(LossBattery):
    loss = "lovasz(per_image=True)"
    golden = True


def test_images_without_a_label_do_not_count():
    logits, labels = batch()
    labels[1] = 255
    alone = losses.get("lovasz").value(logits[:1], labels[:1])
    assert float(losses.get("lovasz(per_image=True)").value(logits, labels)) == pytest.approx(float(alone), rel=1e-6)


def reference(logits, labels, classes=3):
    """The formula of the paper's own code, in NumPy."""
    counted = labels != 255
    probabilities = np.exp(logits[counted]) / np.exp(logits[counted]).sum(-1, keepdims=True)
    values = []
    for index in range(classes):
        truth = (labels[counted] == index).astype(np.float64)
        if not truth.any():
            continue
        errors = np.abs(truth - probabilities[:, index])
        order = np.argsort(-errors)
        truth = truth[order]
        jaccard = 1 - (truth.sum() - truth.cumsum()) / (truth.sum() + (1 - truth).cumsum())
        values.append(errors[order] @ np.diff(jaccard, prepend=0))
    return np.mean(values)


@pytest.mark.parametrize("number", range(4))
def test_equals_the_papers_formula(number):
    logits, labels = batch(number)
    assert float(losses.get("lovasz").value(logits, labels)) == pytest.approx(reference(logits, labels), rel=1e-5)
