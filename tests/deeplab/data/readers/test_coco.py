"""COCO JSON: what is painted where, how files and splits go together, crowds, and what is said about wrong files."""

import json
import pickle
import time

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig
from deeplab.data import dataset as datasets
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.classes import classes_from
from deeplab.data.readers.coco import BuildCocoConfig, read_coco
from deeplab.data.readers.source import UNDIVIDED, Painter
from deeplab.utils.errors import UserError

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]
SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]  # pixels of rows and columns 1 to 3


def annotation(outline, category=3, image=1, number=1, **more):
    return {"id": number, "image_id": image, "category_id": category, "segmentation": outline, "iscrowd": 0, **more}


def content(*annotations, images=("a.jpg",), categories=CATEGORIES):
    listed = [{"id": i, "file_name": name, "height": 5, "width": 6} for i, name in enumerate(images, 1)]
    return {"images": listed, "annotations": list(annotations), "categories": categories}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).touch()
    return tmp_path


def write(folder, data, name="annotations.json"):
    (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))
    return str(folder / name)


def read(folder, *files, **settings):
    """The source of files that are contents, written as part0.json ..., or settings as they are."""
    named = ",".join(write(folder, data, f"part{number}.json") for number, data in enumerate(files))
    return read_coco(BuildCocoConfig(**{"annotations": named, "image_folder": str(folder / "images"), **settings}))


def draw(source, name="a", height=5, width=6):
    pair = next(pair for pair in source.pairs() if pair.name == name)
    painter = Painter(source.class_names, LabelSpec())
    return pickle.loads(pickle.dumps(pair)).mask.draw(painter, height, width).tolist()


# --- Files --------------------------------------------------------------------------------------------------


def test_paths_with_commas(folder):
    (folder / "a,b").mkdir()
    path = write(folder, content(annotation([SQUARE])), "a,b/instances_train.json")
    assert list(read(folder, annotations=f"train:{path},val:{write(folder, content(), 'v.json')}").splits) == [
        "train",
        "val",
    ]
    assert list(read(folder, annotations=path).splits) == ["train"]


def test_a_file_of_another_tool(folder):
    with raises("wrong-format", where="part0.json") as caught:
        read(folder, {"a.jpg123": {"filename": "a.jpg", "regions": []}})
    assert "no 'images', 'annotations', 'categories', but contains a.jpg123" in caught.value.rule
    with raises("wrong-format", where="part0.json"):
        read(folder, [])


def test_consequences_of_an_error_are_not_reported_beside_it(folder, capsys):
    with raises("image-not-found", where="image 1") as caught:
        read(folder, content(images=("lost.jpg",)))
    assert caught.value.value == "lost.jpg"
    assert "left out" not in capsys.readouterr().err


def test_images_that_do_not_exist_can_be_left_out(folder, capsys):
    data = content(annotation([SQUARE]), annotation([SQUARE], image=2), images=("a.jpg", "lost.jpg"))
    assert [pair.name for pair in read(folder, data, on_missing="skip").pairs()] == ["a"]
    assert "1 image named by annotations but not found: left out: lost.jpg" in capsys.readouterr().err


def test_the_folder_of_the_file_is_that_of_the_images_unless_another_is_set(folder):
    path = write(folder, content(annotation([SQUARE])), "images/annotations.json")
    source = read(folder, annotations=path, image_folder="")
    assert [pair.image for pair in source.pairs()] == [str(folder / "images" / "a.jpg")]


def test_the_layout_of_roboflow(folder):
    """A folder per split with images and _annotations.coco.json; the names of images may repeat."""
    categories = [{"id": 0, "name": "pets", "supercategory": "none"}, {"id": 1, "name": "dog", "supercategory": "pets"}]
    for split in ("train", "valid", "test"):
        (folder / "export" / split).mkdir(parents=True)
        (folder / "export" / split / "a.jpg").touch()
        data = content(annotation([SQUARE], 1), categories=categories)
        write(folder, data, f"export/{split}/_annotations.coco.json")
    for image_folder in ("", str(folder / "export")):
        source = read(folder, annotations=str(folder / "export"), image_folder=image_folder)
        assert list(source.splits) == ["test", "train", "val"]
        for split, name in (("train", "train"), ("val", "valid")):
            assert [pair.image for pair in source.splits[split]] == [str(folder / "export" / name / "a.jpg")]
        assert source.class_names == ("background", "dog")


