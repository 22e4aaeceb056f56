"""The programs that people already use, real ones, in front of the gateway over real sockets.

They are asked as their own pages say, with nothing changed but the address. What they think of an answer counts,
not what it looks like on the wire.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from served import running

from orchestra.gateway import create_app
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

openai: Any = pytest.importorskip("openai", reason="the clients are not installed: `make test` brings them")

QUESTION = [{"role": "user", "content": "违约金过高可以调整吗？"}]
LAWYER = {"model": "orchestra/lawyer", "messages": QUESTION}
OWN = ("OPENAI_", "LANGSMITH_", "LANGCHAIN_", "LLM_", "OLLAMA_")


class Verdict(BaseModel):
    """What a structured answer is asked for."""

    allowed: bool
    article: int


@pytest.fixture(scope="module")
def daemon(clean_environment: object) -> Iterator[StandIn]:
    with StandIn() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def address(daemon: StandIn) -> Iterator[str]:
    settings = Settings.read(host=daemon.url, language="en")
    with running(create_app(settings=settings), settings) as url:
        yield url


@pytest.fixture(autouse=True)
def own_setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Takes the developer's keys and services away from the clients; gives the folder of what they keep."""
    for name in [name for name in os.environ if name.startswith(OWN) and name != "ORCHESTRA_TEST_OLLAMA"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    return tmp_path


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


# --- openai


@pytest.fixture
def sdk(address: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_lists_and_chats(sdk: Any) -> None:
    assert {"orchestra/auto", "orchestra/lawyer", "orchestra/search"} <= {model.id for model in sdk.models.list()}
    assert sdk.models.retrieve("orchestra/lawyer").id == "orchestra/lawyer"
    answer = sdk.chat.completions.create(**LAWYER, max_tokens=20)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_openai_streams_and_counts(sdk: Any, daemon: StandIn) -> None:
    daemon.script("Yes, a court may lower it.")
    chunks = list(sdk.chat.completions.create(**LAWYER, stream=True, stream_options={"include_usage": True}))
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(said) > 3
    assert "".join(said) == "Yes, a court may lower it."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens > 3


def test_openai_gets_what_it_asks_for_in_a_shape(sdk: Any) -> None:
    answer = sdk.chat.completions.parse(**LAWYER, response_format=Verdict)
    assert isinstance(answer.choices[0].message.parsed, Verdict)


def test_openai_knows_what_is_wrong(sdk: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        sdk.chat.completions.create(model="orchestra/nobody", messages=QUESTION)
    with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)):
        sdk.chat.completions.create(model="orchestra/lawyer", messages="nothing of the kind")


def test_openai_knows_a_wrong_key_a_full_house_and_nobody_there(daemon: StandIn) -> None:
    settings = Settings.read(host=daemon.url, language="en", token="the one that is right", in_flight=1)
    with running(create_app(settings=settings), settings) as url:
        wrong = openai.OpenAI(base_url=url + "/v1", api_key="another", max_retries=0)
        right = openai.OpenAI(base_url=url + "/v1", api_key="the one that is right", max_retries=0)
        with wrong, pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        daemon.script(Scripted([" word"] * 500, pace=0.01))
        with right.chat.completions.create(**LAWYER, stream=True) as stream:
            next(iter(stream))
            with pytest.raises(openai.RateLimitError) as refused:
                right.models.list()
        assert int(refused.value.response.headers["retry-after"]) > 0
    with right, pytest.raises(openai.APIConnectionError):
        right.models.list()


def test_openai_is_told_of_an_answer_that_breaks_off(sdk: Any, daemon: StandIn) -> None:
    daemon.fail("cut_mid", path="/api/chat")
    said: list[str] = []
    with pytest.raises(openai.APIError, match="回答中断"):
        said.extend(chunk.choices[0].delta.content or "" for chunk in sdk.chat.completions.create(**LAWYER, stream=True))
    assert "".join(said) == "The sky is"


def test_whoever_breaks_out_of_a_stream_frees_the_daemon(sdk: Any, daemon: StandIn) -> None:
    before = daemon.cancelled
    daemon.script(Scripted([f" {number}" for number in range(2000)], pace=0.01))
    with sdk.chat.completions.create(**LAWYER, stream=True) as stream:
        next(iter(stream))
    wait_for(lambda: daemon.cancelled == before + 1)


def test_openai_without_blocking(address: str) -> None:
    async def asked() -> int:
        async with openai.AsyncOpenAI(base_url=address + "/v1", api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(**LAWYER, stream=True, max_tokens=20)
            return len([chunk async for chunk in stream])

    assert asyncio.run(asked()) > 2


# --- curl

CURL = shutil.which("curl")
LESSON = """\
curl -X POST http://localhost:5002/integrate \\
       -H "Content-Type: application/json" \\
       -d '{"task": "制定人工智能合规标准，避免人工智能伤害人类"}'
"""
INSTALLED = """\
curl -X POST http://localhost:11434/api/generate -d '{
  "model": "llama3",
  "prompt":"Why is the sky blue?"
 }'
"""


def curled(line: str, address: str, name: str) -> str:
    """What a line of the lesson prints with `address` in place of the address `name`."""
    assert name in line
    done = subprocess.run(["sh", "-c", line.replace(name, address)], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout


@pytest.mark.skipif(CURL is None, reason="there is no curl on the PATH")
def test_the_lessons_lines_for_curl(address: str) -> None:
    plan = json.loads(curled(LESSON, address, "http://localhost:5002"))
    assert plan["response"].strip()
    lines = [json.loads(line) for line in curled(INSTALLED, address, "http://localhost:11434").splitlines()]
    assert "".join(line["response"] for line in lines).strip()
    assert lines[-1]["done_reason"] in ("stop", "length")
