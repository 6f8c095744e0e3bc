"""The skeleton and the blocks of HTML reports."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.html_reader import HOSTILE, require_one_file

from deeplab.visualization import html_page
from deeplab.visualization.charts import LineChart

TEMPLATE = """{% extends "page.html.j2" %}
{% from "blocks.html.j2" import gallery, line_chart, png, table, tiles %}
{% block title %}{{ name }}{% endblock %}
{% block heading %}{{ name }}{% endblock %}
{% block content %}
{{ tiles([("1,234", name)]) }}
{{ table(["class", name], [[name, 0.5], ["b", "0.25"]], numeric=[1]) }}
{{ gallery(figures) }}
{{ line_chart(chart) }}
{{ png(data, name) }}
<p>{{ 1234567 | commas }} {{ 0.123 | percent }} {{ 3 | twice }}</p>
{% endblock %}
{% block written_by %}a test{% endblock %}
"""


@pytest.fixture
def page(tmp_path):
    (tmp_path / "some.html.j2").write_text(TEMPLATE)
    image = np.random.default_rng(0).integers(0, 256, (80, 640, 3), np.uint8)
    figures = [html_page.Figure((("image", html_page.jpeg(image)),), HOSTILE)]
    chart = LineChart("IoU", {HOSTILE: [(0, 0.1), (10, 0.5)], "other": [(0, 0.2)]})
    values = {"name": HOSTILE + "\x1b\ud800", "figures": figures, "chart": chart, "data": b"\x89PNG"}
    return html_page.render(tmp_path / "some.html.j2", values, {"twice": lambda number: 2 * number})


def test_one_file_in_which_nothing_becomes_markup(page):
    read = require_one_file(page)
    assert read.text.count("<script>alert(2)</script>") >= 8
    assert "1,234,567 12.3 % 6" in read.text and "\x1b" not in page and "Written by deeplab" in read.text
    assert [attributes.get("class") for attributes in read.all("td")] == [None, "number", None, "number"]
    assert len(read.all("polyline")) == 2 and len(read.all("circle")) == 3 and len(read.all("img")) == 2


def test_images_are_shrunk_to_fit():
    image = np.zeros((100, 1000, 3), np.uint8)
    assert Image.open(io.BytesIO(html_page.jpeg(image, 200))).size == (200, 20)
    assert Image.open(io.BytesIO(html_page.jpeg(image[:, :90], 200))).size == (90, 100)


def test_shrunk_labels_hold_no_mixed_colors():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = (255, 0, 0)
    shrunk = np.asarray(Image.open(io.BytesIO(html_page.jpeg(image, 32, smooth=False)))).astype(int)
    assert min(abs(shrunk[..., 0].mean() - value) for value in (0, 255)) < 4
    averaged = np.asarray(Image.open(io.BytesIO(html_page.jpeg(image, 32)))).astype(int)
    assert abs(averaged[..., 0].mean() - 127) < 8


def test_colors():
    assert html_page.hex_color(np.array([255, 0, 9], np.uint8)) == "#ff0009"


def test_jinja2_is_imported_only_when_a_page_is_written():
    code = "import deeplab.visualization.html_page, sys; assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
