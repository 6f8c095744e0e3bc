"""The command `check-data`: its flags, its files, its exit code."""

import contextlib
import io
import json
import os
import subprocess
import sys

import pytest
from support.disc_files import discs_fixture  # noqa: F401

from deeplab import check_data
from deeplab.data.validation import render_html


@pytest.fixture
def command(monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["check_data.py", *map(str, words)])
        return check_data.main()

    return run


@pytest.fixture
def files(discs):
    return (
        f"--image_folder={discs.folder}/images",
        f"--mask_folder={discs.folder}/masks",
        "--class_names=ground,disc,bar",
    )


def test_records(discs, tmp_path, command, capsys):
    folder = discs.records(tmp_path / "records")
    assert command(f"--dataset_dir={folder}") == 0
    assert "training may start: no errors, no warnings" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["--dataset={0}", "--dataset={0}/dataset.yml", "--dataset_dir={0} --split=val,train"])
def test_ways_to_name_records(discs, tmp_path, command, words):
    folder = discs.records(tmp_path / "records")
    assert command(*words.format(folder).split()) == 0


def test_two_folders(files, command, capsys):
    assert command(*files) == 0
    assert command("folder", *files) == 0
    assert "train_crop_size=65,81" in capsys.readouterr().out


def test_errors_give_exit_code_3(discs, files, command, capsys):
    discs.image("a1").write_bytes(b"")
    assert command(*files) == 3
    shown = capsys.readouterr().out
    assert f"{discs.image('a1')}: is empty" in shown
    assert "training must not start: 1 error" in shown


def test_warnings_give_exit_code_0(discs, files, command):
    discs.mask("a1").unlink()
    assert command(*files) == 0


def test_a_layout_that_cannot_be_listed(discs, files, command, capsys):
    for name in discs.all_names:
        discs.mask(name).rename(discs.folder / "masks" / f"{name}_label.png")
    assert command(*files) == 3
    assert "--mask_suffix=_label" in capsys.readouterr().out


def test_folders_that_are_swapped(discs, command, capsys):
    assert (
        command(f"--image_folder={discs.folder}/masks", f"--mask_folder={discs.folder}/images", "--num_classes=3") == 3
    )
    assert "--image_folder and --mask_folder may be swapped" in capsys.readouterr().out


def test_a_name_that_is_no_unicode(discs, command, tmp_path, capsys):
    """A file from another system; the check reports it, in every form."""
    for kind in ("images", "masks"):
        name = os.fsdecode(b"caf\xe9")
        source = discs.image("a1") if kind == "images" else discs.mask("a1")
        try:
            source.rename(discs.folder / kind / f"{name}{source.suffix}")
        except OSError:
            pytest.skip("this file system takes Unicode alone")
    words = (f"--image_folder={discs.folder}/images", f"--mask_folder={discs.folder}/masks", "--num_classes=3")
    reports = f"--json={tmp_path}/report.json", f"--html={tmp_path}/report.html"
    command(*words, *reports)
    assert "caf" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text(encoding="ascii"))["classes"]
    assert "caf" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_terminal_that_knows_ascii_alone(discs, files, monkeypatch):
    discs.image("a1").rename(discs.folder / "images" / "blöd.jpg")
    said = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", said)
    monkeypatch.setattr(sys, "argv", ["check_data.py", *files])
    assert check_data.main() == 0
    said.flush()
    assert b"bl?d.jpg" in said.buffer.getvalue()


@pytest.mark.parametrize("kind", ["records", "files"])
def test_a_folder_without_a_flag(discs, command, tmp_path, capsys, kind):
    folder = discs.records(tmp_path / "records") if kind == "records" else discs.folder
    assert command(folder) == 2
    flag = f"--dataset_dir={folder}" if kind == "records" else "--image_folder=... --mask_folder=..."
    assert flag in capsys.readouterr().err


def test_one_image(discs, files, command, capsys):
    for name in discs.all_names[1:]:
        discs.image(name).unlink()
        discs.mask(name).unlink()
    assert command(*files) == 0
    assert "train       1  64x80" in capsys.readouterr().out


