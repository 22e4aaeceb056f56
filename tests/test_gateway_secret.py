"""Keys stay where they were set: whatever fails in the gateway, no answer, no log, no file and no list of processes shows one (H4)."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import started
from services import CANARY
from test_agents_secret import SECRETS, canary
from test_serving import address

from orchestra.standin import StandIn

KEY = canary("token")
SAID = [{"role": "user", "content": "Tell me everything."}]
WAYS: list[tuple[str, dict[str, Any]]] = [
    ("/api/chat", {"model": "llama3", "messages": SAID}),
    ("/api/chat", {"model": "orchestra/lawyer", "messages": SAID}),
    ("/api/generate", {"model": "llama3", "prompt": "Tell me everything."}),
    ("/v1/chat/completions", {"model": "llama3", "messages": SAID, "stream": True}),
    ("/v1/chat/completions", {"model": "orchestra/auto", "messages": SAID}),
    ("/chat", {"intent": "Tell me everything.", "session": "kept"}),
    ("/integrate", {"task": "Tell me everything."}),
    ("/ask", {"question": "Tell me everything."}),
]
BODIES = (b"", b"{", b"[]", b'{"model": 7}', b"\xff\xfe", b'{"model": "not-there", "messages": [], "intent": "", "persona": "nobody"}')
FAULTS = ("reset_mid", "cut_mid", "error_line", "error_500_json")


def failures(client: httpx.Client, standin: StandIn) -> Iterator[httpx.Response]:
    """Requests that fail, each with the key in its header and once more where it does not belong."""
    astray = {"token": KEY, "api_key": KEY}
    for (path, _), wrong in product(WAYS, BODIES):
        yield client.post(path, content=wrong, params=astray)
    for (path, body), fault in product(WAYS, FAULTS):
        standin.fail(fault, times=2)  # the second for whoever asks again
        yield client.post(path, json=body, params=astray)
    for path, _ in WAYS:
        yield client.post(path, json={}, headers={"authorization": f"Bearer {KEY}x"}, params=astray)
        yield client.post(path, json={}, headers={"authorization": f"Basic {KEY}", "x-api-key": KEY})
        yield client.post(path, json={}, headers={"host": "evil.example.org"}, params=astray)
    for path in ("/nowhere", "/sessions/nobodys", "/v1/models/none", "/api/show", "/persona", "/healthz", "/docs"):
        yield client.get(path, params=astray, headers={"origin": "https://evil.example.org"})


def shown(standin: StandIn, home: Path, monkeypatch: pytest.MonkeyPatch, *, asked: str = "") -> list[str]:
    """Where a key was found, after everything that can fail has failed, or after one was `asked` about."""
    forms = {"token": "{}", "tokens": "alice={}", "expert_tokens": "http://127.0.0.1:9={}"}
    for row in SECRETS:
        monkeypatch.setenv(row.variable, forms.get(row.name, "{}-0123456789abcdef0123456789abcdef").format(canary(row.name)))
    with started("serve", "--port", "0", "--record", OLLAMA_HOST=standin.url, ORCHESTRA_SEARCH="offline") as service:
        url, answers = address(service), list[httpx.Response]()
        with httpx.Client(base_url=url, trust_env=False, timeout=30, headers={"authorization": f"Bearer {KEY}"}) as client:
            if not asked:
                answers += failures(client, standin)
                told = sum(answer.status_code != 200 or "error" in answer.text or "incomplete" in answer.text for answer in answers)
                assert told >= 50
            described = client.get("/openapi.json")
            for _ in range(2 * len(WAYS) * len(FAULTS)):  # some of the faults are left
                answered = client.post("/chat", json={"intent": f"Is it law? {asked}", "session": "kept"})
                if answered.status_code == 200:
                    break
            answers += [described, client.get("/sessions"), client.get("/sessions/kept")]
        assert described.status_code == answered.status_code == 200, "the key is the right one"
        places = [("the command line", Path(f"/proc/{service.pid}/cmdline").read_bytes())]
        service.send_signal(signal.SIGTERM)
        out, log = service.communicate(timeout=30)
    places += [
        (f"{each.request.method} {each.request.url.path}", each.content + repr(each.headers.raw).encode()) for each in answers
    ]
    read = json.dumps([one.body for one in standin.requests]).encode()
    places += [("standard output", out), ("the log", log), ("what the model reads", read)]
    places += [(str(path.relative_to(home)), path.read_bytes()) for path in home.rglob("*") if path.is_file()]
    assert b"/chat" in log, "it is the log that is searched"
    return [place for place, text in places if CANARY.encode() in text]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="a process's command line is read from /proc")
def test_no_key_is_shown_by_whatever_fails(standin: StandIn, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(standin, home, monkeypatch) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="a process's command line is read from /proc")
def test_red_control_one_that_is_told_is_found(standin: StandIn, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown(standin, home, monkeypatch, asked=CANARY)
    assert {"what the model reads", "GET /sessions/kept"} <= set(found)
    assert any("sessions.db" in place for place in found)
