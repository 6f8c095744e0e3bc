"""The folder of a training: its state file, the latest checkpoint, and which ones stay."""

import re

import numpy as np
import pytest
from support.errors import raises

from deeplab import checkpoint
from deeplab.checkpoint import manager, writer

DATA = ".data-00000-of-00001"


def save(folder, *steps: int, keep: int = 5) -> None:
    """Checkpoints of one small array whose value is the step."""
    for step in steps:
        manager.save_step(folder, step, {"a": np.full(50, step, np.float32)}, keep=keep)


def names(folder) -> list[str]:
    """Names of the checkpoints in a folder, the state file left out."""
    return [prefix.rsplit("/", 1)[1] for prefix in manager.all_checkpoints(folder)]


def test_state_file_is_tensorflows_text(tmp_path):
    save(tmp_path, 0, 10)
    assert (tmp_path / "checkpoint").read_text() == (
        'model_checkpoint_path: "model.ckpt-10"\n'
        'all_model_checkpoint_paths: "model.ckpt-0"\n'
        'all_model_checkpoint_paths: "model.ckpt-10"\n'
    )


def test_the_oldest_go_and_the_newest_stay(tmp_path):
    save(tmp_path, 1, 2, 3, 4, keep=2)
    assert names(tmp_path) == ["model.ckpt-3", "model.ckpt-4"]
    assert len(list(tmp_path.iterdir())) == 5
    assert manager.read_state(str(tmp_path)).listed == tuple(manager.all_checkpoints(tmp_path))


def test_keep_0_keeps_all(tmp_path):
    save(tmp_path, 1, 2, 3, keep=0)
    assert names(tmp_path) == ["model.ckpt-1", "model.ckpt-2", "model.ckpt-3"]


def test_unlisted_checkpoints_are_never_removed(tmp_path):
    writer.write(str(tmp_path / "model.ckpt-best"), {"a": np.ones(1, np.float32)})
    writer.write(str(tmp_path / "model.ckpt-2"), {"a": np.ones(1, np.float32)})
    save(tmp_path, 5, 6, 7, keep=1)
    assert names(tmp_path) == ["model.ckpt-best", "model.ckpt-2", "model.ckpt-7"]


def test_saving_a_step_again_makes_it_the_latest(tmp_path):
    save(tmp_path, 1, 2)
    manager.save_step(tmp_path, 1, {"a": np.full(50, 9, np.float32)})
    assert checkpoint.open(tmp_path).array("a")[0] == 9
    assert manager.read_state(str(tmp_path)).listed == (str(tmp_path / "model.ckpt-2"), str(tmp_path / "model.ckpt-1"))


def test_all_checkpoints_are_in_the_order_of_steps(tmp_path):
    save(tmp_path, 100, 20, 3)
    assert names(tmp_path) == ["model.ckpt-3", "model.ckpt-20", "model.ckpt-100"]


def test_no_checkpoint_yet(tmp_path):
    assert manager.latest(tmp_path) is None
    assert manager.latest(tmp_path / "not there") is None


def test_state_file_may_point_back(tmp_path):
    save(tmp_path, 1, 2)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n')
    assert manager.latest(tmp_path).prefix == str(tmp_path / "model.ckpt-1")


@pytest.mark.parametrize(
    "path", ["/content/drive/old/model.ckpt-1", r"C:\\runs\\model.ckpt-1", r"C:\runs\model.ckpt-1"]
)
def test_absolute_paths_of_another_machine(tmp_path, path):
    save(tmp_path, 1, 2)
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{path}"\nall_model_checkpoint_paths: "{path}"\n')
    assert manager.latest(tmp_path).prefix == str(tmp_path / "model.ckpt-1")


def test_absolute_path_to_another_folder(tmp_path):
    save(tmp_path / "runs", 1)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "checkpoint").write_text(f'model_checkpoint_path: "{tmp_path}/runs/model.ckpt-1"\n')
    assert manager.latest(tmp_path / "link").prefix == str(tmp_path / "runs" / "model.ckpt-1")
    save(tmp_path / "link", 2, 3, keep=1)
    assert manager.latest(tmp_path / "runs"), "nothing outside the folder is removed"


