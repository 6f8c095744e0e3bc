"""The backbone of `docs/add_a_backbone.md` under its name `tiny`: built and traced in a tenth of MobileNetV2's time."""

import contextlib
import pathlib
import re
from unittest import mock

from slim import backbones

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "add_a_backbone.md"


@contextlib.contextmanager
def registered():
    """`tiny` is a backbone inside, as the page's code registers it."""
    with mock.patch.object(backbones, "_REGISTRY", dict(backbones._REGISTRY)):
        code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)
        exec(compile(code, PAGE, "exec"), {"__name__": "tiny"})
        yield
