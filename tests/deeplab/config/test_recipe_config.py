"""The settings of the recipe."""

import pytest
from support.errors import raises

from deeplab.config.recipe_config import RecipeConfig


@pytest.mark.parametrize(
    ("values", "is_on", "budget"),
    [
        ({}, False, 0),
        ({"recipe": "auto"}, True, 0),
        ({"time_budget": "30min"}, True, 1800),
        ({"recipe": "auto", "time_budget": "1.5 h"}, True, 5400),
    ],
)
def test_what_is_on(values, is_on, budget):
    config = RecipeConfig(**values)
    assert (config.is_on(), config.budget_seconds()) == (is_on, budget)


def test_other_values_are_refused_when_they_are_read():
    with raises("wrong-type", "time_budget"):
        RecipeConfig(time_budget="30")
    with raises("unknown-name", "recipe"):
        RecipeConfig(recipe="best")
