"""COCO JSON: what is painted where, how files and splits go together, and what is said of files that are not right."""

import json
import pickle
import time

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from deeplab.data import dataset as datasets
from deeplab.data.labels import LabelRule
from deeplab.data.readers.coco import BuildCocoConfig, read_coco
from deeplab.data.readers.source import UNDIVIDED, Painter, indices_of
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
    painter = Painter(indices_of(source.class_names, 255), 255, LabelRule())
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
    with pytest.raises(UserError, match=r"is no COCO file: it has no `images`, `annotations`, .*but holds a\.jpg123\n"):
        read(folder, {"a.jpg123": {"filename": "a.jpg", "regions": []}})
    with pytest.raises(UserError, match=r"part0\.json: is no COCO file.*holds a list"):
        read(folder, [])


def test_what_follows_from_a_fault_is_not_told_beside_it(folder, capsys):
    with pytest.raises(UserError, match=r"its image 'lost\.jpg'"):
        read(folder, content(images=("lost.jpg",)))
    assert "left out" not in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("crowd", "row"),
    [("ignore", [255, 2, 255, 255, 255, 255]), ("class", [1, 2, 1, 1, 1, 1]), ("skip", [0, 2, 0, 0, 0, 0])],
)
def test_crowds_never_hide_single_objects(folder, crowd, row):
    everywhere = {"size": [5, 6], "counts": [0, 30]}
    single = annotation([[1, 0, 2, 0, 2, 1, 1, 1]], 18)
    data = content(single, annotation(everywhere, 3, number=2, iscrowd=1))
    assert draw(read(folder, data, crowd=crowd))[0] == row


def test_crowds_that_lose_their_class_are_counted(folder, capsys):
    """Some tools call every mask a crowd, and nothing would be left to learn."""
    data = content(annotation({"size": [5, 6], "counts": [0, 30]}, iscrowd=1))
    read(folder, data)
    read(folder, data, crowd="skip")
    read(folder, data, crowd="class")
    said = capsys.readouterr().err
    told = "1 crowd regions {} (--crowd=class gives them their class): a\n"
    assert said.count(told.format("taken for pixels that do not count")) == said.count(told.format("left out")) == 1
    assert said.count("crowd regions") == 2


def test_ignored_crowds_lie_under_larger_objects_too(folder):
    small_crowd = annotation({"size": [5, 6], "counts": [0, 1, 29]}, iscrowd=1)
    data = content(annotation([[0, 0, 6, 0, 6, 5, 0, 5]], 18), small_crowd)
    assert draw(read(folder, data))[0][0] == 2


def test_images_of_unstated_size_take_their_own(folder):
    data = content(annotation([SQUARE]))
    del data["images"][0]["height"]
    source = read(folder, data)
    assert source.pairs()[0].mask.size is None
    assert draw(source, height=2, width=3) == [[0, 0, 0], [0, 1, 1]]


def test_run_lengths_of_another_size_than_the_picture_are_refused_when_drawn(folder):
    data = content(annotation({"size": [5, 6], "counts": [30]}))
    del data["images"][0]["height"]
    with pytest.raises(UserError, match="image a: run lengths are of 6x5 pixels, the image has 7x5"):
        draw(read(folder, data), height=5, width=7)


# --- Classes ------------------------------------------------------------------------------------------------


def test_colors_are_taken_where_every_category_has_one(folder):
    colored = [{"id": 1, "name": "tree", "color": [0, 99, 0]}, {"id": 2, "name": "sky", "color": [1, 2, 250]}]
    assert read(folder, content(categories=colored)).colors == ((0, 0, 0), (0, 99, 0), (1, 2, 250))
    del colored[1]["color"]
    assert read(folder, content(categories=colored)).colors == ()


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


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("instances_train2017.json", "instances_val2017.json"), ["train", "val"]),
        (("Train.json", "my_valid.json"), ["train", "val"]),
        (("trainval.json", "test-1.json"), ["trainval", "test"]),
        (("instances_train2017.json", "more.json"), [UNDIVIDED]),
        (("contest.json", "latest.json"), [UNDIVIDED]),
    ],
)
def test_splits_are_read_from_file_names_where_all_tell(folder, names, splits):
    files = [
        write(folder, content(images=(image,)), name) for name, image in zip(names, ("a.jpg", "b.jpg"), strict=True)
    ]
    assert list(read(folder, annotations=",".join(files)).splits) == splits


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
    assert "warning: 2 images without a shape: background all over (--skip_empty=true leaves them out): a, b" in said


def test_images_that_no_file_lists_are_counted(folder, capsys):
    read(folder, content(annotation([SQUARE])))
    assert "warning: 1 images that no annotation file lists left out: b.jpg" in capsys.readouterr().err


