"""A pytest plugin: a stand-in daemon for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestra.standin.daemon import StandIn


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A started stand-in daemon; scripted replies that the test leaves over make it fail."""
    with StandIn() as daemon:
        yield daemon
