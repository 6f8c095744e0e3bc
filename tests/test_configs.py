"""configs/: every recipe is taken by `train`, equals the published model, and states what to expect."""

import pathlib
import re
import shlex

import pytest

from deeplab import __main__ as program
from deeplab import train
from deeplab.checkpoint import zoo
from deeplab.config.command_line import configs_from, read_config_file
from deeplab.config.fields import as_dict, make
from deeplab.config.model_config import ModelConfig
from deeplab.data import dataset as datasets

ROOT = pathlib.Path(__file__).parents[1]
RECIPES = sorted((ROOT / "configs").glob("*.yml"))
EXPECTED = re.compile(r"^# expected mean IoU: (0\.\d{4}) \((val|test); output stride (\d+), (.+)\)$", re.M)


def published():
    """The checkpoints of the zoo that have a published result, by name."""
    return {name: entry for name, entry in zoo.entries().items() if entry.published}


def test_there_is_one_per_published_result():
    assert [path.stem for path in RECIPES] == sorted(published())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes(path):
    text, entry = path.read_text(encoding="utf-8"), published()[path.stem]
    given = read_config_file(str(path), train.GROUPS)
    configs = configs_from({**given, "train_logdir": "x", "dataset_dir": "y"}, train.GROUPS)
    model = next(config for config in configs if isinstance(config, ModelConfig))
    wanted = as_dict(make(ModelConfig, entry.flags))
    assert {name: value for name, value in as_dict(model).items() if value != wanted[name]} == {}
    described = datasets.load_known(given["dataset"])
    assert given["dataset"] == entry.dataset and given["train_split"] in described.splits
    assert [round(100 * float(number), 2) for number, *_ in EXPECTED.findall(text)] == [
        one["miou"] for one in entry.published
    ]
    assert "# source: " in text and f"zoo:{path.stem}" in text
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if f"`{path.name}`" in line and line.startswith("|"))
    assert re.findall(r"0\.\d{4}", row) == [number for number, *_ in EXPECTED.findall(text)]
    lines = re.findall(r"^#   deeplab (.+)$", text, re.M)
    for line in lines:
        name, *words = shlex.split(line)
        assert program.command_of(name).parse(words) is not None
    assert lines[0].startswith(f"train --config=configs/{path.name} ")
