"""The pages on adding one's own: their code runs, from top to bottom, in a process of its own."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ["add_a_loss", "add_an_augmentation", "add_a_reader", "add_an_export_format"]


def code_of(page: str) -> str:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))


@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs(page, tmp_path):
    code = code_of(page)
    assert code.count("assert ") >= 1
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
