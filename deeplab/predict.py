"""Makes masks for one's own pictures.

    python deeplab/predict.py --model=runs/first --input=photos --output_dir=masks

`--model` is a training folder, a checkpoint, a frozen graph (.pb) or a SavedModel folder. Writes `mask/NAME.png`
(palette PNG: pixels are class numbers), `color/NAME.png`, `overlay/NAME.png` and `summary.csv`, each class's share of
each picture. Masks have the pictures' sizes. Takes about 0.1 seconds a picture of 500x375 on two processor cores
(MobileNetV2 at output stride 16). A picture that cannot be read is named, the others are done, and the exit code is 1.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.config import flags
from deeplab.config.data_config import ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.prediction_config import InferenceConfig, PredictConfig
from deeplab.utils.errors import UserError
from deeplab.utils.locks import folder_lock

GROUPS = (PredictConfig, InferenceConfig, ResizeConfig, ModelConfig)


def predict(given: dict[str, Any]) -> None:
    """The command, after its flags have been read."""
    from deeplab.data import image_files
    from deeplab.inference import folder
    from deeplab.inference.segmenter import Segmenter

    (config,) = flags.settings_from(given, [PredictConfig])
    source = source_of(config)
    pictures = image_files.find_images(config.input, config.recursive)
    folder.refuse_own_results(pictures, config.output_dir)
    folder.refuse_to_overwrite(pictures, (), config)  # before the network is loaded; again with class names
    own = flags.fields_of([PredictConfig])
    segmenter = Segmenter(
        source,
        dataset=config.dataset,
        crop_size=config.crop_size,
        shrink_large_images=config.shrink_large_images,
        **{name: value for name, value in given.items() if name not in own},
    )
    pathlib.Path(config.output_dir).mkdir(parents=True, exist_ok=True)
    with folder_lock(config.output_dir, "predicting", "give another --output_dir"):
        outcome = folder.predict_all(segmenter, pictures, config)
    if outcome.shares:
        print(folder.table(outcome.shares))
    print(f"written: {len(outcome.shares)} of {len(pictures)} pictures into {config.output_dir}", flush=True)
    if outcome.faults:
        names = ", ".join(fault.where for fault in outcome.faults[:5])
        raise UserError(
            "failed-images", f"failed: {names}", "see above", where=f"{len(outcome.faults)} of {len(pictures)} pictures"
        )


def source_of(config: PredictConfig) -> str:
    """The model, under whichever of its four names it was given.

    Raises:
      UserError: none or several were given.
    """
    names = ("model", "checkpoint_dir", "checkpoint_path", "export_path")
    given = {name: getattr(config, name) for name in names if getattr(config, name)}
    if not given:
        hint = "give a training folder, checkpoint, frozen graph or SavedModel"
        raise UserError("missing-setting", "must be given", hint, field="model")
    if len(set(given.values())) != 1:
        rule = f"{' and '.join(f'`{name}`' for name in given)} name different models"
        raise UserError("conflicting-settings", rule, "give one of them", field="model")
    return next(iter(given.values()))


def main() -> int:
    """Entry point; returns the exit code."""
    return flags.run_given(predict, GROUPS, purpose=__doc__)


if __name__ == "__main__":
    sys.exit(main())