# --- What is painted ----------------------------------------------------------------------------------------


def test_polygons_have_the_value_of_their_category_in_order_of_ids(folder):
    source = read(folder, content(annotation([SQUARE], 18), annotation([[0, 0, 2, 0, 2, 1, 0, 1]], 3)))
    assert source.class_names == ("background", "car", "dog")
    assert source.drawn and source.colors == ()
    assert source.splits[UNDIVIDED][0].mask.size == (5, 6)
    assert draw(source) == [
        [1, 1, 0, 0, 0, 0],
        [0, 2, 2, 2, 0, 0],
        [0, 2, 2, 2, 0, 0],
        [0, 2, 2, 2, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_rings_of_an_object_are_a_union_even_where_they_overlap(folder):
    inner = [2, 2, 3, 2, 3, 3, 2, 3]
    aside = [5, 0, 6, 0, 6, 1, 5, 1]
    label = draw(read(folder, content(annotation([SQUARE, inner, aside]))))
    assert label[2] == [0, 1, 1, 1, 0, 0]  # by the even-odd rule column 2 would be a hole
    assert label[0] == [0, 0, 0, 0, 0, 1]


def test_run_lengths_go_down_the_columns(folder):
    outline = {"size": [5, 6], "counts": [1, 3, 2, 1, 23]}
    assert draw(read(folder, content(annotation(outline)))) == [
        [0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("compressed", [False, True])
def test_both_kinds_of_run_lengths_draw_what_was_encoded(folder, compressed):
    pixels = np.array([[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], *[[0] * 6] * 2, [0, 0, 0, 0, 0, 1]], np.uint8)
    encoded = coco_mask.encode(np.asfortranarray(pixels))
    column = pixels.T.ravel().tolist()
    edges = [0, *(i for i in range(1, 30) if column[i] != column[i - 1]), 30]
    counts = encoded["counts"].decode() if compressed else np.diff(edges).tolist()
    outline = {"size": [5, 6], "counts": counts}
    assert draw(read(folder, content(annotation(outline)))) == pixels.tolist()


def test_small_objects_lie_on_large_ones_unless_the_file_counts(folder):
    data = content(annotation([[2, 2, 3, 2, 3, 3, 2, 3]], 18), annotation([SQUARE], 3, number=2))
    assert draw(read(folder, data))[2] == [0, 1, 2, 1, 0, 0]
    assert draw(read(folder, data, overlap="file"))[2] == [0, 1, 1, 1, 0, 0]


def test_objects_are_ordered_by_all_of_their_parts_together(folder):
    """The car's parts are each smaller than the dog, together larger: the dog lies on both."""
    halves = [[0, 0, 2, 0, 2, 5, 0, 5], [3, 0, 5, 0, 5, 5, 3, 5]]
    dog = [[0, 0, 6, 0, 6, 2.2, 0, 2.2]]
    assert draw(read(folder, content(annotation(dog, 18), annotation(halves, 3, number=2))))[0] == [2] * 6


EVERYWHERE = {"size": [5, 6], "counts": [0, 30]}


@pytest.mark.parametrize(
    ("crowd", "row"),
    [("ignore", [255, 2, 255, 255, 255, 255]), ("class", [1, 2, 1, 1, 1, 1]), ("skip", [0, 2, 0, 0, 0, 0])],
)
def test_crowds_never_hide_single_objects(folder, crowd, row):
    single = annotation([[1, 0, 2, 0, 2, 1, 1, 1]], 18)
    data = content(single, annotation(EVERYWHERE, 3, number=2, iscrowd=1))
    assert draw(read(folder, data, crowd=crowd))[0] == row


def test_crowds_that_lose_their_class_are_counted(folder, capsys):
    data = content(*(annotation([SQUARE], 18, number=n) for n in (1, 2)), annotation(EVERYWHERE, iscrowd=1, number=3))
    assert draw(read(folder, data))[0] == [255] * 6
    assert (
        "warning: 1 crowd region becomes ignored pixels; all of class car are (`crowd=class`" in capsys.readouterr().err
    )
    read(folder, data, crowd="skip")
    assert "1 crowd region left out (`crowd=class` gives them their class): a\n" in capsys.readouterr().err
    assert draw(read(folder, data, crowd="class"))[0] == [1] * 6
    assert "crowd" not in capsys.readouterr().err


@pytest.mark.parametrize("polygons", [0, 1])
def test_brush_strokes_that_cvat_calls_crowds_are_objects(folder, capsys, polygons):
    """CVAT's export gives `iscrowd` 1 and uncompressed run lengths to everything drawn with the brush."""
    outlines = [annotation([SQUARE], 18, number=1)] * polygons
    strokes = [annotation({"size": [5, 6], "counts": [n, 3, 27 - n]}, 3, number=9, iscrowd=1) for n in (0, 25)]
    source = read(folder, content(*outlines, *strokes))
    label = draw(source)
    assert [row[0] for row in label] == [1, 1, 1, 0, 0] and [row[5] for row in label] == [1, 1, 1, 0, 0]
    assert f"2 of {2 + polygons} regions are marked as crowds, as CVAT marks brush strokes" in capsys.readouterr().err
    ignored = draw(read(folder, content(*outlines, *strokes), crowd="ignore"))
    assert [row[0] for row in ignored] == [255] * 3 + [0] * 2


def test_a_class_of_brush_strokes_and_strokes_with_attributes_are_objects(folder, capsys):
    """Where most regions are polygons, a class that consists of crowds or the keys that CVAT writes tell it."""
    outlines = [annotation([SQUARE], 18, number=n) for n in range(1, 9)]
    strokes = [annotation({"size": [5, 6], "counts": [n, 3, 27 - n]}, 3, number=9, iscrowd=1) for n in (0, 25)]
    label = np.array(draw(read(folder, content(*outlines, *strokes))))
    assert (label == 1).sum() > 0 and not (label == 255).any()
    assert "all regions of class car are marked as crowds" in capsys.readouterr().err
    stroke = annotation({"size": [5, 6], "counts": [0, 3, 27]}, 18, number=9, iscrowd=1)
    assert (np.array(draw(read(folder, content(*outlines, stroke)))) == 255).any()
    cvats = {**stroke, "attributes": {"occluded": False}}
    assert not (np.array(draw(read(folder, content(*outlines, cvats)))) == 255).any()
    assert "1 regions are marked as crowds, as CVAT" in capsys.readouterr().err


def test_many_crowds_with_compressed_run_lengths_are_not_guessed(folder):
    packed = coco_mask.encode(np.asfortranarray(np.ones([5, 6], np.uint8)))["counts"].decode()
    data = content(annotation({"size": [5, 6], "counts": packed}, iscrowd=1))
    with raises("unclear-crowds", field="crowd") as caught:
        read(folder, data)
    assert caught.value.value == 1 and "`crowd=class`" in caught.value.hint
    assert draw(read(folder, data, crowd="class")) == [[1] * 6] * 5


def test_ignored_crowds_lie_under_larger_objects_too(folder):
    small_crowd = annotation({"size": [5, 6], "counts": [0, 1, 29]}, iscrowd=1)
    data = content(annotation([[0, 0, 6, 0, 6, 5, 0, 5]], 18), small_crowd)
    assert draw(read(folder, data, crowd="ignore"))[0][0] == 2


@pytest.mark.parametrize("iscrowd", [True, "1", "true"])
def test_a_crowd_in_any_form(folder, iscrowd):
    assert draw(read(folder, content(annotation([SQUARE], iscrowd=iscrowd)), crowd="ignore"))[1][1] == 255
    assert draw(read(folder, content(annotation([SQUARE], iscrowd="0"))))[1][1] == 1


def test_an_outline_without_its_list_is_one_ring(folder):
    assert draw(read(folder, content(annotation(SQUARE)))) == draw(read(folder, content(annotation([SQUARE]))))


def test_outlines_without_an_area_are_left_out(folder, capsys):
    data = content(annotation([[1, 1, 4, 4]], number=1), annotation([SQUARE, [1, 1]], number=2))
    assert draw(read(folder, data)) == draw(read(folder, content(annotation([SQUARE]))))
    assert "1 shape without an area left out (1 too small): a\n" in capsys.readouterr().err


def test_ids_may_be_text(folder):
    data = content(annotation([SQUARE], "18", image="1"), categories=[{"id": "18", "name": "dog"}])
    assert draw(read(folder, data))[1][1] == 1
    named = content(annotation([SQUARE], "d", image="x"), categories=[{"id": "d", "name": "dog"}])
    named["images"][0]["id"] = "x"
    assert draw(read(folder, named))[1][1] == 1


def test_images_of_another_size_than_stated_are_scaled_on_request(folder):
    data = content(annotation([SQUARE]))
    assert read(folder, data).pairs()[0].mask.size == (5, 6)
    source = read(folder, data, scale_annotations=True)
    assert source.pairs()[0].mask.size is None
    assert np.array_equal(draw(source, height=10, width=12), np.kron(draw(source), np.ones((2, 2))))


def test_images_of_unstated_size_take_their_own(folder):
    data = content(annotation([SQUARE]))
    del data["images"][0]["height"]
    source = read(folder, data)
    assert source.pairs()[0].mask.size is None
    assert draw(source, height=2, width=3) == [[0, 0, 0], [0, 1, 1]]


def test_run_lengths_state_the_size_where_the_image_does_not(folder):
    data = content(*(annotation({"size": [5, width], "counts": [5 * width]}, number=width) for width in (6, 7)))
    del data["images"][0]["height"]
    with raises("size-mismatch", where="annotation 7 of a") as caught:
        read(folder, data)
    assert caught.value.value == (5, 7)
    data["annotations"].pop()
    assert read(folder, data).pairs()[0].mask.size == (5, 6)


# --- Classes ------------------------------------------------------------------------------------------------


def test_colors_are_taken_where_every_category_has_one(folder):
    colored = [{"id": 1, "name": "tree", "color": [0, 99, 0]}, {"id": 2, "name": "sky", "color": [1, 2, 250]}]
    assert read(folder, content(categories=colored)).colors == ((0, 0, 0), (0, 99, 0), (1, 2, 250))
    colored[1]["color"] = "#0102fa"  # as COCO Annotator writes it
    assert read(folder, content(categories=colored)).colors == ((0, 0, 0), (0, 99, 0), (1, 2, 250))
    del colored[1]["color"]
    assert read(folder, content(categories=colored)).colors == ()


def test_colors_that_cannot_be_read_are_left_out(folder, capsys):
    colored = [{"id": 1, "name": "tree", "color": [0, 99, 0]}, {"id": 2, "name": "sky", "color": [1, 2, 300]}]
    assert read(folder, content(categories=colored)).colors == ()
    assert "1 class color that cannot be read, left out: sky" in capsys.readouterr().err


def test_an_unused_category_0_is_no_class(folder, capsys):
    categories = [{"id": 0, "name": "pets"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    assert read(folder, content(annotation([SQUARE], 2), categories=categories)).class_names == (
        *("background", "dog", "cat"),
    )
    assert "category 0, 'pets', is used by no annotation" in capsys.readouterr().err
    used = content(annotation([SQUARE], 0), categories=categories)
    assert read(folder, used).class_names == ("background", "pets", "dog", "cat")


def test_categories_of_one_name_are_one_class(folder):
    twice = [{"id": 0, "name": "fruit"}, {"id": 1, "name": "fruit"}, {"id": 2, "name": "background"}]
    source = read(folder, content(annotation([SQUARE], 0), annotation([[0, 0, 1, 0, 1, 1, 0, 1]], 1), categories=twice))
    assert source.class_names == ("background", "fruit")
    assert draw(source)[0][0] == draw(source)[1][1] == 1


def test_the_known_coco_has_the_published_things():
    known = datasets.load_known("coco")
    assert known.num_classes == 81
    assert [known.class_names[i] for i in (0, 1, 44, 80)] == ["background", "person", "knife", "toothbrush"]


# --- Several files and splits -------------------------------------------------------------------------------


def test_things_and_stuff_of_an_image_go_together(folder):
    things = content(annotation([SQUARE], 18), images=("a.jpg",))
    everything = {"size": [5, 6], "counts": [0, 30]}
    stuff = content(
        annotation({"size": [5, 6], "counts": [0, 5, 25]}, 92),
        annotation(everything, 183, number=2),
        images=("a.jpg",),
        categories=[{"id": 92, "name": "banner"}, {"id": 183, "name": "other"}],
    )
    source = read(folder, things, stuff)
    assert source.class_names == ("background", "car", "dog", "banner")
    assert len(source.pairs()) == 1
    assert draw(source)[1] == [3, 2, 2, 2, 0, 0]


def test_files_that_number_their_images_alike_are_told_apart_by_file_name(folder):
    source = read(folder, content(annotation([SQUARE]), images=("a.jpg",)), content(images=("b.jpg",)))
    assert [pair.name for pair in source.pairs()] == ["a", "b"]
    assert draw(source, "a")[1][1] == 1 and draw(source, "b")[1][1] == 0


def test_splits_are_named_before_the_files(folder):
    first, second = write(folder, content(), "x.json"), write(folder, content(images=("b.jpg",)), "y.json")
    source = read(folder, annotations=f"train:{first}, val:{second}")
    assert {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()} == {
        "train": ["a"],
        "val": ["b"],
    }


def test_every_split_may_have_its_own_folder(folder):
    for split in ("one", "two"):
        (folder / split).mkdir()
        (folder / split / "a.jpg").touch()
    train, val = write(folder, content(), "train.json"), write(folder, content(), "val.json")
    source = read(folder, annotations=f"{train},{val}", image_folder=f"train:{folder / 'one'},val:{folder / 'two'}")
    assert [pair.image for pair in source.pairs()] == [str(folder / "one" / "a.jpg"), str(folder / "two" / "a.jpg")]


# --- What is said -------------------------------------------------------------------------------------------


def test_boxes_and_images_without_annotation_are_counted_once(folder, capsys):
    data = content(
        annotation([], number=1), annotation(None, number=2), annotation([[]], number=3), images=("a.jpg", "b.jpg")
    )
    del data["annotations"][1]["segmentation"]
    assert len(read(folder, data).pairs()) == 2
    said = capsys.readouterr().err
    assert "warning: 3 shapes without an area left out (3 boxes): a\n" in said
    assert "warning: 2 images without a shape: background everywhere (`skip_empty=true` leaves such images out)" in said


def test_images_that_no_file_lists_are_counted(folder, capsys):
    read(folder, content(annotation([SQUARE])))
    assert "warning: 1 image that no annotation file lists left out: b.jpg" in capsys.readouterr().err


def test_images_without_annotation_can_be_left_out(folder):
    data = content(annotation([SQUARE], image=2), images=("a.jpg", "b.jpg"))
    assert [pair.name for pair in read(folder, data, skip_empty=True).pairs()] == ["b"]
    with raises("no-pairs"):
        read(folder, content(), skip_empty=True)


def change(path, value):
    """A change to the content: the value at a path of keys, or its removal."""

    def apply(data):
        *way, last = path
        for key in way:
            data = data[key]
        if value is KeyError:
            del data[last]
        else:
            data[last] = value

    return apply


FIRST = ("annotations", 0)


@pytest.mark.parametrize(
    ("apply", "code", "place"),
    [
        (change(("images",), KeyError), "wrong-format", ""),
        (change(("annotations",), None), "wrong-type", ""),
        (change(("categories",), []), "missing-class-names", ""),
        (change(("categories", 0, "id"), 1.5), "wrong-type", "category number 1"),
        (change(("categories", 0, "name"), ""), "empty-name", "category 18"),
        (change(("images", 0, "file_name"), KeyError), "missing-key", "image 1"),
        (change(("images", 0, "file_name"), "../../etc/x.jpg"), "image-not-found", "image 1"),
        (change(("images", 0, "height"), 0), "out-of-range", "image 1"),
        (change(("images", 1, "id"), 1), "duplicate-id", "image 1"),
        (change(("images", 1, "file_name"), "a.jpg"), "duplicate-image", "image 2"),
        (change((*FIRST, "image_id"), 9), "unknown-id", "annotation 1"),
        (change((*FIRST, "category_id"), 9), "unknown-id", "annotation 1 of a"),
        (change((*FIRST, "category_id"), "car"), "unknown-id", "annotation 1 of a"),
        (change((*FIRST, "category_id"), [3]), "wrong-type", "annotation 1 of a"),
        (change((*FIRST, "iscrowd"), "perhaps"), "wrong-type", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), "mask.png"), "wrong-type", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), [[1, 2, 3, 4, 5]]), "invalid-points", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), [[1, "2", 3, 4, 5, 6]]), "wrong-type", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), [[1, 1e300, 3, 4, 5, 6]]), "out-of-range", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), {"size": [5, 6]}), "missing-key", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), {"size": [6, 5], "counts": [30]}), "size-mismatch", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), {"size": [5], "counts": [30]}), "wrong-type", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), {"size": [5, 2**40], "counts": [1]}), "wrong-type", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), {"size": [5, 6], "counts": [4, 5]}), "invalid-rle", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), {"size": [5, 6], "counts": [40, -10]}), "out-of-range", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), {"size": [5, 6], "counts": [30.5]}), "wrong-type", "annotation 1 of a"),
        (change((*FIRST, "segmentation"), {"size": [5, 6], "counts": "oo"}), "invalid-rle", "annotation 1 of a"),
        (change(FIRST, 7), "wrong-type", "annotation number 1"),
        (change((*FIRST, "segments_info"), []), "wrong-format", ""),
        (change((*FIRST, "caption"), "A dog."), "wrong-format", ""),
    ],
)
def test_files_that_break_the_format(folder, apply, code, place):
    data = content(annotation([SQUARE]), images=("a.jpg", "b.jpg"), categories=[dict(entry) for entry in CATEGORIES])
    read(folder, data)
    apply(data)
    with raises(code, where=f"part0.json, {place}" if place else "part0.json") as caught:
        read(folder, data)
    assert caught.value.hint


