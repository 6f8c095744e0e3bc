"""Backbones: an image in, named feature maps out. Imports only Keras, and nothing of segmentation."""

from slim import drn as drn
from slim import keras_applications as keras_applications
from slim import mobilenet_edgetpu as mobilenet_edgetpu
from slim import mobilenet_v2 as mobilenet_v2
from slim import mobilenet_v3 as mobilenet_v3
from slim import nas as nas
from slim import resnet_v1 as resnet_v1
from slim import resnet_v2 as resnet_v2
from slim import xception as xception
from slim.backbones import (
    IMAGENET_MEAN,
    MID_GRAY,
    Backbone,
    Features,
    OptionError,
    Options,
    build,
    find,
    names,
    register,
    register_family,
)

__all__ = [
    "IMAGENET_MEAN",
    "MID_GRAY",
    "Backbone",
    "Features",
    "OptionError",
    "Options",
    "build",
    "find",
    "names",
    "register",
    "register_family",
]
