r"""Downloads a model from the Hugging Face hub into a folder.

    deeplab pull --model=hf://someone/hair --output_dir=models/hair
    deeplab predict --model=models/hair --input=photos --output_dir=masks

Commands also accept the address itself; then the files stay in the cache ($DEEPLAB_CACHE). Only the files of the model
are downloaded. The access token for private repositories comes from HF_TOKEN or `hf auth login`; HF_ENDPOINT
selects another server. A model file is a program: docs/security.md says how it is treated. Needs the extra `hub`.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import tempfile

if __package__ in (None, ""):  # run as a file: the packages are found from the repository's root
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from deeplab.checkpoint import hub
from deeplab.config.command_line import Command, Given, configs_from
from deeplab.config.sharing_config import PullConfig
from deeplab.utils.errors import UserError
from deeplab.utils.files import writing

GROUPS = (PullConfig,)


def run(given: Given) -> None:
    """Runs the command."""
    (config,) = configs_from(given, GROUPS)
    hub.parse(config.model, "model")
    target = pathlib.Path(config.output_dir).expanduser()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        rule, hint = "exists and is not empty", "choose another folder"
        raise UserError("would-overwrite", rule, hint, field="output_dir", where=target)
    source = hub.fetch(config.model)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", suffix=".partial") as folder:
            inside = pathlib.Path(folder, "model")
            shutil.copytree(source, inside)
            os.replace(inside, target)
    print(f"{config.model} is in {target}:")
    for path in sorted(path for path in target.rglob("*") if path.is_file()):
        print(f"  {path.relative_to(target)}")


COMMAND = Command("pull", run, GROUPS, __doc__)


def main() -> int:
    """Runs the command on the words of the command line; returns the exit code."""
    return COMMAND.main()


if __name__ == "__main__":
    sys.exit(main())
