"""Known datasets in small: from a server on this machine, or from archives of one's own, to files that are checked."""

import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
import yaml
from support.errors import raises
from support.file_server import FileServer
from support.packing import tarred, zipped

from deeplab import download_data
from deeplab.config.data_config import DownloadConfig
from deeplab.data import catalog, catalog_download
from deeplab.data.catalog_download import ARCHIVES, STAMP
from deeplab.utils import download
from deeplab.utils.locks import folder_lock

ROOT = pathlib.Path(__file__).parents[3]
VOC = "VOCtrainval_11-May-2012.tar"
VOC_FILES = {
    "VOCdevkit/VOC2012/JPEGImages/2007_000001.jpg": b"photo one",
    "VOCdevkit/VOC2012/JPEGImages/2007_000002.jpg": b"photo two",
    "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png": b"mask",
    "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": b"2007_000001\n",
}
VOC_EXPECTED = {"VOCdevkit/VOC2012/JPEGImages/*.jpg": 2, "VOCdevkit/VOC2012/SegmentationClass/*.png": 1}


@pytest.fixture
def server():
    """A server of a small PASCAL VOC."""
    server = FileServer(tarred(VOC_FILES, "w"), VOC)
    yield server
    server.close()


class Fetcher:
    """The command for one dataset, with addresses and counts of a test."""

    def __init__(self, folder: pathlib.Path, name: str):
        self.folder, self.name = folder / "raw", name
        self.addresses = folder / "addresses.yml"
        self.archives: dict[str, dict] = {}

    def override(self, file: str, **facts) -> None:
        """What holds of an archive here."""
        unknown = {"checksum": None, "bytes": None, "unpacked_bytes": None}
        self.archives[file] = {**unknown, **self.archives.get(file, {}), **facts}
        self.addresses.write_text(yaml.safe_dump({self.name: {"archives": self.archives}}))

    def __call__(self, **flags) -> pathlib.Path:
        config = DownloadConfig(self.name, str(self.folder), addresses=str(self.addresses), **flags)
        return catalog_download.obtain(config)

    def files(self) -> dict[str, bytes]:
        """Everything in the folder but the stamp."""
        paths = [path for path in self.folder.rglob("*") if path.is_file() and path.name != STAMP]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}


@pytest.fixture
def fetch(server, tmp_path) -> Fetcher:
    """The command for PASCAL VOC at that server."""
    fetch = Fetcher(tmp_path, "voc2012")
    fetch.override(VOC, address=server.address, expected=VOC_EXPECTED)
    return fetch


@pytest.fixture
def fetcher(tmp_path):
    """Commands for datasets whose archives lie in a folder `mine`: by their contents."""

    def make(name: str, archives: dict[str, bytes], expected: dict[str, dict[str, int]]) -> Fetcher:
        (tmp_path / "mine").mkdir(exist_ok=True)
        fetch = Fetcher(tmp_path, name)
        for archive in catalog.find(name).archives:
            fetch.override(archive.file, expected=expected.get(archive.file))
        for file, content in archives.items():
            (tmp_path / "mine" / file).write_bytes(content)
        return fetch

    return make


# ---- from a name to files ----------------------------------------------------------------------------


def test_fetched_unpacked_counted(fetch, server, capfd):
    fetch()
    assert fetch.files() == VOC_FILES
    assert server.asked == [VOC]
    assert not (fetch.folder / ARCHIVES).exists()
    shown = capfd.readouterr()
    assert "terms of use: the images come from Flickr" in shown.err and "2  " in shown.out
    assert json.loads((fetch.folder / STAMP).read_text())["archives"][VOC]["bytes"] == len(server.content)


def test_second_run_fetches_nothing(fetch, server, capfd):
    fetch()
    before = {path: path.stat().st_mtime_ns for path in fetch.folder.rglob("*")}
    fetch()
    assert server.asked == [VOC] and before == {path: path.stat().st_mtime_ns for path in fetch.folder.rglob("*")}
    assert "voc2012 is complete" in capfd.readouterr().err