def test_images_without_annotation_can_be_left_out(folder):
    data = content(annotation([SQUARE], image=2), images=("a.jpg", "b.jpg"))
    assert [pair.name for pair in read(folder, data, skip_empty=True).pairs()] == ["b"]
    with pytest.raises(UserError, match="no image with annotations"):
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
    ("apply", "text"),
    [
        (change(("images",), KeyError), "part0.json: is no COCO file: it has no `images`, but holds ann"),
        (change(("annotations",), None), "part0.json: `annotations` must be a list, not null"),
        (change(("categories",), []), "`categories` is empty"),
        (change(("categories", 0, "id"), "18"), "category number 1: `id` must be a whole number, not the text '18'"),
        (change(("categories", 0, "color"), [1, 2, 300]), "category 18: `color` must be three whole numbers"),
        (change(("images", 0, "file_name"), KeyError), "image 1: `file_name` is missing"),
        (change(("images", 0, "file_name"), "../../etc/x.jpg"), "image 1: its image '../../etc/x.jpg' is not in"),
        (change(("images", 0, "height"), 0), "image 1: `height` and `width` must be above 0, not 0 and 6"),
        (change(("images", 1, "id"), 1), "image 1: the id was there before"),
        (change(("images", 1, "file_name"), "a.jpg"), "image 2: a was there before"),
        (change((*FIRST, "image_id"), 9), "annotation 1: image 9 is not in the list `images`"),
        (change((*FIRST, "category_id"), 9), "annotation 1 of a: category 9 is not in the list .*\n.*ids are 3, 18"),
        (change((*FIRST, "category_id"), "car"), "annotation 1 of a: `category_id` must be a whole number"),
        (change((*FIRST, "segmentation"), "mask.png"), "annotation 1 of a: `segmentation` must be a list or an object"),
        (
            change((*FIRST, "segmentation"), [[1, 2, 3, 4]]),
            "annotation 1 of a: a polygon needs 3 points at least, not 2",
        ),
        (change((*FIRST, "segmentation"), [[1, 2, 3, 4, 5]]), "annotation 1 of a: points must be pairs"),
        (change((*FIRST, "segmentation"), [[1, "2", 3, 4, 5, 6]]), "annotation 1 of a: coordinates must be numbers"),
        (change((*FIRST, "segmentation"), [[1, 1e300, 3, 4, 5, 6]]), "annotation 1 of a: coordinates are pixels"),
        (change((*FIRST, "segmentation"), {"size": [5, 6]}), "annotation 1 of a: `counts` is missing"),
        (change((*FIRST, "segmentation"), {"size": [6, 5], "counts": [30]}), "lengths are of 5x6 pixels, .* has 6x5"),
        (change((*FIRST, "segmentation"), {"size": [5], "counts": [30]}), "`size` must be the height and the width"),
        (
            change((*FIRST, "segmentation"), {"size": [5, 6], "counts": [4, 5]}),
            "add up to 9 pixels, but the mask has 30",
        ),
        (change((*FIRST, "segmentation"), {"size": [5, 6], "counts": [40, -10]}), "a run length of -10 pixels"),
        (change((*FIRST, "segmentation"), {"size": [5, 6], "counts": [30.5]}), "must be a list of whole numbers"),
        (change((*FIRST, "segmentation"), {"size": [5, 6], "counts": "oo"}), "compressed run lengths are damaged"),
        (change(FIRST, 7), "annotation number 1: must be an object with `image_id`, not the number 7"),
        (change((*FIRST, "segments_info"), []), "panoptic file.*\n.*instances_"),
        (change((*FIRST, "caption"), "A dog."), "captions.*\n.*instances_"),
    ],
)
def test_files_that_break_the_format_are_named_with_the_rule(folder, apply, text):
    data = content(annotation([SQUARE]), images=("a.jpg", "b.jpg"), categories=[dict(entry) for entry in CATEGORIES])
    read(folder, data)
    apply(data)
    with pytest.raises(UserError, match=text) as caught:
        read(folder, data)
    assert "part0.json" in str(caught.value)
    assert caught.value.hint


def test_several_faults_are_told_at_once(folder):
    data = content(*(annotation([[1, 2]], number=number) for number in (7, 8)))
    with pytest.raises(UserError, match=r"annotation 7 of a.*\n.*1 more fault.*\n.*annotation 8 of a"):
        read(folder, data)


@pytest.mark.parametrize("text", ["", "{", "<annotation/>", "[]", '{"images": NaN}', "[" * 100_000])
def test_files_that_are_no_json_object_are_refused(folder, text):
    with pytest.raises(UserError, match=r"annotations\.json"):
        read(folder, annotations=write(folder, text))


def test_categories_of_two_files_must_agree(folder):
    with pytest.raises(UserError, match=r"part1.json, category 3: is 'bus', but was 'car' before\n.*same categories"):
        read(folder, content(), content(images=("b.jpg",), categories=[{"id": 3, "name": "bus"}]))


def test_more_classes_than_labels_hold_are_refused(folder):
    many = [{"id": number, "name": f"class {number}"} for number in range(300)]
    with pytest.raises(UserError, match="301 classes with the background; labels of 8 bits hold 255"):
        read(folder, content(categories=many))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"annotations": ""}, "--annotations: is empty"),
        ({"annotations": "train:{0},{0}"}, "--annotations: names a split for some parts, but not for"),
        ({"annotations": "train:{0}", "image_folder": "val:{1}"}, "--image_folder: has no folder for split 'train'"),
        ({"image_folder": "train:{1}"}, "--image_folder: names splits, but --annotations does not"),
        ({"image_folder": "val:{1},val:{1}"}, "--image_folder: names a split twice"),
        ({"image_folder": "{1},{1}"}, "--image_folder: .* are several folders"),
        ({"image_folder": "{1}/nowhere"}, "--image_folder: no such folder"),
        ({"annotations": "{0}x"}, "jsonx: cannot be read"),
    ],
)
def test_flags_that_cannot_be_are_refused(folder, settings, text):
    places = write(folder, content()), folder / "images"
    settings = {key: value.format(*places) for key, value in settings.items()}
    with pytest.raises(UserError, match=text):
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
