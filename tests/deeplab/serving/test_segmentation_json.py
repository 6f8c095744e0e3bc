"""The JSON of /segment: areas, PNGs that give back the exact numbers, polygons with holes."""

import base64

import cv2
import numpy as np
from support.threshold_predictor import ByRed

from deeplab.inference.predictor import Prediction
from deeplab.serving import segmentation_json


def pixels_of(text):
    return cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_UNCHANGED)


def ring():
    labels = np.zeros((20, 30), np.int32)
    labels[2:18, 3:19] = 2
    labels[6:12, 7:13] = 0
    labels[1, 28] = 1  # a speck
    return labels


def test_it_gives_back_labels_and_confidence():
    labels = ring()
    scores = np.eye(3, dtype=np.float32)[labels] * 0.8 + 0.2 / 3
    found = segmentation_json.content("mine", ByRed(), Prediction(labels, scores), polygons=False)
    assert (found["model"], found["height"], found["width"]) == ("mine", 20, 30)
    assert (pixels_of(found["labels_png"]) == labels).all()
    assert (pixels_of(found["confidence_png"]) == round(255 * (0.8 + 0.2 / 3))).all()
    fractions = [one["fraction"] for one in found["classes"]]
    assert np.allclose(fractions, np.bincount(labels.ravel()) / 600) and "polygons" not in found
    assert [one["color"] for one in found["classes"]] == ["#000000", "#800000", "#008000"]
    assert segmentation_json.content("mine", ByRed(), Prediction(labels, None), False)["confidence_png"] is None


def test_polygons_drawn_again_give_the_labels():
    labels = ring()
    (polygon,) = segmentation_json.polygons_of(labels, ["a", "b", "c"])  # the speck is too small
    assert (polygon["class"], polygon["index"], len(polygon["holes"])) == ("c", 2, 1)
    drawn = np.zeros(labels.shape, np.uint8)
    cv2.fillPoly(drawn, [np.array(polygon["points"])], 2)
    inside = np.zeros(labels.shape, np.uint8)
    cv2.fillPoly(inside, [np.array(polygon["holes"][0])], 1)
    border = np.zeros(labels.shape, np.uint8)
    cv2.polylines(border, [np.array(polygon["holes"][0])], True, 1)
    drawn[(inside == 1) & (border == 0)] = 0  # the outline of a hole runs through pixels of the class
    labels[1, 28] = 0
    assert (drawn == labels).all()


def test_an_image_of_background_has_no_polygons():
    assert segmentation_json.polygons_of(np.zeros((4, 4), np.int32), ["a"]) == []
