"""DICOM images as arrays: CT and MR slices, radiographs, and masks saved as DICOM. Needs the extra `medical`.

`images.py` and `labels.py` call it with a file's bytes. It reads one image per file; of files with several frames it
says how to separate them. It finds no files, and puts no series together: each file is an image of its own.
"""

from __future__ import annotations

import io

import numpy as np

from deeplab.utils.errors import UserError
from deeplab.utils.extras import require


def read_dicom(data: bytes, where: str) -> np.ndarray:
    """Return a DICOM image, [H, W, C], with the file's rescaling to physical values (Hounsfield units in CT).

    Args:
      data: the file.
      where: its name, for messages.

    Raises:
      UserError: pydicom is missing, the file is damaged (`unreadable-image`), or has several frames
        (`unsupported-pixels`).
    """
    pydicom = require("pydicom", "medical")
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        frames = int(dataset.get("NumberOfFrames") or 1)
        pixels = None if frames > 1 else dataset.pixel_array
        if dataset.get("SamplesPerPixel", 1) == 1 and ("RescaleSlope" in dataset or "RescaleIntercept" in dataset):
            slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
            if pixels is not None and (slope, intercept) != (1.0, 0.0):
                pixels = (pixels * slope + intercept).astype(np.float32)
    except Exception as error:  # damaged files raise InvalidDicomError, AttributeError, ValueError and others
        rule = f"cannot be read as a DICOM image: {' '.join(str(error).split())[:200]}"
        raise UserError("unreadable-image", rule, "copy or export the file again", where=where) from None
    if pixels is None:
        rule = f"has {frames} frames, but only single images can be read"
        hint = "export one file per frame, or convert it to a NIfTI volume (`dcm2niix`), which format 'nifti' reads"
        raise UserError("unsupported-pixels", rule, hint, where=where, value=frames)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
