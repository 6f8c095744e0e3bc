"""Sums of losses as text."""

import pytest
from support.errors import raises

from deeplab.losses.expression import Term, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dice", [Term("dice", "dice")]),
        (" dice ", [Term("dice", "dice")]),
        ("0.5*dice", [Term("0.5 * dice", "dice", 0.5)]),
        ("dice*2", [Term("dice * 2", "dice", 2.0)]),
        ("a + b+1e-2*c", [Term("a", "a"), Term("b", "b"), Term("0.01 * c", "c", 0.01)]),
        (
            "3*tversky(alpha=0.3, beta=.7) + a(of='image')",
            [
                Term("3 * tversky(alpha=0.3, beta=0.7)", "tversky", 3.0, {"alpha": 0.3, "beta": 0.7}),
                Term("a(of='image')", "a", 1.0, {"of": "image"}),
            ],
        ),
    ],
)
def test_sums(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dice dice",
        "dice - a",
        "2",
        "2*3",
        "a*b",
        "True*a",
        "a(1)",
        "a(b=c)",
        "a(b=1)()",
        "a(b={[]: 1})",
        "1e999*a",
        "a" + "+a" * 5000,
        "a.b",
        "__import__('os')",
        "a(",
        "[a]",
    ],
)
def test_other_text_is_refused(text):
    with raises("not-a-sum-of-losses", "loss") as caught:
        parse(text)
    assert caught.value.value == text
