"""A pytest plugin: a stand-in daemon for each test that asks for one.

It is found by pytest wherever Orchestra is installed, so its daemon is loaded only when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import orchestra.standin


@pytest.fixture
def standin() -> Iterator[orchestra.standin.StandIn]:
    """A started stand-in daemon; scripted replies that the test leaves over make it fail."""
    with orchestra.standin.StandIn() as daemon:
        yield daemon