def test_archives_can_be_kept_and_are_used_again(fetch, server):
    fetch(keep_archives=True)
    assert (fetch.folder / ARCHIVES / VOC).read_bytes() == server.content
    (fetch.folder / "VOCdevkit/VOC2012/JPEGImages/2007_000002.jpg").unlink()
    fetch(keep_archives=True)
    assert server.asked == [VOC] and fetch.files() == {**VOC_FILES, f"{ARCHIVES}/{VOC}": server.content}


def test_files_that_went_missing_come_back(fetch, server, capfd):
    fetch()
    (fetch.folder / "VOCdevkit/VOC2012/JPEGImages/2007_000002.jpg").unlink()
    fetch()
    assert fetch.files() == VOC_FILES and server.asked == [VOC, VOC]
    assert "now holds 1 of 2 VOCdevkit/VOC2012/JPEGImages/*.jpg; unpacking it again" in capfd.readouterr().err


def test_own_archive_is_taken_and_stays(fetch, server, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / VOC).write_bytes(server.content)
    fetch(archives=str(tmp_path / "mine"))
    assert server.asked == [] and fetch.files() == VOC_FILES
    assert (tmp_path / "mine" / VOC).read_bytes() == server.content


def test_what_is_unpacked_there_by_hand(fetch, server, capfd):
    for name, content in VOC_FILES.items():
        path = fetch.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    fetch()
    assert server.asked == [] and f"the files of {VOC} are in place already" in capfd.readouterr().err


def test_interrupted_download_goes_on(fetch, server):
    server.cut_after = 4000
    fetch()
    assert fetch.files() == VOC_FILES and len(server.requests) > 2 and server.requests[1] == "bytes=4000-"


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_checksum(fetch, server, algorithm):
    digest = hashlib.new(algorithm, server.content).hexdigest()
    fetch.override(VOC, checksum=f"{algorithm}:{'0' * len(digest)}")
    with raises("checksum-mismatch", where=VOC) as caught:
        fetch()
    assert f"its {algorithm} is {digest}, not 0000" in caught.value.rule
    assert list(fetch.files()) == [f"{ARCHIVES}/{VOC}"]  # two gigabytes that a person must decide on
    line = caught.value.hint.partition("this line: ")[2]
    accepted = yaml.safe_load(line)["voc2012"]["archives"][VOC]
    assert accepted == {"bytes": len(server.content), "checksum": f"{algorithm}:{digest}"}
    fetch.override(VOC, **accepted)
    fetch()
    assert server.asked == [VOC] and fetch.files() == VOC_FILES


def test_incomplete_archive(fetch, server):
    fetch.override(VOC, expected={**VOC_EXPECTED, "VOCdevkit/VOC2012/JPEGImages/*.jpg": 17125})
    with raises("incomplete-archive", where=VOC) as caught:
        fetch()
    assert "holds only 2 of 17125 VOCdevkit/VOC2012/JPEGImages/*.jpg" in caught.value.rule
    assert list(fetch.files()) == [f"{ARCHIVES}/{VOC}"]
    line = caught.value.hint.partition("this line: ")[2]
    assert yaml.safe_load(line)["voc2012"]["archives"][VOC]["expected"] == VOC_EXPECTED


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"<!DOCTYPE html><p>503</p>", "not-an-archive"),
        (b"", "download-failed"),
        (b"7z\xbc\xaf\x27\x1c", "unsupported-archive"),
    ],
)
def test_something_else_in_place_of_the_archive(fetch, server, content, code):
    server.content = content
    with raises(code, where=server.address):
        fetch()
    assert not fetch.folder.exists()


def test_truncated_archive_of_the_users(fetch, server, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / VOC).write_bytes(server.content[:3000])
    with raises("damaged-archive", where=VOC):
        fetch(archives=str(tmp_path / "mine"))
    fetch.override(VOC, bytes=len(server.content))
    with raises("damaged-archive", where=VOC) as caught:
        fetch(archives=str(tmp_path / "mine"))
    assert f"it has 3000 bytes of {len(server.content)}" in caught.value.rule
    assert not fetch.folder.exists() and (tmp_path / "mine" / VOC).exists()


