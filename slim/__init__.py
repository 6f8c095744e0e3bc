"""Backbones: an image in, named feature maps out. Keras only; nothing here knows of segmentation."""

from slim import mobilenet_v2 as mobilenet_v2
from slim.backbones import Backbone, Features, Options, build, find, names, register

__all__ = ["Backbone", "Features", "Options", "build", "find", "names", "register"]
