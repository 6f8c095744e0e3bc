"""The backbone that `docs/add_a_backbone.md` shows is real: it passes what every backbone passes."""

import pathlib
import re

import pytest
from support.backbone_battery import Battery

from slim import backbones

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "add_a_backbone.md"


class TestDocumentedBackbone(Battery):
    variant = "tiny"

    @pytest.fixture(autouse=True)
    def registered(self, monkeypatch):
        monkeypatch.setattr(backbones, "_REGISTER", dict(backbones._REGISTER))
        code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)
        exec(compile(code, PAGE, "exec"), {"__name__": "tiny"})