def test_json_on_standard_output_is_alone_there(files, command, capsys):
    assert command(*files, "--json=-") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["may_train"] is True
    assert "training may start" in said.err


def test_json_and_html_files(discs, files, command, tmp_path):
    discs.image("a1").write_bytes(b"")
    assert command(*files, f"--json={tmp_path}/report.json", f"--html={tmp_path}/report.html") == 3
    assert json.loads((tmp_path / "report.json").read_text())["numbers"] == {"image-unreadable": 1}
    assert "image-unreadable" in (tmp_path / "report.html").read_text()


def test_html_gets_images(discs, files, command, tmp_path, monkeypatch):
    got = []
    monkeypatch.setattr(render_html, "page", lambda report: got.append(report) or "page")
    discs.mask("a1").write_bytes(discs.image("a1").read_bytes())
    assert command(*files, f"--html={tmp_path}/report.html") == 3
    (report,) = got
    assert report.samples[0].overlay.startswith(b"\xff\xd8")
    assert all(finding.preview.startswith(b"\xff\xd8") for finding in report.findings)


def test_the_command_that_repairs_is_in_every_report(discs, files, command, tmp_path, capsys):
    """`tests/deeplab/data/validation/test_repair.py` follows it."""
    discs.change_labels(lambda label: label * 120)
    assert command(*files, f"--json={tmp_path}/report.json", f"--html={tmp_path}/report.html") == 3
    expected = f"deeplab build-data folder {' '.join(files)} --label_map=120:1,240:2 --output_dir=tfrecord"
    assert f"\n  {expected}\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["command"] == expected
    assert expected in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset_dir=nowhere"], "nowhere: no such folder of records [folder-not-found]"),
        (["--dataset=cityscape"], "[not-a-dataset]"),
        (["--image_folder=nowhere", "--mask_folder=nowhere"], "--image_folder: no such folder: nowhere [folder-not"),
        (["--dataset_dir=.", "--output_stride=7"], "--output_stride: must be one of 8, 16, 32"),
        (["--dataset_dir=.", "--max_images=-1"], "--max_images: must be at least 0"),
        (["--dataset_dir=.", "--min_scale_factor=3"], "is above --max_scale_factor=2 [conflicting-settings]"),
        (["--dataset_dir=.", "--train_batch_size=0"], "--train_batch_size: must be at least 1"),
    ],
)
def test_bad_settings(command, capsys, words, message):
    assert command(*words) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--dataset_dir: nothing was given to check [missing-setting]"),
        (["foldr", "--image_folder=x"], "did you mean 'folder'?"),
        (["--dataset_dir=.", "--html"], "--html: needs a value [missing-value]"),
        (["--dataset_dir=.", "--fix=copy"], "unknown flag --fix [unknown-flag]"),
    ],
)
def test_bad_flags(command, capsys, words, message):
    assert command(*words) == 2
    assert message in capsys.readouterr().err


def test_a_report_that_cannot_be_written(files, command, capsys):
    assert command(*files, "--json=/nowhere/report.json") == 1
    said = capsys.readouterr().err
    assert "/nowhere/report.json: cannot be written" in said and "[unwritable-file]" in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk to write to")
def test_a_full_disk(files, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(sys, "argv", ["check_data.py", *files])
        assert check_data.main() == 1
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert "standard output: cannot be written: No space left on device" in capsys.readouterr().err


def test_help_says_what_the_exit_code_means(command, capsys):
    assert command("--help") == 0
    assert "exit code says whether training may start" in capsys.readouterr().out


def test_files_are_checked_without_tensorflow(files, tmp_path):
    """Its import takes longer than a check of hundreds of images."""
    code = "import sys; sys.modules['tensorflow'] = None; from deeplab import check_data; sys.exit(check_data.main())"
    done = subprocess.run([sys.executable, "-c", code, *files, f"--html={tmp_path}/report.html"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"training may start: no errors, no warnings" in done.stdout
