"""Black-and-white masks, one per class: which files, which pixels, and what is not a binary mask."""

import concurrent.futures
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.binary import BuildBinaryConfig, ClassMasks, parse_class_masks, read_binary, split_binary
from deeplab.data.readers.source import Painter

BLACK, WHITE = 0, 255
LEFT = [[WHITE, WHITE, BLACK]] * 2
BOTTOM = [[BLACK] * 3, [WHITE] * 3]


def write(path, pixels, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(pixels, dtype))
    return str(path)


@pytest.fixture
def lesions(tmp_path):
    """Two images; the first has masks of both classes, the second one of `network` alone."""
    for name in ("ISIC_1", "ISIC_2"):
        write(tmp_path / "photos" / f"{name}.jpg", np.full([2, 3, 3], 90))
        write(tmp_path / "attr" / f"{name}_network.png", LEFT)
    write(tmp_path / "attr" / "ISIC_1_streaks.png", BOTTOM)
    return tmp_path


def config(root, class_masks="network=attr/{name}_network.png,streaks=attr/{name}_streaks.png", **settings):
    return BuildBinaryConfig(str(root / "photos"), class_masks, mask_folder=str(root), **settings)


def painter(*names):
    return Painter(("background", *names), LabelSpec())


def draw(masks, *names, height=2, width=3):
    return masks.draw(painter(*names), height, width).tolist()


def one_mask(path, **size):
    return draw(ClassMasks("photo.jpg", (("lesion", path),)), "lesion", **size)


# --- Which files --------------------------------------------------------------------------------------------


def test_classes_have_the_order_of_the_setting(lesions):
    source = read_binary(config(lesions))
    assert source.class_names == ("background", "network", "streaks")
    assert source.drawn
    first, second = source.pairs()
    assert (first.name, second.name) == ("ISIC_1", "ISIC_2")
    assert [name for name, _ in second.mask.masks] == ["network"]
    assert pickle.loads(pickle.dumps(first)) == first  # Beam sends pairs to its workers


def test_later_classes_cover_earlier_ones(lesions):
    first, second = (pair.mask for pair in read_binary(config(lesions)).pairs())
    assert draw(first, "network", "streaks") == [[1, 1, 0], [2, 2, 2]]
    assert draw(second, "network", "streaks") == [[1, 1, 0], [1, 1, 0]]
    turned = config(lesions, "streaks=attr/{name}_streaks.png,network=attr/{name}_network.png")
    first = read_binary(turned).pairs()[0].mask
    assert draw(first, "streaks", "network") == [[2, 2, 0], [2, 2, 1]]


def test_a_class_called_ignore_marks_pixels_that_do_not_count(lesions):
    source = read_binary(config(lesions, "network=attr/{name}_network.png,ignore=attr/{name}_streaks.png"))
    assert source.class_names == ("background", "network")
    assert draw(source.pairs()[0].mask, "network") == [[1, 1, 0], [255, 255, 255]]


def test_images_without_any_mask(lesions, capsys):
    write(lesions / "photos" / "ISIC_3.jpg", np.zeros([2, 3, 3]))
    with raises("files-missing", where=lesions / "photos") as caught:
        read_binary(config(lesions))
    assert caught.value.value == ("ISIC_3",) and "1 of 3 images" in caught.value.rule
    assert str(lesions / "attr" / "ISIC_3_network.png") in caught.value.hint
    assert "`skip_unlabeled=true`" in caught.value.hint
    assert len(read_binary(config(lesions, skip_unlabeled=True)).pairs()) == 2
    assert "left out 1 image without a mask: ISIC_3" in capsys.readouterr().err


def test_all_masks_can_be_insisted_on(lesions):
    with raises("files-missing", where=lesions / "photos") as caught:
        read_binary(config(lesions, require_all_masks=True))
    assert caught.value.value == (str(lesions / "attr" / "ISIC_2_streaks.png"),)
    write(lesions / "attr" / "ISIC_2_streaks.png", np.zeros([2, 3]))
    assert len(read_binary(config(lesions, require_all_masks=True)).pairs()) == 2


def test_a_pattern_that_matches_nothing_is_a_slip(lesions):
    with raises("no-matching-names", field="class_masks") as caught:
        read_binary(config(lesions, "network=attr/{name}_network.png,globules=attr/{name}_globule.png"))
    assert caught.value.value == "globules"
    assert "contains ISIC_1_network.png, ISIC_1_streaks.png, ISIC_2_network.png" in caught.value.hint
    with raises("no-matching-names", field="class_masks") as caught:
        read_binary(config(lesions, "network=masks/{name}_network.png"))
    assert f"there is no folder {lesions / 'masks'}" in caught.value.hint
    with raises("no-matching-names", field="class_masks") as caught:
        read_binary(BuildBinaryConfig(str(lesions / "photos"), "network={name}_network.png"))
    assert "relative to the current folder: set `mask_folder`" in caught.value.hint


