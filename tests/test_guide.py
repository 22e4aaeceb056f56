"""`/docs` and `/openapi.json`: every example is run, every route is described, and no browser is sent elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served, serving

from orchestra.gateway import create_app
from orchestra.gateway.examples import Reader
from orchestra.gateway.routes import PURPOSES
from orchestra.settings import Settings
from orchestra.standin import StandIn

TOKEN = "s3cret"


@pytest.fixture(scope="module")
def address(clean_environment: object) -> Iterator[str]:
    with StandIn() as daemon, serving(daemon.url) as run:
        yield str(run(token=TOKEN).base_url).rstrip("/")


@pytest.fixture
def served(standin: StandIn) -> Iterator[Served]:
    with serving(standin.url) as run:
        yield run


def run(command: list[str]) -> str:
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "")
    done = subprocess.run(command, env={**os.environ, **proxies, "ORCHESTRA_TOKEN": TOKEN}, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def examples(address: str, language: str) -> list[tuple[str, str]]:
    reader = Reader(address=address, keyed=True, model="orchestra/lawyer", language=language)
    return [(each.language, each.code) for section in reader.sections() for each in section.examples]


# --- the examples


def test_each_curl_line_is_answered(address: str) -> None:
    lines = [code for kind, code in examples(address, "zh") if kind == "curl"]
    assert len(lines) == 8
    said = [run(["bash", "-c", code.replace("curl ", "curl -s --fail-with-body ", 1)]) for code in lines]
    assert all(said)
    answers = [json.loads(each) for each in said[:7]]
    assert answers[0]["session"] == "contract"
    assert answers[1]["steps"]
    assert answers[4]["sources"]
    assert [each["name"] for each in answers[5]["sessions"]] == ["contract"]
    assert said[7].startswith("#")


@pytest.mark.parametrize("kind", ["Python", "JavaScript"])
def test_each_program_says_an_answer(address: str, kind: str) -> None:
    node = shutil.which("node")
    if kind == "JavaScript" and (node is None or int(run([node, "--version"])[1:].partition(".")[0]) < 18):
        pytest.skip("no Node 18 on the PATH")
    programs = [code for each, code in examples(address, "en") if each == kind]
    assert len(programs) == {"Python": 4, "JavaScript": 3}[kind]
    if kind == "Python":
        said = [run([sys.executable, "-c", code]).strip() for code in programs]
    else:  # in one process: each example is a block, and a line stands between them
        blocks = "\nconsole.log('\\n--');\n".join(f"{{\n{code}\n}}" for code in programs)
        said = [each.strip() for each in run([str(node), "--input-type=module", "-e", blocks]).split("\n--")]
    assert [len(each) > 10 for each in said] == [True] * len(programs), said


def test_without_a_key_no_example_asks_for_one() -> None:
    for section in Reader(address="http://localhost:5002", keyed=False, model="orchestra/auto", language="en").sections():
        for example in section.examples:
            assert "TOKEN" not in example.code
            assert "Authorization" not in example.code


# --- the page


class Page(HTMLParser):
    """What a page is made of: its text, and whatever it would have a browser fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.foreign = "", list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "object", "base", "form") or (tag == "link" and given.get("href") != "data:,"):
            self.foreign.append(tag)
        self.foreign += [f"{name}={value}" for name, value in attrs if name.startswith("on") or "//" in (value or "") or name == "style"]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("path", "accepted", "said"),
    [("/docs", "zh-CN,zh", "如何调用"), ("/docs", "en", "How to ask"), ("/docs?lang=zh", "en", "如何调用"), ("/docs?lang=<x>", "en", "How to ask")],
)
def test_the_page_speaks_the_readers_language_and_has_his_address(served: Served, path: str, accepted: str, said: str) -> None:
    client = served()
    answer = client.get(path, headers={"Accept-Language": accepted, "Host": f"localhost:{client.base_url.port}"})
    page = Page(answer.text)
    assert said in page.text
    assert f"curl -X POST http://localhost:{client.base_url.port}/chat" in page.text
    assert page.foreign == []
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert page.text.index("/chat") < page.text.index("/integrate") < page.text.index("/v1/chat/completions")
    assert "<x>" not in answer.text


