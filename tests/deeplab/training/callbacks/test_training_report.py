"""The report is written after the last step, not after a stop."""

import re

import pytest
from support import tiny_backbone
from support.callback_battery import CallbackBattery

from deeplab import train
from deeplab.training import report_page
from deeplab.training.callbacks import curves

pytestmark = pytest.mark.xdist_group("training")


class TestTrainingReport(CallbackBattery):
    name = "training_report"


@pytest.fixture(scope="module")
def folder(disc_records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported")
    given = {
        "dataset_dir": disc_records,
        "train_logdir": folder,
        "model_variant": "tiny",
        "train_crop_size": "33,33",
        "train_batch_size": 4,
        "training_number_of_steps": 4,
        "random_seed": 1,
        "batch_norm_calibration_batches": 0,
        "learning_policy": "cosine",
        "eval_every": 2,
        "log_steps": 1,
    }
    with tiny_backbone.registered():
        assert train.COMMAND.main([f"--{name}={value}" for name, value in given.items()]) == 0
    return folder


def test_it_holds_results_curves_classes_images_data_settings_and_machine(folder):
    page = (folder / report_page.REPORT_FILE).read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert [heading for heading in headings if "images" not in heading] == [
        *("Curves", "Classes on val", "Data", "Settings that differ from the defaults", "Machine and time"),
    ]
    assert {"Best images", "Worst images"} < set(headings) and page.count("data:image/jpeg") == 2 * 4 * 4
    for text in ("IoU per class", "mean IoU on val, last step", "learning_policy", "cosine", "tensorflow 2", "keras 3"):
        assert text in page, text
    assert page.count('class="chart"') == 4 and "pair_100" in page and "4 steps" in page


def test_it_needs_nothing_beside_it(folder):
    page = (folder / report_page.REPORT_FILE).read_text()
    assert not re.search(r"<script|<link|src=\"(?!data:)|url\((?!data:)", page)
    assert (folder / curves.CURVES).read_bytes().startswith(b"\x89PNG")


def test_long_curves_are_thinned_and_keep_their_end():
    points = [(step, 1.0) for step in range(10_001)]
    assert len(report_page.thinned(points)) < 420 and report_page.thinned(points)[-1] == (10_000, 1.0)
    assert report_page.thinned(points[:5]) == points[:5] and report_page.thinned([]) == []