def test_masks_of_the_image_that_was_looked_for_are_shown_first(lesions):
    for number in range(5):
        write(lesions / "attr" / f"AAA_{number}.png", LEFT)
        write(lesions / "attr" / f"ISIC_1{number}_network.png", LEFT)
    with raises("no-matching-names", field="class_masks") as caught:
        read_binary(config(lesions, "network=attr/{name}_net.png"))
    assert "attr contains ISIC_1_network.png, ISIC_1_streaks.png, AAA_0.png and 10 more" in caught.value.hint


def test_images_whose_name_is_a_part_of_a_pattern(tmp_path):
    for number in range(2):
        write(tmp_path / "photos" / f"image_{number}.jpg", np.zeros([2, 3, 3]))
        write(tmp_path / "masks" / f"mask_{number}.png", LEFT)
    source = read_binary(config(tmp_path, "x=masks/mask_{name}.png", image_pattern="image_{name}"))
    assert [(pair.name, pair.mask.masks) for pair in source.pairs()] == [
        (f"image_{number}", (("x", str(tmp_path / "masks" / f"mask_{number}.png")),)) for number in range(2)
    ]


def test_several_masks_per_image_are_put_together(tmp_path):
    """As in the Data Science Bowl 2018: a folder per image, with a mask for each nucleus."""
    write(tmp_path / "photos" / "n1" / "images" / "n1.png", np.zeros([2, 3, 3]))
    write(tmp_path / "photos" / "n1" / "masks" / "x.png", LEFT)
    write(tmp_path / "photos" / "n1" / "masks" / "y.png", BOTTOM)
    settings = {"image_pattern": "{name}/images/*.png"}
    (pair,) = read_binary(config(tmp_path, "nucleus=photos/{name}/masks/*.png", **settings)).pairs()
    assert pair.name == "n1/images/n1" and len(pair.mask.masks) == 2
    assert draw(pair.mask, "nucleus") == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("masks/{name}.png", "invalid-pattern"),
        ("lesion=", "invalid-pattern"),
        ("lesion=masks/lesion.png", "invalid-pattern"),
        ("a=x/{name}.png,a=y/{name}.png", "duplicate-name"),
        ("Background=x/{name}.png", "invalid-pattern"),
        (" , ", "missing-class-names"),
    ],
)
def test_malformed_patterns(text, code):
    with raises(code, field="class_masks") as caught:
        parse_class_masks(text)
    assert caught.value.hint


def test_patterns_go_from_the_mask_folder():
    assert parse_class_masks("a=x/{name}.png, b=/y/{name}.png", "root") == {
        "a": "root/x/{name}.png",
        "b": "/y/{name}.png",
    }


def test_masks_among_the_images_are_no_images(tmp_path):
    write(tmp_path / "photos" / "a.jpg", np.zeros([2, 3, 3]))
    write(tmp_path / "photos" / "a_mask.png", LEFT)
    write(tmp_path / "photos" / "b.jpg", np.zeros([2, 3, 3]))
    write(tmp_path / "photos" / "b.png", LEFT)
    source = read_binary(config(tmp_path, "x=photos/{name}_mask.png,y=photos/{name}.png"))
    assert [(pair.name, pair.mask.masks[0][0]) for pair in source.pairs()] == [("a", "x"), ("b", "y")]
    write(tmp_path / "only" / "a.png", LEFT)
    with raises("no-files", field="image_folder") as caught:
        read_binary(BuildBinaryConfig(str(tmp_path / "only"), "x=" + str(tmp_path / "only" / "{name}.png")))
    assert "or only masks" in caught.value.rule


def test_an_image_in_two_formats(lesions):
    write(lesions / "photos" / "ISIC_1.png", np.zeros([2, 3, 3]))
    with raises("ambiguous-name", where=lesions / "photos" / "ISIC_1") as caught:
        read_binary(config(lesions))
    assert "ISIC_1.jpg, ISIC_1.png" in caught.value.rule


def test_subfolders_that_are_splits(tmp_path):
    for name in ("train/a", "val/b"):
        write(tmp_path / "photos" / f"{name}.jpg", np.zeros([2, 3, 3]))
        write(tmp_path / "masks" / f"{name}_x.png", LEFT)
    source = read_binary(config(tmp_path, "x=masks/{name}_x.png"))
    assert {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()} == {
        "train": ["train/a"],
        "val": ["val/b"],
    }


