"""The programs that people already use, real ones, in front of the gateway over real sockets.

They are asked as their own pages say, with nothing changed but the address. What they think of an answer counts,
not what it looks like on the wire.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import ollama
import pytest
from click.testing import CliRunner
from clients import own_setup
from pydantic import BaseModel
from served import running
from test_readme import blocks

from orchestra.gateway import create_app
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

openai: Any = pytest.importorskip("openai", reason="the clients are not installed: `make test` brings them")

QUESTION = [{"role": "user", "content": "违约金过高可以调整吗？"}]
EMBEDDING = "tiny-embed"
SAID = "Yes, a court may lower it."
LAWYER = {"model": "orchestra/lawyer", "messages": QUESTION}


# some leave their connections to the collector
unclosed = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


class Verdict(BaseModel):
    """What a structured answer is asked for."""

    allowed: bool
    article: int


@pytest.fixture(scope="module")
def daemon(clean_environment: object) -> Iterator[StandIn]:
    with StandIn(models=["llama3", "llama3:text", EMBEDDING]) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def address(daemon: StandIn) -> Iterator[str]:
    settings = Settings.read(host=daemon.url, language="en")
    with running(create_app(settings=settings), settings) as url:
        yield url


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with own_setup():
        yield


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
    daemon.script(SAID)
    chunks = list(sdk.chat.completions.create(**LAWYER, stream=True, stream_options={"include_usage": True}))
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(said) > 3
    assert "".join(said) == SAID
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
        daemon.script(Scripted([f"第{number}条。" for number in range(500)], pace=0.01))
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


# --- ollama


@pytest.fixture
def package(address: str) -> Iterator[ollama.Client]:
    with ollama.Client(host=address) as client:
        yield client


def test_ollama_python_lists_and_shows(package: Any) -> None:
    names = [model.model for model in package.list().models]
    assert {"orchestra/lawyer:latest", "llama3:latest"} <= set(names)
    package.generate("llama3")  # loads it
    assert {"orchestra/lawyer:latest", "llama3:latest"} <= {model.model for model in package.ps().models}
    assert "completion" in package.show("orchestra/lawyer").capabilities
    assert package.show("llama3").details.family == "llama"


@pytest.mark.parametrize("model", ["orchestra/lawyer", "llama3"])
def test_ollama_python_chats_and_generates(package: Any, daemon: StandIn, model: str) -> None:
    daemon.script(SAID, SAID, SAID)
    chunks = list(package.chat(model, QUESTION, stream=True))
    assert ("".join(chunk.message.content for chunk in chunks), chunks[-1].done_reason) == (SAID, "stop")
    assert len(chunks) > 4
    answer = package.chat(model, QUESTION)
    assert (answer.message.content, answer.done, answer.eval_count > 3) == (SAID, True, True)
    assert package.generate(model, "违约金过高可以调整吗？").response == SAID


def test_ollama_python_embeds_and_knows_what_is_wrong(package: Any) -> None:
    vectors = package.embed(EMBEDDING, ["a parcel", "a court"]).embeddings
    assert [len(vector) for vector in vectors] == [len(vectors[0])] * 2
    for model in ("orchestra/nobody", "nobody"):
        with pytest.raises(ollama.ResponseError, match="nobody") as missing:
            package.chat(model, QUESTION)
        assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="ollama rm") as refused:
        package.delete("llama3")
    assert refused.value.status_code == 403


@pytest.mark.parametrize("model", ["orchestra/lawyer", "llama3"])
def test_ollama_python_sees_how_an_answer_ended(package: Any, daemon: StandIn, model: str) -> None:
    daemon.fail("cut_mid", path="/api/chat")
    chunks = list(package.chat(model, QUESTION, stream=True))
    assert chunks[-1].done_reason == "incomplete"
    assert "> 回答中断" in "".join(chunk.message.content for chunk in chunks)
    daemon.script("可以调整，因为可以调整。" * 80)
    looped = package.chat(model, QUESTION)
    assert looped.done_reason == "repetition"
    assert len(looped.message.content) < 200


@pytest.mark.parametrize("model", ["orchestra/lawyer", "llama3"])
def test_a_loop_is_said_to_people(package: Any, daemon: StandIn, model: str) -> None:
    loop = "可以调整，因为可以调整。"
    daemon.script(loop * 80, loop * 80)
    said = "".join(chunk.message.content for chunk in package.chat(model, QUESTION, stream=True))
    assert said.startswith(loop)
    assert said.endswith("\n\n> 回答开始重复，已停止")
    assert package.chat(model, QUESTION).message.content.endswith("\n\n> 回答开始重复，已停止")


def test_a_loop_is_not_said_to_programs(package: Any, daemon: StandIn) -> None:
    daemon.script([" yes"] * 60)
    shaped = package.chat("llama3", QUESTION, format="json")
    assert (shaped.done_reason, shaped.message.content.strip(" yes")) == ("repetition", "")


def test_ollama_python_without_blocking(address: str, daemon: StandIn) -> None:
    async def asked() -> list[str]:
        async with ollama.AsyncClient(host=address) as client:
            return [chunk.message.content or "" async for chunk in await client.chat("orchestra/lawyer", QUESTION, stream=True)]

    daemon.script(SAID)
    assert "".join(asyncio.run(asked())) == SAID


# --- llm


@unclosed
def test_llm_talks_and_goes_on(address: str, daemon: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first turn in a process of its own; it starts slowly, so the second in this one, which reaches nothing but the gateway."""
    cli: Any = pytest.importorskip("llm.cli", reason="the clients are not installed: `make test` brings them").cli
    monkeypatch.setenv("OLLAMA_HOST", address)
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = [str(Path(sys.executable).parent / "llm"), "-m", "ollama/orchestra/lawyer", "May it be lowered?"]
    daemon.script(SAID, "By a third.")
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert first.stdout.strip() == SAID
    second = CliRunner().invoke(cli, ["-c", "By how much?"])
    assert second.output.strip() == "By a third.", second
    sent = [message["content"] for message in daemon.asked("/api/chat")[-1]["messages"]]
    assert any(text.startswith("May it be lowered?") for text in sent)
    assert SAID in sent
    gc.collect()  # the plugin leaves its connections to the collector