def test_unknown_ids_are_shown_beside_the_known_ones(folder):
    with raises("unknown-id", where="annotation 1 of a") as caught:
        read(folder, content(annotation([SQUARE], 9)))
    assert caught.value.value == 9 and caught.value.hint == "its ids are 3, 18"


def test_several_errors_are_reported_at_once(folder):
    data = content(*(annotation([[1, "2"]], number=number) for number in (7, 8)))
    with pytest.raises(UserError, match=r"annotation 7 of a.*\n.*1 more error.*\n.*annotation 8 of a"):
        read(folder, data)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid-json"),
        ("{", "invalid-json"),
        ("<annotation/>", "invalid-json"),
        ("[]", "wrong-format"),
        ('{"images": NaN}', "wrong-format"),
        ("[" * 100_000, "invalid-json"),
    ],
)
def test_files_that_are_no_json_object_are_refused(folder, text, code):
    with raises(code, where="annotations.json"):
        read(folder, annotations=write(folder, text))


def test_annotations_of_images_that_are_not_listed_can_be_left_out(folder, capsys):
    data = content(annotation([SQUARE]), annotation([SQUARE], image=9, number=2))
    with raises("unknown-id", where="annotation 2") as caught:
        read(folder, data)
    assert "on_missing=skip" in caught.value.hint
    assert len(read(folder, data, on_missing="skip").pairs()) == 1
    assert "1 annotation whose image is not listed: left out" in capsys.readouterr().err


