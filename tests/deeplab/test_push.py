"""`deeplab push`: a model with its card on a hub, used from there by its address."""

import json

import numpy as np
import pytest
from support.fake_hub import FakeHub

from deeplab import Segmenter, push
from deeplab.config.command_line import USAGE

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")


@pytest.fixture
def server(monkeypatch, tmp_path):
    with FakeHub() as server:
        server.become_the_hub(monkeypatch, tmp_path / "cache")
        yield server


def test_a_pushed_model_predicts_by_its_address(server, small_run, capsys):
    words = [f"--model={small_run}", "--to=hf://me/hair", "--license=mit"]
    assert push.COMMAND.main(words) == 0
    said = capsys.readouterr()
    assert "pushed: http" in said.out and "--metrics was not given" in said.err
    files = server.repositories["me/hair"]
    assert b'license: "mit"' in files["README.md"] and server.private == {"me/hair"}
    assert str(small_run).encode() not in b"".join(files.values())
    image = np.random.default_rng(0).integers(0, 256, [33, 40, 3], np.uint8)
    with Segmenter(str(small_run)) as here, Segmenter("hf://me/hair") as there:
        assert np.array_equal(here(image).labels, there(image).labels)


def test_a_dry_run_sends_nothing(server, small_run, capsys):
    assert push.COMMAND.main([f"--model={small_run}", "--to=hf://me/hair", "--dry_run=true"]) == 0
    assert "## Results" in capsys.readouterr().out and server.paths == []


def test_a_card_of_ones_own_with_metrics_of_another_model(server, small_run, tmp_path, capsys):
    (tmp_path / "card.md").write_text("my own")
    assert push.COMMAND.main([f"--model={small_run}", "--to=hf://me/hair", f"--card={tmp_path / 'card.md'}"]) == 0
    assert server.repositories["me/hair"]["README.md"] == b"my own"
    other = {"mean_iou": 1, "split": "val", "num_images": 1, "classes": [{"name": "x"}]}
    (tmp_path / "metrics.json").write_text(json.dumps(other))
    assert push.COMMAND.main([f"--model={small_run}", "--to=hf://me/hair", f"--metrics={tmp_path}"]) == 1
    assert "[metrics-of-another-model]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    {
        ("--model=MODEL", "--to=me/hair"): "bad-name",
        ("--model=MODEL", "--to=hf://me"): "bad-name",
        ("--model=hf://me/other", "--to=hf://me/hair"): "not-a-file",
        ("--model=nothing", "--to=hf://me/hair"): "checkpoint-not-found",
        ("--model=MODEL", "--to=hf://me/hair", "--license=Do what you want"): "bad-name",
        ("--model=MODEL", "--to=hf://me/hair", "--card=nothing"): "file-not-found",
        ("--model=MODEL", "--to=hf://me/hair", "--checkpoint=best"): "checkpoint-not-found",
    }.items(),
)
def test_what_is_refused_before_anything_is_sent(server, small_run, capsys, words, code):
    assert push.COMMAND.main([word.replace("MODEL", str(small_run)) for word in words]) in (1, USAGE)
    assert f"[{code}]" in capsys.readouterr().err and server.paths == []