def test_no_room(fetch, server, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10_000_000_000}))
    fetch.override(VOC, bytes=6_000_000_000)
    with raises("disk-full", where=fetch.folder) as caught:
        fetch()
    assert caught.value.rule == "12.0 GB are needed for archives and files, but only 10.0 GB are free"
    assert server.asked == [] and not fetch.folder.exists()


def test_no_network_says_what_to_do(fetch, server):
    server.statuses = [404]
    with raises("download-failed", where=server.address) as caught:
        fetch()
    assert "404" in caught.value.rule and f"download {server.address}" in caught.value.hint
    assert "`archives=FOLDER`" in caught.value.hint


def test_harmful_archive(fetch, server):
    server.content = tarred({**VOC_FILES, "../evil": b"evil"}, "w")
    with raises("unsafe-archive", where=VOC):
        fetch()
    assert list(fetch.files()) == [f"{ARCHIVES}/{VOC}"] and not (fetch.folder.parent / "evil").exists()


# ---- archives of the user's --------------------------------------------------------------------------

CITY = {
    "gtFine_trainvaltest.zip": {"gtFine/train/aachen/aachen_1_labelIds.png": b"mask", "README": b"of masks"},
    "leftImg8bit_trainvaltest.zip": {
        "leftImg8bit/train/aachen/aachen_1_leftImg8bit.png": b"image",
        "README": b"of images",
    },
}
CITY_EXPECTED = {
    "gtFine_trainvaltest.zip": {"gtFine/train/*/*_labelIds.png": 1},
    "leftImg8bit_trainvaltest.zip": {"leftImg8bit/train/*/*_leftImg8bit.png": 1},
}


def test_all_missing_archives_are_named_at_once(fetcher, tmp_path):
    fetch = fetcher("cityscapes", {"gtFine_trainvaltest.zip": b"x", "notes.txt": b"x"}, CITY_EXPECTED)
    with raises("archive-not-found", field="archives") as caught:
        fetch(archives=str(tmp_path / "mine"))
    assert "leftImg8bit_trainvaltest.zip of cityscapes must be requested" in caught.value.rule
    assert "holds only gtFine_trainvaltest.zip, notes.txt" in caught.value.rule
    assert "https://www.cityscapes-dataset.com/downloads/" in caught.value.hint and "account" in caught.value.hint
    with raises("archive-not-found", field="archives") as caught:
        fetch()
    assert caught.value.rule.startswith("gtFine_trainvaltest.zip, leftImg8bit_trainvaltest.zip of cityscapes")
    with raises("folder-not-found", field="archives"):
        fetch(archives="nowhere")
    (tmp_path / "bare").mkdir()
    with raises("archive-not-found", field="archives") as caught:
        fetch(archives=str(tmp_path / "bare"))
    assert caught.value.rule.endswith("bare holds no files")


def test_two_archives_with_a_readme_each(fetcher, tmp_path):
    fetch = fetcher("cityscapes", {file: zipped(contents) for file, contents in CITY.items()}, CITY_EXPECTED)
    fetch(archives=str(tmp_path / "mine"))
    expected = {name: content for contents in CITY.values() for name, content in contents.items()}
    assert fetch.files() == {**expected, "README": b"of masks"}


def test_files_of_the_users_are_never_overwritten(fetcher, tmp_path):
    fetch = fetcher("cityscapes", {file: zipped(contents) for file, contents in CITY.items()}, CITY_EXPECTED)
    own = fetch.folder / "gtFine" / "train" / "aachen" / "aachen_1_labelIds.png"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"my own")
    fetch.override("gtFine_trainvaltest.zip", expected={"gtFine/train/*/*.png": 1, "README": 1})
    with raises("would-overwrite", where="aachen_1_labelIds.png"):
        fetch(archives=str(tmp_path / "mine"))
    assert own.read_bytes() == b"my own"