def test_names_that_need_escapes(tmp_path):
    prefix = str(tmp_path / 'modèle "x".ckpt-5')
    writer.write(prefix, {"a": np.ones(1, np.float32)})
    manager.write_state(str(tmp_path), prefix, [prefix])
    assert r'"mod\303\250le \042x\042.ckpt-5"' in (tmp_path / "checkpoint").read_text()
    assert manager.latest(tmp_path).prefix == prefix


# ---- when files are damaged or gone ------------------------------------------------------------------


def test_truncated_latest_falls_back_to_the_one_before(tmp_path, capsys):
    save(tmp_path, 1, 2, 3)
    (tmp_path / f"model.ckpt-3{DATA}").write_bytes(b"short")
    assert manager.latest(tmp_path).prefix == str(tmp_path / "model.ckpt-2")
    warning = capsys.readouterr().err
    assert "warning" in warning and "is truncated: 5 of 208 bytes; taking model.ckpt-2" in warning
    assert checkpoint.open(tmp_path).step == 2


def test_zeroed_latest_shows_when_checksums_are_asked_for(tmp_path):
    save(tmp_path, 1, 2)
    (tmp_path / f"model.ckpt-2{DATA}").write_bytes(bytes(208))
    assert manager.latest(tmp_path, checksums=True).prefix == str(tmp_path / "model.ckpt-1")
    assert checkpoint.open(tmp_path).array("a")[0] == 1


def test_latest_removed_by_hand(tmp_path, capsys):
    save(tmp_path, 1, 2)
    for suffix in (".index", DATA):
        (tmp_path / f"model.ckpt-2{suffix}").unlink()
    assert manager.latest(tmp_path).prefix == str(tmp_path / "model.ckpt-1")
    assert "model.ckpt-2 does not exist; taking model.ckpt-1" in capsys.readouterr().err


def test_all_removed_by_hand_is_a_new_start(tmp_path, capsys):
    save(tmp_path, 1)
    for suffix in (".index", DATA):
        (tmp_path / f"model.ckpt-1{suffix}").unlink()
    assert manager.latest(tmp_path) is None
    assert "names model.ckpt-1, but there is no checkpoint" in capsys.readouterr().err


def test_all_damaged_is_an_error_not_a_new_start(tmp_path):
    save(tmp_path, 1, 2)
    for step in (1, 2):
        (tmp_path / f"model.ckpt-{step}.index").write_bytes(b"")
    with raises("damaged-checkpoint", where=tmp_path) as caught:
        manager.latest(tmp_path)
    assert re.search(r"model\.ckpt-2\.index.*model\.ckpt-1\.index", caught.value.rule)


def test_damaged_state_file_takes_the_newest(tmp_path, capsys):
    save(tmp_path, 9, 10)
    (tmp_path / "checkpoint").write_bytes(b"\x00\xff\x00")
    assert manager.latest(tmp_path).prefix == str(tmp_path / "model.ckpt-10")
    assert "taking the newest of 2, model.ckpt-10" in capsys.readouterr().err


def test_one_warning_is_enough_for_those_who_wait(tmp_path, capsys):
    save(tmp_path, 1, 2)
    (tmp_path / "model.ckpt-2.index").write_bytes(b"")
    for _ in range(3):
        manager.latest(tmp_path)
    assert capsys.readouterr().err.count("warning: ") == 1


def test_next_save_clears_what_a_killed_one_left(tmp_path):
    save(tmp_path, 1)
    dead = f"{tmp_path}/model.ckpt-2.saving-{writer._host()}-999999999"
    for rest in (f"{DATA}.tempstate123", ".index"):
        with open(dead + rest, "wb") as file:
            file.write(b"half")
    save(tmp_path, 3)
    assert [p.name for p in tmp_path.iterdir() if "saving" in p.name] == []


def test_temporaries_of_a_running_process_stay(tmp_path):
    other = tmp_path / f"model.ckpt-2.saving-{writer._host()}-1{DATA}"
    tmp_path.mkdir(exist_ok=True)
    other.write_bytes(b"half")
    save(tmp_path, 3)
    assert other.exists()
    assert names(tmp_path) == ["model.ckpt-3"]
