"""Hosts of a launch."""

import pytest
from support.errors import raises

from deeplab.config.launch_config import LaunchConfig


@pytest.mark.parametrize("given", [("a,b", "user@c"), ("a", " b", "user@c,")])
def test_hosts_are_taken_one_by_one(given):
    assert LaunchConfig(hosts=given).names() == ("a", "b", "user@c")


@pytest.mark.parametrize(
    ("hosts", "code"),
    [
        (("a,a",), "listed-twice"),
        ((",",), "missing-setting"),
        (("-oProxyCommand=x",), "bad-host"),
        (("a;reboot",), "bad-host"),
        (("a b",), "bad-host"),
        (("$(x)",), "bad-host"),
    ],
)
def test_what_is_no_list_of_hosts(hosts, code):
    with raises(code, "hosts"):
        LaunchConfig(hosts=hosts)