@pytest.mark.parametrize("top", ["", "LabeledApproved_full/"])
def test_archives_with_and_without_a_folder_of_their_own(fetcher, tmp_path, top):
    masks = zipped({f"{top}0001TP_1_L.png": b"mask", "__MACOSX/._x": b"junk"})
    stills = zipped({"701_StillsRaw_full/0001TP_1.png": b"still"})
    archives = {"LabeledApproved_full.zip": masks, "701_StillsRaw_full.zip": stills}
    fetch = fetcher("camvid", archives, {})
    fetch(archives=str(tmp_path / "mine"))
    assert fetch.files() == {
        "LabeledApproved_full/0001TP_1_L.png": b"mask",
        "701_StillsRaw_full/0001TP_1.png": b"still",
    }


def test_only_images_with_a_mask_out_of_a_folder_a_person(fetcher, tmp_path):
    images = {f"lfw_funneled/{name}/{name}_000{n}.jpg": name.encode() for name in ("Ann_Lee", "Bo") for n in (1, 2)}
    archives = {
        "parts_lfw_funneled_gt_images.tgz": tarred({"parts_lfw_funneled_gt_images/Ann_Lee_0002.ppm": b"mask"}),
        "lfw-funneled.tgz": tarred({**images, "lfw_funneled/pairs_01.txt": b"text"}),
        **{f"parts_{split}.txt": b"Ann_Lee 2\n" for split in ("train", "validation", "test")},
    }
    fetch = fetcher("lfw_parts", archives, {"lfw-funneled.tgz": {"images/*.jpg": 1}})
    fetch(archives=str(tmp_path / "mine"))
    lists = {f"lists/parts_{split}.txt": b"Ann_Lee 2\n" for split in ("train", "validation", "test")}
    assert fetch.files() == {"masks/Ann_Lee_0002.ppm": b"mask", "images/Ann_Lee_0002.jpg": b"Ann_Lee", **lists}


def test_masks_in_archives_in_an_archive(fetcher, tmp_path):
    inner = zipped({"masks/000007.bmp": b"seven", "readme.md": b"text"})
    masks = zipped({"all/one.zip": inner, "all/000003.BMP": b"three", "scripts/readme.md": b"text"})
    images = zipped({f"img_align_celeba/00000{n}.jpg": b"%d" % n for n in range(1, 9)})
    fetch = fetcher("celeba_hair_skin", {"celeba_hair_masks.zip": masks, "img_align_celeba.zip": images}, {})
    fetch(archives=str(tmp_path / "mine"))
    assert fetch.files() == {
        "masks/000007.bmp": b"seven",
        "masks/000003.BMP": b"three",
        "images/000007.jpg": b"7",
        "images/000003.jpg": b"3",
    }


def test_optional_archives(fetcher, tmp_path, capfd):
    def pair(part: str) -> dict[str, bytes]:
        return {
            f"ISIC2018_Task1-2_{part}_Input.zip": zipped({f"x/ISIC_{part}.jpg": b"photo", "x/LICENSE.txt": b"text"}),
            f"ISIC2018_Task1_{part}_GroundTruth.zip": zipped({f"y/ISIC_{part}_segmentation.png": b"mask"}),
        }

    fetch = fetcher("isic2018_task1", pair("Training"), {})
    fetch(archives=str(tmp_path / "mine"))
    assert sorted(fetch.files()) == [
        "images/train/ISIC_Training.jpg",
        "images/train/LICENSE.txt",
        "masks/train/ISIC_Training_segmentation.png",
    ]
    assert "without the optional ISIC2018_Task1_Validation_GroundTruth.zip, ISIC2018" in capfd.readouterr().err
    fetch(archives=str(tmp_path / "mine"))
    assert "isic2018_task1 is complete" in capfd.readouterr().err
    fetch = fetcher("isic2018_task1", pair("Validation"), {})
    fetch(archives=str(tmp_path / "mine"))
    assert "masks/val/ISIC_Validation_segmentation.png" in fetch.files()


def test_encrypted_archive_names_the_command_that_unpacks_it(fetcher, tmp_path):
    locked = bytearray(zipped({"validation/image/000001.jpg": b"photo"}))
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    fetch = fetcher("deepfashion2", {"validation.zip": bytes(locked), "train.zip": bytes(locked)}, {})
    with raises("encrypted-archive", where="validation.zip") as caught:
        fetch(archives=str(tmp_path / "mine"))
    assert f"7z x -pPASSWORD -o{fetch.folder / 'validation'} " in caught.value.hint
    assert "the owners send it" in caught.value.hint and "DeepFashion2" in caught.value.hint


