"""Images by the names that annotations give them."""

import os
import unicodedata

import pytest
from PIL import Image
from support.empty_files import touch
from support.errors import raises

from deeplab.data.readers.image_finder import ImageFinder, image_finders, safe_parts, shown_size
from deeplab.utils.paths import list_files


def test_every_split_may_have_its_own_folder(tmp_path):
    touch(tmp_path, "one/a.jpg", "two/a.jpg")
    files = [("train", str(tmp_path / "train.json")), ("val", str(tmp_path / "val.json"))]
    finders = image_finders(f"train:{tmp_path / 'one'},val:{tmp_path / 'two'}", files)
    assert [finder.folder for finder in finders] == [str(tmp_path / "one"), str(tmp_path / "two")]
    (same, other) = image_finders(str(tmp_path), files)
    assert same is other
    beside = image_finders("", [("", str(tmp_path / "one" / "a.json")), ("", str(tmp_path / "two" / "a.json"))])
    assert [finder.folder for finder in beside] == [str(tmp_path / "one"), str(tmp_path / "two")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("train:{0}", "missing-split"),
        ("val:{0},val:{0}", "duplicate-split"),
        ("{0},{0}", "missing-split"),
        ("{0}/nowhere", "folder-not-found"),
    ],
)
def test_folders_that_do_not_fit_the_splits(tmp_path, text, code):
    with raises(code, field="image_folder"):
        image_finders(text.format(tmp_path), [("train", "a.json"), ("val", "b.json")])


@pytest.fixture
def images(tmp_path):
    for name in ("a.jpg", "b.JPEG", "city/a.jpg", "city/c.png", "sea/d.png", "sky/d.png", "e.jpg", "e.png", ".a.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    (tmp_path / "secret.jpg").touch()
    return ImageFinder(tmp_path / "images")


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("city/a.jpg", "city/a.jpg"),
        ("/home/someone/data/city/a.jpg", "city/a.jpg"),
        ("C:\\Users\\someone\\city\\a.jpg", "city/a.jpg"),
        ("..\\images\\b.JPEG", "b.JPEG"),
        ("https://some.where/city/a.jpg?size=large#top", "city/a.jpg"),
        ("../../a.jpg", "a.jpg"),
        ("c.png", "city/c.png"),
        ("c.tif", "city/c.png"),
        ("b.jpg", "b.JPEG"),
        ("b", "b.JPEG"),
        ("sea/d.bmp", "sea/d.png"),
        ("e.png", "e.png"),
    ],
)
def test_images_are_found(images, stored, found):
    assert images.find(stored, "a.json") == os.path.join(images.folder, found)


def test_images_are_found_beside_the_annotation_first(images):
    assert images.name(images.find("a.jpg", "", beside="city")) == "city/a"
    assert images.name(images.find("d.jpg", "", beside="sky")) == "sky/d"
    assert images.name(images.find("b.jpg", "", beside="city")) == "b"


@pytest.mark.parametrize(
    "stored", ["x.jpg", "../secret.jpg", "/etc/passwd", "", "..", "/", "a\0.jpg", "\\", "://", "city", ".a.jpg"]
)
def test_images_that_do_not_exist(images, stored):
    with raises("image-not-found", where="a.json") as caught:
        images.find(stored, "a.json")
    assert caught.value.value == stored and "`image_folder`" in caught.value.hint


def test_images_that_are_not_clear(images):
    with raises("ambiguous-name", where="a.json") as caught:
        images.find("d.png", "a.json")
    assert "sea/d.png, sky/d.png" in caught.value.rule
    with raises("ambiguous-name") as caught:
        images.find("e.tif", "a.json")
    assert "e.jpg, e.png" in caught.value.rule


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_both_unicode_forms_are_the_same(tmp_path, form):
    name = unicodedata.normalize(form, "Straße ü")
    touch(tmp_path, f"{name}/{name}.jpg")
    images = ImageFinder(tmp_path)
    for other in ("NFC", "NFD"):
        found = images.find(unicodedata.normalize(other, "Straße ü/Straße ü.jpg"), "a.json")
        assert found == str(tmp_path / name / f"{name}.jpg") and os.path.isfile(found)
    assert images.name(found) == "Straße ü/Straße ü"
    assert images.unused() == []


def test_names_that_differ_only_in_case(tmp_path):
    touch(tmp_path, "IMG_0.JPG", "b/IMG_1.jpg", "B.png", "b.png")
    images = ImageFinder(tmp_path)
    assert images.name(images.find("img_0.jpg", "")) == "IMG_0"
    assert images.name(images.find("img_1.png", "")) == "b/IMG_1"
    assert images.name(images.find("b.png", "")) == "b"  # that very name first
    assert images.name(images.find("B.PNG", "")) == "B"


def test_the_folder_of_an_annotation_file_within_that_of_the_images(tmp_path):
    images = ImageFinder(tmp_path)
    assert images.beside(str(tmp_path / "train" / "a.json")) == "train"
    assert images.beside(str(tmp_path / "a.json")) == images.beside(str(tmp_path.parent / "a.json")) == ""


def test_the_size_of_an_image_as_viewers_show_it(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    assert [shown_size(str(tmp_path / name)) for name in ("a.jpg", "b.png", "c.png")] == [(6, 4), (4, 6), None]


def test_images_that_were_never_looked_up(images):
    images.find("a.jpg", "")
    assert images.unused() == ["b.JPEG", "city/a.jpg", "city/c.png", "e.jpg", "e.png", "sea/d.png", "sky/d.png"]


def test_folder_that_is_not_there(tmp_path):
    with raises("folder-not-found", field="image_folder"):
        ImageFinder(tmp_path / "images")


def test_a_link_back_up_is_no_trap(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").touch()
    (tmp_path / "sub" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert list(list_files(tmp_path)) == ["sub/a.jpg"]


def test_safe_parts():
    assert safe_parts("a/../../b//./c") == ["b", "c"]
    assert safe_parts("a/..") == []
