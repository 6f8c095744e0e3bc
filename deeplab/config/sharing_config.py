"""Config of `push` and `pull`: the model, its address on the hub, and its model card."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deeplab.config.fields import Config, setting
from deeplab.config.prediction_config import CHECKPOINTS
from deeplab.utils.errors import UserError

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


@dataclass(frozen=True)
class PushConfig(Config):
    """Publishing a model on the hub."""

    model: str = setting(
        "", "Training folder, checkpoint prefix, exported file, or a folder of exported files.", required=True
    )
    to: str = setting("", "Address: hf://USER/NAME, or hf://USER/NAME@BRANCH.", required=True)
    checkpoint: str = setting("latest", "Checkpoint of a training folder.", choices=CHECKPOINTS)
    metrics: str = setting("", "Folder or metrics.json of `deeplab eval`, for the results in the model card.")
    license: str = setting("", "License of the weights as the hub names it, such as apache-2.0 or cc-by-nc-4.0.")
    data_license: str = setting("", "License of the images and labels that the model was trained on.")
    card: str = setting("", "Markdown file to use as the model card (unset: it is generated).")
    private: bool = setting(True, "Make a new repository visible to its owner only; an existing one stays as it is.")
    message: str = setting("Add a DeepLab model", "Message of the commit.")
    dry_run: bool = setting(False, "Print the model card and the names of the files; send nothing.")

    def validate(self) -> None:
        if self.license and not _LICENSE.fullmatch(self.license):
            rule = f"{self.license!r} is not the short name of a license"
            hint = "use the hub's: apache-2.0, mit, cc-by-4.0, cc-by-nc-4.0, other, ..."
            raise UserError("bad-name", rule, hint, field="license", value=self.license)


@dataclass(frozen=True)
class PullConfig(Config):
    """Downloading a model from the hub."""

    model: str = setting("", "Address: hf://USER/NAME, hf://USER/NAME@REVISION, hf://USER/NAME/FOLDER.", required=True)
    output_dir: str = setting(
        "", "Folder for the model; it must not exist, or it must be empty.", required=True, writes="folder"
    )
