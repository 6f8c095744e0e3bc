r"""Uploads a model with a generated model card to the Hugging Face hub.

    deeplab push --model=runs/mine/train --to=hf://me/hair --metrics=runs/mine/eval --license=apache-2.0 --dry_run=true
    deeplab push --model=runs/mine/export --to=hf://me/hair --metrics=runs/mine/eval --license=apache-2.0

The first line prints the card and the names of the files, and sends nothing. The repository is created if it does not
exist, visible to you only unless --private=false; files of an earlier push stay in its history. Paths of this computer
are removed from config.yml and metadata.json. Others use the model by its address:

    deeplab predict --model=hf://me/hair --input=photos --output_dir=masks
    deeplab pull --model=hf://me/hair --output_dir=models/hair

The access token comes from HF_TOKEN or from `hf auth login`, HF_ENDPOINT selects another server. Needs the extra `hub`.
"""

from __future__ import annotations

import pathlib
import sys

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.checkpoint import hub
from deeplab.checkpoint.find import require_something
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.sharing_config import PushConfig
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_text
from deeplab.utils.text import byte_text

GROUPS = (PushConfig,)
CARD = "README.md"


def run(given: Given) -> None:
    """Runs the command."""
    (config,) = configs_from(given, GROUPS)
    address = hub.parse(config.to, "to")
    if hub.is_address(config.model):
        rule, hint = "is already on the hub", "pull it first, or copy the repository on the hub"
        raise UserError("not-a-file", rule, hint, field="model", value=config.model)
    require_something(config.model)
    card = read_text(config.card) if config.card else ""
    console.import_tensorflow()
    from deeplab.sharing import model_card, model_files

    model = model_files.collect(config.model, config.checkpoint)
    metrics = model_card.read_metrics(config.metrics, model) if config.metrics else None
    if not card:
        card = model_card.render(model, address, config.license, metrics, config.data_license)
    files = {**model.files, CARD: card.encode()}
    for name, content in sorted(files.items()):
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        print(f"{byte_text(size):>8}  {name}")
    for missing in ("metrics", "license", "data_license"):
        if not getattr(config, missing) and not config.card:
            console.warning(f"the model card has gaps: `{missing}` was not given")
    if config.dry_run:
        print(f"\n{card}")
        return
    page = hub.publish(files, config.to, config.message, config.private)
    print(f"pushed: {page}\nto use it: deeplab predict --model={config.to} --input=photos --output_dir=masks")


COMMAND = Command("push", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
