"""What can be mended for certain, decided from all masks together."""

import collections

import pytest

from deeplab.data.labels import LabelRule
from deeplab.data.readers.classes import Classes
from deeplab.data.validation.fix_plan import Survey, decide, known_palette
from deeplab.data.validation.label_statistics import certain_map
from deeplab.utils.errors import UserError

NAMES = ("background", "hair", "skin")


class TestValueMap:
    @pytest.mark.parametrize(
        ("values", "classes", "mapping"),
        [
            ([0, 255], None, {255: 1}),
            ([0, 255], 2, {255: 1}),
            ([0, 255], 21, {}),  # a crop of VOC without an object
            ([0, 150, 250], 3, {150: 1, 250: 2}),
            ([0, 150, 250, 255], 3, {150: 1, 250: 2}),
            ([0, 85, 170, 255], 4, {85: 1, 170: 2, 255: 3}),
            ([0, 150, 250], 4, {}),
            ([0, 150, 250], None, {150: 1, 250: 2}),
            ([0, 128, 255], None, {128: 1, 255: 2}),  # evenly from black to white
            ([0, 127, 255], None, {127: 1, 255: 2}),
            ([0, 100, 255], None, {100: 1}),  # 255 may be what is ignored
            ([0, 1, 255], None, {}),
            ([0, 1, 150], None, {}),  # one value is strange, the others are indices
            ([1, 2, 3], 3, {1: 0, 2: 1, 3: 2}),
            ([0, 1, 2], 3, {}),
            ([0, 1, 255], 3, {}),  # 255 is ignored, class 2 does not occur
            ([0, 2], 3, {}),
            ([0, 1, 2, 3], 3, {}),
            ([0, 1000, 2000], 3, {1000: 1, 2000: 2}),
            ([], 3, {}),
            ([0, *range(2, 21), 77], 21, {}),  # one damaged mask in a set without class 1
            ([0, *range(2, 21), 77, 255], 21, {}),
            ([0, 1, 128], 3, {}),
        ],
    )
    def test_certain_or_not(self, values, classes, mapping):
        assert certain_map(values, LabelRule(classes)) == mapping

    def test_the_plan_says_what_becomes_of_what(self):
        survey = Survey(collections.Counter({0: 5, 150: 3, 250: 2}))
        plan = decide(survey, Classes(3, NAMES, (), LabelRule(3)))
        assert plan.said() == ["values of masks are numbered in their order: 150 becomes 1 hair, 250 becomes 2 skin"]
        assert plan.classes.rule.mapping == {150: 1, 250: 2} and plan.of_colors.mapping is None

    def test_what_the_user_says_comes_first(self):
        survey = Survey(collections.Counter({0: 5, 150: 3, 250: 2}))
        plan = decide(survey, Classes(3, NAMES, (), LabelRule(3, mapping={150: 2, 250: 1})))
        assert plan.mapping == {} and plan.classes.rule.mapping == {150: 2, 250: 1}

    def test_nothing_is_certain_of_one_strange_value(self):
        survey = Survey(collections.Counter({0: 5, 1: 3, 150: 2}))
        with pytest.raises(UserError, match=r"0, 1, 150: as class indices"):
            decide(survey, Classes(None, (), (), LabelRule()))

    @pytest.mark.parametrize(
        ("values", "number"), [((0, 150, 250), 3), ((0, 255), 2), ((0, 128, 255), 3), ((0, 100, 255), 2)]
    )
    def test_where_nobody_knows_the_number_the_tones_tell_it(self, values, number):
        plan = decide(Survey(collections.Counter(values)), Classes(None, (), (), LabelRule()))
        assert plan.classes.num_classes == number == len(plan.classes.names)


class TestKnownPalette:
    CODES = (0x0000FF, 0xFF0000, 0x00FF00)

    def known(self, codes=CODES, number=None, names=(), colors=(), **options):
        found = known_palette(codes, Classes(number, names, colors, LabelRule(number)), **options)
        return found.name if found else None

    def test_one_data_set_has_these_colors(self):
        assert self.known() == "lfw_parts" == self.known(number=3) == self.known(names=NAMES, number=3)

    def test_not_certain(self):
        assert self.known(number=4) is None
        assert self.known((0x0000FF, 0xFF0000)) is None  # two colors are no palette
        assert self.known((*self.CODES, 0x0000FE)) is None
        assert self.known(names=("background", "skin", "hair"), number=3) is None  # another order
        assert self.known(mixed=True) is None

    def test_colors_that_are_given_are_the_only_candidate(self):
        own = ((9, 9, 9), (0, 255, 0))
        assert self.known((0x00FF00, 0x090909), 2, ("a", "b"), own, mixed=True) == ""
        assert self.known(self.CODES, 2, ("a", "b"), own) is None
