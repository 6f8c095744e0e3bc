"""Weights of other projects: PyTorch, safetensors and Keras HDF5 files as checkpoints with TensorFlow-1 names.

`sources.yml` has the name maps as data, `sources.py` applies them, and each `*_file.py` reads one kind of file without
running anything in it. Called by `deeplab.checkpoint.find`. Nothing here writes such files or knows layers.
"""

from __future__ import annotations

import os

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".safetensors", ".h5", ".hdf5")  # of PyTorch also `.pth.tar`


def is_foreign(path: str) -> bool:
    """Whether a path is an existing file whose name and first bytes are those of another project's weights."""
    if not path.endswith(SUFFIXES) or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return False
    if path.endswith((".h5", ".hdf5")):
        return head.startswith(b"\x89HDF")
    if path.endswith(".safetensors"):
        return True
    return head.startswith((b"PK\x03\x04", b"\x80\x02"))  # a zip archive, or a pickle


def in_folder(folder: str) -> str | None:
    """The file of another project's weights in a folder, as the Hugging Face hub has them; None where there is none.

    Of several, `.safetensors` comes first, then the first by name.
    """
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    found = sorted(filter(is_foreign, paths), key=lambda path: not path.endswith(".safetensors"))
    return found[0] if found else None
