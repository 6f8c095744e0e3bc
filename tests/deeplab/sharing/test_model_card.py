"""The model card: true, complete, readable by the hub."""

import json

import pytest
import yaml
from support.errors import raises

from deeplab.checkpoint.hub import parse
from deeplab.sharing import model_card
from deeplab.sharing.model_files import ModelFiles

FACTS = {
    "class_names": ["ground", "hair | <b>", "skin"],
    "training_images": 40,
    "dataset_name": "faces",
    "model_variant": "mobilenet_v2",
    "output_stride": 16,
    "tf_initial_checkpoint": "imagenet",
    "optimizer": "momentum",
}
MODEL = ModelFiles("checkpoint", {}, FACTS)


def metrics(**changes):
    classes = [{"name": name, "iou": value} for name, value in zip(FACTS["class_names"], (0.9, None, 0.5), strict=True)]
    intervals = {"mean_iou": [0.6, 0.8], "class_iou": {"ground": [0.8, 0.95]}}
    content = {"mean_iou": 0.7, "split": "val", "num_images": 12, "classes": classes, "intervals": intervals}
    return content | changes


def header(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_header_is_what_the_hub_reads():
    card = model_card.render(MODEL, parse("hf://me/hair"), "apache-2.0", metrics())
    assert header(card)["license"] == "apache-2.0" and header(card)["pipeline_tag"] == "image-segmentation"
    (result,) = header(card)["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 0.7 and result["dataset"]["split"] == "val"


def test_the_text_says_what_is_known_and_leaves_the_rest_open():
    card = model_card.render(MODEL, parse("hf://me/hair@v2/small"), "", metrics(), "CC BY 4.0")
    assert 'Segmenter("hf://me/hair@v2/small")' in card
    assert "Mean IoU 0.700 (95 % interval over images: 0.600 to 0.800) on 12 images of the split val" in card
    assert "| ground | 0.900 | 0.800 to 0.950 |" in card and "| skin | 0.500 | not measured |" in card
    assert r"| hair \| &lt;b> | no pixels | not measured |" in card
    assert "Trained on 40 images of faces." in card and "a backbone trained on ImageNet" in card
    assert "images and labels: CC BY 4.0." in card and "these weights: *to be filled in*" in card
    assert "| optimizer | momentum |" in card and "license" not in header(card)


def test_a_model_that_was_not_evaluated_says_so():
    card = model_card.render(ModelFiles("frozen_graph", {}, {"classes": ["a", "b"]}), parse("hf://me/hair"))
    assert "Not evaluated" in card and "model-index" not in header(card)
    assert "one of 2 classes: a, b." in card and "Initial weights" not in card


@pytest.mark.parametrize("name", ['a"b', "a\nb: c", "---", "{{ 7 * 7 }}", "\u202e"])
def test_names_cannot_break_out(name):
    model = ModelFiles("checkpoint", {}, {**FACTS, "dataset_name": name, "class_names": [name, "b"]})
    card = model_card.render(model, parse("hf://me/hair"), "mit", metrics())
    assert header(card)["model-index"][0]["results"][0]["dataset"]["name"] == name
    assert "49" not in card and "\u202e" not in card.split("---\n", 2)[2]


def test_metrics_of_the_model_and_of_another(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics(checkpoint="logs/model.ckpt-3")))
    assert model_card.read_metrics(str(tmp_path), MODEL)["num_images"] == 12
    with raises("metrics-of-another-model", field="metrics", where="metrics.json"):
        model_card.read_metrics(str(path), ModelFiles("checkpoint", {}, {"class_names": ["a", "b"]}))


def test_metrics_of_another_checkpoint(tmp_path):
    (tmp_path / "model.ckpt-3.index").write_bytes(b"index")
    model = ModelFiles("checkpoint", {}, FACTS, str(tmp_path / "model.ckpt-3"))
    for hashed, fits in ((model.sha256(), True), ("0" * 64, False), (None, True)):
        (tmp_path / "metrics.json").write_text(json.dumps(metrics(checkpoint_sha256=hashed)))
        if fits:
            model_card.read_metrics(str(tmp_path), model)
        else:
            with raises("metrics-of-another-model", field="metrics"):
                model_card.read_metrics(str(tmp_path), model)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"classes": 3}', '{"classes": [{"name": "a"}]}'])
def test_damaged_metrics(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with raises("unreadable-file", field="metrics", where="metrics.json"):
        model_card.read_metrics(str(tmp_path), MODEL)


def test_of_hundreds_of_classes_some_are_listed():
    names = [f"thing {index}" for index in range(300)]
    classes = [{"name": name, "iou": index / 300 if index < 200 else None} for index, name in enumerate(names)]
    card = model_card.render(
        ModelFiles("checkpoint", {}, {"class_names": names}), parse("hf://me/a"), "", metrics(classes=classes)
    )
    assert "one of 300 classes: thing 0, thing 1, " in card and "thing 250" not in card
    assert "The best and the worst 40 of 300 classes:" in card
    assert "| thing 199 | 0.663 |" in card and "| thing 0 | 0.000 |" in card and "| thing 100 |" not in card
    assert len(card.splitlines()) < 150