# ---- two at once, and kills --------------------------------------------------------------------------


def test_two_at_once(fetch):
    fetch.folder.mkdir()
    with (
        folder_lock(fetch.folder, "downloading a dataset", ""),
        raises("folder-in-use", where=fetch.folder),
    ):
        fetch()


KILLED = """
import os, signal, sys
from deeplab.data import catalog_download
module, function, calls = sys.argv[3], sys.argv[4], int(sys.argv[5])
owner = {"os": os, "catalog_download": catalog_download}[module]
real = getattr(owner, function)
def killed(*words):
    global calls
    calls -= 1
    if not calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*words)
setattr(owner, function, killed)
catalog_download.obtain(catalog_download.DownloadConfig("voc2012", sys.argv[1], addresses=sys.argv[2]))
"""


KILLS = [
    ("catalog_download", "_shortfall", 2),  # unpacked, not counted
    ("os", "replace", 2),  # downloaded, and about to be moved into its place
    ("os", "sync", 1),  # in place, without a stamp
    ("catalog_download", "write_atomically", 1),
]


def pytest_generate_tests(metafunc):
    """`--long` kills before every operation on the disk."""
    if "calls" in metafunc.fixturenames and metafunc.config.getoption("--long"):
        operations = ("replace", "fsync", "unlink", "mkdir", "rename", "open", "rmdir", "link", "sync")
        every = [("os", name, calls) for name in operations for calls in range(1, 9)]
        metafunc.parametrize(("module", "function", "calls"), [*KILLS, *every])
    elif "calls" in metafunc.fixturenames:
        metafunc.parametrize(("module", "function", "calls"), KILLS)


def test_killed_run_is_taken_up_again(fetch, server, module, function, calls):
    words = [str(fetch.folder), str(fetch.addresses), module, function, str(calls)]
    run = subprocess.run([sys.executable, "-c", KILLED, *words], cwd=ROOT, capture_output=True, check=False)
    is_known = (module, function, calls) in KILLS
    if run.returncode == 0 and not is_known:
        pytest.skip(f"it calls os.{function} fewer than {calls} times")
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    if is_known:  # the others may come after the last step
        assert not (fetch.folder / STAMP).exists()
    assert {name for name in fetch.files() if name.startswith("VOCdevkit")} in (set(), set(VOC_FILES))
    fetch()
    assert server.asked == [VOC] or not is_known  # those of the list are after the download
    assert (fetch.folder / STAMP).exists()
    left = {name: content for name, content in fetch.files().items() if name != f"{ARCHIVES}/{VOC}"}
    if not is_known:  # notes of the killed run
        left = {name: content for name, content in left.items() if not name.endswith((".part.json", ".partial"))}
    assert left == VOC_FILES


# ---- the command -------------------------------------------------------------------------------------


@pytest.fixture
def command(fetch, monkeypatch):
    """The command line, without its program."""

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["download_data", *words])
        return download_data.main()

    return run


def test_command(command, fetch, server, capfd):
    assert command("voc2012", f"--output_dir={fetch.folder}", f"--addresses={fetch.addresses}") == 0
    assert fetch.files() == VOC_FILES
    assert command(f"--output_dir={fetch.folder}") == 2
    assert "the DATASET comes first" in capfd.readouterr().err
    assert command("voc", f"--output_dir={fetch.folder}") == 2
    assert "did you mean 'voc2012'" in capfd.readouterr().err
    assert command("VOC2012", f"--output_dir={fetch.folder}", f"--addresses={fetch.addresses}") == 0
    assert command("--name=voc2012", f"--output_dir={fetch.folder}", f"--addresses={fetch.addresses}") == 0


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_lists_the_names(command, capsys, words):
    assert command(*words) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\w", shown, re.M) for name in catalog.names()) and "--[no]keep_archives" in shown
    assert os.path.basename(catalog.DATA) in shown