def test_categories_of_two_files_must_agree(folder):
    with raises("class-mismatch", where="part1.json, category 3") as caught:
        read(folder, content(), content(images=("b.jpg",), categories=[{"id": 3, "name": "bus"}]))
    assert caught.value.value == "bus" and "'car'" in caught.value.rule


def test_more_classes_than_8_bits_hold_are_drawn_with_16(folder):
    many = [{"id": number, "name": f"class {number}"} for number in range(1, 301)]
    regions = annotation([SQUARE], category=300), annotation([[4, 0, 6, 0, 6, 5, 4, 5]], category=255, number=2)
    bitmap = annotation({"size": [5, 6], "counts": [0, 1, 29]}, category=299, number=3)  # the first pixel
    source = read(folder, content(*regions, bitmap, categories=many))
    classes = classes_from(LabelConfig(), source)
    assert (classes.num_classes, classes.rule.ignore_label) == (301, 65535)
    label = next(iter(source.pairs())).mask.draw(classes.painter, 5, 6)
    assert label.dtype == np.uint16 and np.unique(label).tolist() == [0, 255, 299, 300]
    assert (label[2, 2], label[2, 5], label[0, 0]) == (300, 255, 299)


@pytest.mark.parametrize(
    ("settings", "code", "field"),
    [
        ({"annotations": ""}, "missing-setting", "annotations"),
        ({"annotations": "train:{0},{0}"}, "missing-split", "annotations"),
        ({"annotations": "train:{0}", "image_folder": "val:{1}"}, "missing-split", "image_folder"),
        ({"image_folder": "train:{1}"}, "missing-split", "image_folder"),
        ({"image_folder": "{1}/nowhere"}, "folder-not-found", "image_folder"),
        ({"annotations": "{0}x"}, "file-not-found", None),
    ],
)
def test_settings_that_do_not_fit(folder, settings, code, field):
    places = write(folder, content()), folder / "images"
    settings = {key: value.format(*places) for key, value in settings.items()}
    with raises(code, field=field):
        read(folder, **{"annotations": places[0], **settings})


