"""No option is ignored without a word: what does nothing beside another one is refused."""

from __future__ import annotations

import pytest
from command_line import Line, chinese, line  # noqa: F401 - fixtures

UNUSED = [
    (("integrate", "task", "--panel", "--steps", "3"), "--steps does nothing beside --panel"),
    (("integrate", "task", "--panel", "--steps", "5"), "--steps does nothing beside --panel"),
    (("serve", "--lesson", "--port", "3"), "--port does nothing beside --lesson"),
    (("serve", "--lesson", "--persona", "lawyer"), "--persona does nothing beside --lesson"),
    (("serve", "--lesson", "--coordinator", "--expert", "lawyer"), "--coordinator, --expert does nothing beside --lesson"),
    (("serve", "--persona", "lawyer", "--expert-description", "a=b"), "--expert-description does nothing beside --persona"),
    (("serve", "-p", "lawyer", "--coordinator"), "--coordinator does nothing beside --persona"),
]


@pytest.mark.parametrize(("arguments", "said"), UNUSED, ids=[" ".join(each) for each, _ in UNUSED])
def test_an_option_that_would_be_ignored_is_refused(line: Line, arguments: tuple[str, ...], said: str) -> None:  # noqa: F811
    done = line(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.usefixtures("chinese")
def test_in_chinese(line: Line) -> None:  # noqa: F811
    assert "使用 --lesson 时，--port 不起作用" in line("serve", "--lesson", "--port", "3").err