def test_the_page_is_open_where_a_key_is_asked_for_and_says_how_to_send_it(served: Served) -> None:
    client = served(token=TOKEN)
    page = client.get("/docs")
    assert page.status_code == 200
    assert TOKEN not in page.text
    assert "Authorization: Bearer $ORCHESTRA_TOKEN" in page.text
    assert client.get("/openapi.json").status_code == 401
    assert client.get("/docs", headers={"Host": "elsewhere.example"}).status_code == 421


def test_one_expert_alone_has_its_own_routes_on_the_page(served: Served) -> None:
    text = Page(served(persona="lawyer").get("/docs").text).text
    assert "/chat" in text
    assert "/integrate" not in text
    assert "/sessions" not in text


def browser() -> str:
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")


@pytest.mark.skipif(not browser(), reason="no Chromium on the PATH")
def test_a_browser_has_nothing_to_complain_of_and_asks_nobody_else(served: Served, tmp_path: Path) -> None:
    url = str(served().base_url).rstrip("/") + "/docs"
    done = subprocess.run(
        [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0",
         f"--log-net-log={tmp_path / 'net.json'}", "--virtual-time-budget=1000", "--dump-dom", url],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert "How to ask" in done.stdout or "如何调用" in done.stdout
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    started = re.findall(r'"initiator":"([^"]*)".*"url":"([^"]*)"', (tmp_path / "net.json").read_text("utf-8"))
    assert url in [each for _, each in started], "the log is read as it is written"
    assert [each for initiator, each in started if initiator.startswith("http://127.0.0.1")] == [], "the page itself asks for nothing"
    assert done.stdout.count("<script") == 0


# --- the description


def described(**given: Any) -> dict[str, Any]:
    return create_app(settings=Settings.read(host="127.0.0.1:1", **given)).openapi()


def test_every_route_is_described_in_both_languages() -> None:
    whole = described()
    paths = set(whole["paths"])
    assert paths <= set(PURPOSES), "say in gateway/routes.py what a new route is for"
    assert all(words.en and re.search("[\u4e00-\u9fff]", words.zh) for words in PURPOSES.values())
    for path, item in whole["paths"].items():
        for operation in item.values():
            assert operation["summary"] == PURPOSES[path].en
            assert {"4XX", "5XX"} <= set(operation["responses"])
            assert "422" not in operation["responses"], "nobody answers as the framework would"


def test_bodies_forms_and_headers_are_described_as_they_are() -> None:
    paths = described()["paths"]
    asked = paths["/v1/chat/completions"]["post"]
    assert {"model", "messages", "stream"} <= set(asked["requestBody"]["content"]["application/json"]["schema"]["properties"])
    assert set(asked["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert {each["name"] for each in paths["/chat"]["post"]["parameters"]} == {"Orchestra-Max-Tokens", "Idempotency-Key"}
    assert {each["name"] for each in paths["/sessions/{name}/export"]["get"]["parameters"]} == {"name", "format"}


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(described())
    whole = json.loads(text)
    for name in re.findall(r'"\$ref": "([^"]+)"', text):
        assert name.startswith("#/components/schemas/")
        assert name.rpartition("/")[2] in whole["components"]["schemas"]
    assert "$defs" not in text


def test_the_key_is_described_where_one_is_asked_for() -> None:
    assert described(token=TOKEN)["security"] == [{"key": []}]
    assert "security" not in described()
    assert TOKEN not in json.dumps(described(token=TOKEN))


@pytest.mark.parametrize(("path", "body"), [("/chat", {}), ("/v1/chat/completions", {}), ("/api/chat", {})])
def test_an_error_has_the_shape_that_is_described(served: Served, path: str, body: dict[str, Any]) -> None:
    error: httpx.Response = served().post(path, json=body)
    assert 400 <= error.status_code < 500
    schema = described()["paths"][path]["post"]["responses"]["4XX"]["content"]["application/json"]["schema"]["properties"]["error"]
    said = error.json()["error"]
    if schema["type"] == "string":
        assert isinstance(said, str)
    else:
        assert set(said) == set(schema["required"])