# --- Which pixels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("white", [1, 255, 7])
def test_black_and_any_other_value(tmp_path, white):
    assert one_mask(write(tmp_path / "m.png", np.array(LEFT) // 255 * white)) == [[1, 1, 0], [1, 1, 0]]


def test_all_black_and_all_white(tmp_path):
    assert one_mask(write(tmp_path / "m.png", np.zeros([2, 3]))) == [[0, 0, 0]] * 2
    assert one_mask(write(tmp_path / "m.png", np.full([2, 3], 255))) == [[1, 1, 1]] * 2


def test_modes_of_masks(tmp_path):
    expected = [[1, 1, 0], [1, 1, 0]]
    assert one_mask(write(tmp_path / "wide.png", np.array(LEFT) * 257, np.uint16)) == expected
    image = Image.fromarray(np.array(LEFT, np.uint8))
    for mode in ("1", "RGB", "RGBA", "LA"):
        image.convert(mode).save(tmp_path / f"{mode}.png")
        assert one_mask(str(tmp_path / f"{mode}.png")) == expected
    indexed = Image.fromarray(np.array(LEFT, np.uint8) // 255)
    indexed.putpalette([0, 0, 0, 128, 0, 0])
    indexed.save(tmp_path / "palette.png")
    assert one_mask(str(tmp_path / "palette.png")) == expected


def disc(size=64, color=255):
    return cv2.circle(np.zeros([size, size], np.uint8), (30, 30), 20, color, -1)


@pytest.mark.parametrize("quality", [20, 75, 95])
def test_jpeg_damage_is_split_at_half(tmp_path, quality):
    path = tmp_path / "m.jpg"
    Image.fromarray(disc()).save(path, quality=quality)
    label = np.array(one_mask(str(path), height=64, width=64))
    wrong = np.count_nonzero(label != disc() // 255)
    assert wrong <= 8


def test_smooth_edges_are_split_at_half():
    values = np.array([[0, 60, 127, 128, 255]], np.uint8)
    white, between = split_binary(values, "m.png")
    assert white.tolist() == [[False, False, False, True, True]]
    assert between == 3


def test_pixels_in_between_are_reported_once_per_dataset(tmp_path, capsys):
    paths = [write(tmp_path / f"{number}.png", [[0, 100, 255]] * 2) for number in range(8)]
    masks = [ClassMasks("photo.jpg", (("lesion", path),), build=-1) for path in paths]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda mask: draw(mask, "lesion"), masks))
    said = capsys.readouterr().err
    assert said.count("2 pixels are neither black nor white") == 1
    draw(ClassMasks("photo.jpg", (("lesion", paths[0]),), build=-2), "lesion")
    assert capsys.readouterr().err.count("split at half") == 1


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([[0, 1, 2]], (0, 1, 2)),  # three classes by index
        ([[1, 2, 2]], (0, 1, 2)),  # none of which is black
        (np.kron([[0, 128, 255]], np.ones([4, 4])), (0, 128, 255)),  # three by tone
    ],
)
def test_three_classes_in_one_file(tmp_path, values, shown):
    path = write(tmp_path / "m.png", values)
    with raises("not-binary", where=path) as caught:
        one_mask(path, height=len(values), width=len(values[0]))
    assert caught.value.value == shown and ", ".join(map(str, shown)) in caught.value.rule
    assert "format 'folder' and `label_map`" in caught.value.hint


def test_three_classes_in_a_jpeg(tmp_path):
    pixels = disc()
    pixels[40:60, 40:60] = 128
    Image.fromarray(pixels).save(tmp_path / "m.jpg", quality=50)
    with raises("not-binary", where="m.jpg"):
        one_mask(str(tmp_path / "m.jpg"), height=64, width=64)


def test_colored_masks(tmp_path):
    path = write(tmp_path / "m.png", np.array([[[0, 0, 0], [0, 0, 255], [0, 255, 0]]] * 2))
    with raises("not-binary", where="m.png") as caught:
        one_mask(path)
    assert "`palette`" in caught.value.hint


def test_transparent_masks(tmp_path):
    pixels = np.full([2, 3, 4], 255, np.uint8)
    pixels[:, 2, 3] = 0
    path = write(tmp_path / "m.png", pixels)
    assert one_mask(path) == [[1, 1, 0], [1, 1, 0]]  # all that can be seen has one color: alpha is the mask
    pixels[0, 0, :3] = 0
    with raises("partly-transparent", where="m.png"):
        one_mask(write(tmp_path / "m.png", pixels))


def test_masks_that_cannot_be_read(tmp_path):
    path = write(tmp_path / "m.png", LEFT)
    data = (tmp_path / "m.png").read_bytes()
    (tmp_path / "m.png").write_bytes(data[:-8])
    with raises("unreadable-image", where="m.png"):
        one_mask(path)
    (tmp_path / "m.png").write_text("no image")
    with raises("unreadable-image", where="m.png"):
        one_mask(path)
    (tmp_path / "m.png").unlink()
    with raises("file-not-found", where="m.png"):
        one_mask(path)
    Image.fromarray(np.array([[0.0, 0.5]], np.float32)).save(tmp_path / "m.tiff")
    with raises("out-of-range", where="m.tiff"):
        one_mask(str(tmp_path / "m.tiff"), height=1, width=2)


def test_a_mask_of_another_size(tmp_path):
    path = write(tmp_path / "m.png", LEFT)
    with raises("size-mismatch", where="m.png") as caught:
        one_mask(path, width=4)
    assert "the mask is 3x2 pixels, its image photo.jpg 4x2" in caught.value.rule


def test_a_class_that_the_user_s_names_lack(tmp_path):
    path = write(tmp_path / "m.png", LEFT)
    with raises("unknown-class", where="m.png"):
        draw(ClassMasks("photo.jpg", (("lesion", path),)), "lesions")
