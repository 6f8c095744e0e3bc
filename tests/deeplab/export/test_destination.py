"""Where exports go: which formats they write, under which names, and what they may replace."""

import dataclasses

import pytest
from support.errors import raises
from support.export_battery import export, names
from support.small_exports import NARROW, make_settings

from deeplab.export import destination
from deeplab.export.formats import FORMATS, ExportFormat

BOTH = ("frozen_graph", "saved_model")


def test_all_takes_what_is_installed_and_names_the_rest(live_model, tmp_path, monkeypatch, capsys):
    cheap = ExportFormat("copy.txt", ".txt", lambda model, path: [])
    formats = {
        "frozen_graph": FORMATS.get("frozen_graph"),
        "rare": dataclasses.replace(cheap, needs={"no_such_library": "rare"}),
        "int8": dataclasses.replace(cheap, is_calibrated=True),
    }
    monkeypatch.setattr(destination, "FORMATS", formats)
    export(live_model, tmp_path, formats=("all",), parity_images=1)
    assert names(tmp_path) == ["export_report.md", "frozen_inference_graph.pb", "labels.txt", "metadata.json"]
    noted = capsys.readouterr().err
    assert "left out: rare (needs no_such_library: extra rare); int8 (needs `calibration_images`)" in noted


def test_a_format_that_cannot_hold_the_model_is_left_out_of_all_and_refused_by_name(
    live_model, tmp_path, monkeypatch, capsys
):
    small = ExportFormat(
        "copy.txt", ".txt", lambda model, path: [], unfit=lambda settings, count: "too many" if count > 3 else ""
    )
    formats = {"frozen_graph": FORMATS.get("frozen_graph"), "small": small}
    monkeypatch.setattr(destination, "FORMATS", formats)
    with raises("not-supported", field="formats") as caught:
        export(live_model, tmp_path / "a", formats=("small",), parity_images=1)
    assert caught.value.value == "small" and "too many" in caught.value.rule and not (tmp_path / "a").exists()
    export(live_model, tmp_path / "b", formats=("all",), parity_images=1)
    assert "frozen_inference_graph.pb" in names(tmp_path / "b") and "copy.txt" not in names(tmp_path / "b")
    assert "left out: small (too many)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mediapipe", "web_page"])
@pytest.mark.parametrize(
    ("settings", "num_classes", "fits"),
    [({}, 256, True), ({}, 257, False), ({"config": dataclasses.replace(NARROW, input_channels=4)}, 4, False)],
)
def test_formats_for_8_bit_rgb_and_8_bit_masks(name, settings, num_classes, fits):
    assert (FORMATS.get(name).unfit(make_settings(**settings), num_classes) == "") is fits


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, False),
        ({"quantize_delay_step": -1}, True),
        ({"atrous_rates": (2,)}, True),
        ({"aspp_with_batch_norm": True}, True),
    ],
)
def test_integers_need_a_range_for_the_sum_of_logits(changes, fits):
    settings = {"quantize_delay_step": 0, "aspp_with_batch_norm": False, "atrous_rates": (1, 2), **changes}
    config = dataclasses.replace(NARROW, **settings)
    assert (FORMATS.get("litert_int8").unfit(make_settings(config), 4) == "") is fits


def test_fixed_size_without_a_format_that_takes_it(live_model, tmp_path):
    with raises("conflicting-settings", field="fixed_size") as caught:
        export(live_model, tmp_path, formats=("keras",), fixed_size=True)
    assert "frozen_graph and saved_model" in caught.value.rule and names(tmp_path) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_export_is_never_replaced(live_model, tmp_path, overwrite):
    (tmp_path / "graph_saved_model").mkdir()
    (tmp_path / "graph_saved_model" / "thesis.txt").write_text("mine")
    with raises("would-overwrite", where=tmp_path / "graph_saved_model"):
        export(live_model, tmp_path / "graph.pb", formats=BOTH, overwrite=overwrite)
    assert names(tmp_path) == ["graph_saved_model"] and names(tmp_path / "graph_saved_model") == ["thesis.txt"]


@pytest.mark.parametrize("name", ["graph.pb", "graph_metadata.json", "inference_graph.pbtxt", "graph_export_report.md"])
def test_a_file_that_is_no_export_is_replaced_only_on_request(live_model, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with raises("would-overwrite", where=tmp_path / name) as error:
        export(live_model, tmp_path / "graph.pb", save_inference_graph=True)
    assert "`overwrite=true`" in error.value.hint
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "mine"
    export(live_model, tmp_path / "graph.pb", save_inference_graph=True, overwrite=True, parity_images=1)
    assert (tmp_path / name).read_bytes() != b"mine"


def test_other_class_names_are_set_aside(live_model, tmp_path):
    (tmp_path / "labels.txt").write_text("my own\n")
    export(live_model, tmp_path / "graph.pb")
    assert (tmp_path / "labels.previous-1.txt").read_text() == "my own\n"
    assert names(tmp_path) == [
        "graph.pb",
        "graph_export_report.md",
        "graph_metadata.json",
        "labels.previous-1.txt",
        "labels.txt",
    ]


@pytest.mark.parametrize(("suffix", "is_folder"), [(".txt", False), (".saved", False), (".pb", True)])
def test_the_path_must_have_the_suffix_of_a_format(live_model, tmp_path, suffix, is_folder):
    path = tmp_path / f"graph{suffix}"
    if is_folder:
        path.mkdir()
    with raises("wrong-suffix", field="export_path") as error:
        export(live_model, path)
    assert error.value.value == str(path) and f"`export_path={path}.pb`" in error.value.hint


def test_unknown_and_missing_formats_are_refused(live_model, tmp_path):
    with raises("unknown-name", field="formats") as error:
        export(live_model, tmp_path, formats=("frozen_grpah",))
    assert "'frozen_graph'" in error.value.hint
    with raises("missing-setting", field="formats"):
        export(live_model, tmp_path, formats=("saved_model",), saved_model=False)