# --- langchain-ollama


def test_langchain_ollama(address: str, daemon: StandIn) -> None:
    langchain = pytest.importorskip("langchain_ollama", reason="the clients are not installed: `make test` brings them")
    chat = langchain.ChatOllama(model="orchestra/lawyer", base_url=address)
    daemon.script(SAID, SAID)
    assert chat.invoke(QUESTION).content == SAID
    chunks = list(chat.stream(QUESTION))
    assert len(chunks) > 4
    assert "".join(chunk.content for chunk in chunks) == SAID
    assert [chunk.response_metadata["done_reason"] for chunk in chunks if "done_reason" in chunk.response_metadata] == ["stop"]
    assert isinstance(chat.with_structured_output(Verdict, method="json_schema").invoke(QUESTION), Verdict)
    chat._client.close()


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


# --- what the page on clients says

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = (DOCS / "clients.md").read_text("utf-8")
HERE = "localhost:5002"


@unclosed
@pytest.mark.parametrize("code", blocks(PAGE, "python"), ids=lambda code: code.split()[0] if code else "")
def test_the_pages_code_runs(code: str, address: str) -> None:
    assert HERE in code
    told = io.StringIO()
    with redirect_stdout(told):
        exec(compile(code.replace(f"http://{HERE}", address), "clients.md", "exec"), {})
    assert told.getvalue().split()[-1] in ("stop", "length")
    gc.collect()


@unclosed
@pytest.mark.parametrize("block", blocks(PAGE, "sh"), ids=lambda code: code.split()[0] if code else "")
def test_the_pages_lines_run(block: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the command is here; `llm`, which starts slowly, in this process."""
    assert HERE in block
    for line in block.replace(f"http://{HERE}", address).splitlines():
        command, *given = shlex.split(line)
        if command == "export":
            monkeypatch.setenv(*given[0].split("=", 1))
        elif command == "llm":
            done = CliRunner().invoke(pytest.importorskip("llm.cli").cli, given)
            assert (done.exit_code, bool(done.output.strip())) == (0, True), done.output
        elif shutil.which(command):
            ran = subprocess.run([command, *given], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
            assert (ran.returncode, bool(ran.stdout.strip())) == (0, True), ran.stderr
            assert '"error"' not in ran.stdout
        else:
            pytest.skip(f"there is no {command} on the PATH")
    gc.collect()


def test_both_languages_show_the_same_code() -> None:
    chinese = (DOCS / "clients.zh-CN.md").read_text("utf-8")
    for kind in ("python", "sh"):
        assert blocks(chinese, kind) == blocks(PAGE, kind)
    assert [text.count("\n## ") for text in (PAGE, chinese)] == [7, 7]