# --- Size ---------------------------------------------------------------------------------------------------


def seconds_for(folder, number):
    images = [f"{index:05}.jpg" for index in range(number // 10)]
    for name in images:
        (folder / "images" / name).touch()
    ring = np.linspace(0, 5, 40).tolist()
    file = write(folder, content(*(annotation([ring], 3, 1 + i // 10, i) for i in range(number)), images=images))
    start = time.process_time()  # other processes must not count
    assert len(read(folder, annotations=file).pairs()) == number // 10
    return time.process_time() - start


def test_reading_takes_time_in_proportion_to_the_annotations(folder):
    few, many = seconds_for(folder, 2_000), seconds_for(folder, 20_000)
    assert many < 50 * few  # ten times as many: in proportion 10, in squares 100


# --- LVIS -----------------------------------------------------------------------------------------------------


def lvis(*annotations, images=("train2017/000000000009.jpg",), number=1203):
    """A file as LVIS 1.0 has it: no `file_name` and no `iscrowd`, federated images, categories with synsets."""
    listed = [
        {
            "id": place,
            "height": 5,
            "width": 6,
            "license": 1,
            "date_captured": "2013-11-14 17:02:52",
            "coco_url": f"http://images.cocodataset.org/{name}",
            "flickr_url": "http://farm9.staticflickr.com/1_z.jpg",
            "neg_category_ids": [5, 6],
            "not_exhaustive_category_ids": [7],
        }
        for place, name in enumerate(images, 1)
    ]
    categories = [
        {"id": place, "name": f"thing_{place}", "synset": f"thing.n.{place:02d}", "synonyms": ["x"], "def": "a thing"}
        | {"frequency": "rcf"[place % 3], "image_count": 3, "instance_count": 9}
        for place in range(1, number + 1)
    ]
    own = [{key: value for key, value in one.items() if key != "iscrowd"} for one in annotations]
    return {"info": {}, "licenses": [], "images": listed, "annotations": own, "categories": categories}


def test_lvis_with_images_in_two_folders_and_more_classes_than_a_byte_holds(tmp_path, capsys):
    names = ("train2017/000000000009.jpg", "val2017/000000000009.jpg", "val2017/000000000025.jpg")
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    square = [1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 1.0, 4.0]
    train = lvis(annotation([square], 1203), images=names[:1])
    val = lvis(annotation([square], 300), annotation([square], 2, image=2, number=2), images=names[1:])
    paths = [write(tmp_path, part, f"lvis_v1_{split}.json") for split, part in (("train", train), ("val", val))]
    source = read_coco(BuildCocoConfig(annotations=",".join(paths), image_folder=str(tmp_path / "images")))
    assert {split: len(pairs) for split, pairs in source.splits.items()} == {"train": 1, "val": 2}
    assert [pair.image for pair in source.pairs()] == [str(tmp_path / "images" / name) for name in names]
    classes = classes_from(LabelConfig(), source)
    assert (classes.num_classes, classes.rule.ignore_label, classes.names[1203]) == (1204, 65535, "thing_1203")
    labels = [pair.mask.draw(classes.painter, 5, 6) for pair in source.pairs()]
    assert [np.unique(label).tolist() for label in labels] == [[0, 1203], [0, 300], [0, 2]]
    assert "only some classes are annotated" in "".join(capsys.readouterr())


def test_an_image_without_any_name(folder):
    data = lvis()
    del data["images"][0]["coco_url"]
    with raises("missing-key", where="image 1"):
        read(folder, data)
