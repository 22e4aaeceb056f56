"""Keys with names: who is let in, whose a session is, and what `serve` refuses to start with."""

from __future__ import annotations

import base64
import hmac
import re
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from statistics import mean, median, stdev
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from served import Served, running
from test_gateway import SEED, error, served  # noqa: F401 - a fixture

from orchestra.errors import ConfigError, SessionMissing, TokenRefused, UsageError
from orchestra.gateway import create_app
from orchestra.gateway.access import OPEN
from orchestra.gateway.keys import OWNER, Keys
from orchestra.gateway.serving import MAKE_TOKEN, guarded, not_itself
from orchestra.sessions.store import Store
from orchestra.settings import Settings
from orchestra.standin import StandIn

ALICE, BOB, MAIN = "alices-t0ken", "bobs-t0ken", "main-t0ken"
BOTH = f"alice={ALICE} bob={BOB}"


def bearing(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# --- who is let in


def test_each_key_has_its_holder() -> None:
    keys = Keys.of(Settings(token=MAIN, tokens=BOTH))
    assert [keys.holder([f"Bearer {token}"]) for token in (MAIN, ALICE, BOB)] == [OWNER, "alice", "bob"]
    for wrong in ([], [f"Bearer {ALICE}"] * 2, [f"Basic {ALICE}"], ["Bearer "], ["Bearer alice"], [f"Bearer {ALICE[:-1]}"], ["Bearer 秘密"]):
        with pytest.raises(TokenRefused):
            keys.holder(wrong)
    assert Keys.of(Settings()).holder([]) == OWNER


def test_named_keys_alone_close_the_gateway() -> None:
    with pytest.raises(TokenRefused):
        Keys.of(Settings(tokens=BOTH)).holder([])


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(one: bytes, other: bytes) -> bool:
        seen.append(len(one) + len(other))
        return hmac.compare_digest(one, other)

    keys = Keys.of(Settings(token=MAIN, tokens=BOTH))
    monkeypatch.setattr("orchestra.gateway.keys.hmac", SimpleNamespace(compare_digest=counted))
    keys.holder([f"Bearer {MAIN}"])
    assert seen == [64] * 3, "all of them, each as its digest, though the first is right"


def test_keys_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the team\n\n  alice={ALICE}\nbob={BOB}=\n", "utf-8")
    keys = Keys.of(Settings(tokens=f"@{file}"))
    assert keys.holder([f"Bearer {BOB}="]) == "bob"
    with pytest.raises(ConfigError) as raised:
        Keys.of(Settings(tokens=f"@{tmp_path / 'none'}"))
    assert "cannot be read" in raised.value.message()


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ("s3cret-one", "number 1 is not NAME=TOKEN"), (f"alice={ALICE} bob=", "number 2"), (f"a/b={ALICE}", "number 1"), ("alice=秘密", "number 1"),
        (f"alice={ALICE} alice={BOB}", "alice is named twice"), (f"alice={ALICE} bob={ALICE}", "bob has the key of somebody else"),
        (f"alice={MAIN}", "alice has the key"),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_used_are_not_repeated(tokens: str, said: str) -> None:
    settings = Settings(token=MAIN, tokens=tokens)
    with pytest.raises(ConfigError) as raised:
        Keys.of(settings)
    shown = raised.value.message() + raised.value.hint() + raised.value.message("zh") + repr(settings) + repr(raised.value)
    assert said in shown
    for secret in (ALICE, BOB, MAIN, "s3cret-one", "秘密"):
        assert secret not in shown


# --- whose a session is


def test_a_session_belongs_to_its_key(served: Served, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("ORCHESTRA_TOKENS", BOTH)
    standin.script("记住了。", "不知道。", "白鹭。", "没有。")
    client = served(SEED, token=MAIN)

    def said(token: str, intent: str, session: str = "plan") -> Any:
        return client.post("/chat", json={"intent": intent, "session": session}, headers=bearing(token))

    first = said(ALICE, "我的代号是白鹭。")
    assert first.json()["session"] == "plan"
    for token, knows in ((BOB, False), (ALICE, True), (MAIN, False)):
        assert said(token, "我的代号是什么？").status_code == 200
        assert ("我的代号是白鹭。" in str(standin.asked("/api/chat")[-1]["messages"])) is knows
    with Store(Settings.read().folder()) as store:
        assert {record.name for record in store.sessions()} == {"alice/plan", "bob/plan", "plan"}
        alices = store.session("alice/plan").id
    for other in ("alice/plan", alices):
        error(said(MAIN, "?", other), 404, "session_missing")
    assert len(standin.asked("/api/chat")) == 4, "refused before anybody is asked"
    error(said("nobody", "?"), 401, "token_refused")


def test_another_keys_session_has_no_name() -> None:
    keys = Keys.of(Settings(token=MAIN, tokens=BOTH))
    assert keys.session("bob", "alice/plan") == "bob/alice/plan"
    assert [keys.owns(who, "alice/plan") for who in ("alice", "bob", OWNER)] == [True, False, False]
    assert [keys.owns(who, "mallory/plan") for who in ("alice", OWNER)] == [False, True]
    assert keys.session(OWNER, "2026/plan") == "2026/plan"
    with pytest.raises(SessionMissing):
        keys.session(OWNER, "0123456789abcdef" * 2)
    assert Keys.of(Settings()).session(OWNER, "0123456789abcdef" * 2)


# --- what serve refuses


def test_the_command_that_makes_a_token_makes_one() -> None:
    with pytest.raises(UsageError) as raised:
        guarded("0.0.0.0", Settings())
    assert MAKE_TOKEN in raised.value.hint()
    assert MAKE_TOKEN in raised.value.hint("zh")
    made = subprocess.run(["bash", "-c", f"{MAKE_TOKEN}; echo $ORCHESTRA_TOKEN"], capture_output=True, check=True, text=True, timeout=20)
    token = made.stdout.strip()
    assert len(token) >= 43
    assert Keys.of(Settings(token=token)).holder([f"Bearer {token}"]) == OWNER
    guarded("0.0.0.0", Settings(tokens=BOTH))


@pytest.mark.parametrize(
    ("here", "daemon", "same"),
    [
        ("127.0.0.1", "127.0.0.1:{port}", True), ("127.0.0.1", "http://localhost:{port}", True), ("0.0.0.0", "127.0.0.1:{port}", True),
        ("0.0.0.0", "0.0.0.0:{port}", True), ("127.0.0.1", "127.0.0.2:{port}", False), ("0.0.0.0", "192.0.2.1:{port}", False),
        ("127.0.0.1", "127.0.0.1:1", False), ("127.0.0.1", "", False),
    ],
)  # fmt: skip
def test_a_service_does_not_ask_itself(here: str, daemon: str, same: bool) -> None:
    with socket.create_server((here, 0)) as sock:
        settings = Settings(host=daemon.format(port=sock.getsockname()[1]))
        if not same:
            not_itself(sock, settings)
            return
        with pytest.raises(ConfigError) as raised:
            not_itself(sock, settings)
    assert "would ask itself" in raised.value.message()


def test_serve_does_not_start_where_the_daemon_is_itself(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    monkeypatch.setenv("OLLAMA_HOST", f"http://localhost:{port}")
    done = line("serve", "--persona", "lawyer", "--port", port)
    assert done.code == ConfigError.exit_code
    assert "would ask itself" in done.err


# --- every route


KEY = "s3cret-" + "k" * 40
STYLES: list[dict[str, str] | list[tuple[str, str]]] = [
    {},
    {"authorization": ""},
    {"authorization": KEY},
    {"authorization": f"Basic {base64.b64encode(f'user:{KEY}'.encode()).decode()}"},
    {"authorization": f"Token {KEY}"},
    {"authorization": f"Bearer {KEY[:-1]}"},
    {"authorization": f"Bearer {KEY}x"},
    {"authorization": f"Bearer {KEY.upper()}"},
    {"authorization": f"Bearer {KEY}, Bearer {KEY}"},
    [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")],
    {"x-api-key": KEY},
    {"api-key": KEY},
    {"proxy-authorization": f"Bearer {KEY}"},
    {"x-forwarded-authorization": f"Bearer {KEY}"},
    {"cookie": f"token={KEY}; authorization=Bearer {KEY}"},
    {"x-http-method-override": "GET", "x-original-url": "/healthz", "x-forwarded-for": "127.0.0.1"},
]


def doors(app: Any) -> list[tuple[str, str]]:
    """Each method and path that is served, and some that are not, which may not tell so."""
    routes = [(method, route.path) for route in app.routes for method in sorted(route.methods)]
    paths = [(method, re.sub(r"\{[^}]+\}", "x", path)) for method, path in routes if path not in OPEN]
    return [*paths, ("GET", "/nowhere"), ("POST", "/healthz/"), ("GET", "//healthz"), ("GET", "/healthz/../sessions"), ("TRACE", "/chat")]


def test_no_route_lets_in_whom_another_header_announces(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.read(host=standin.url, token=KEY, language="en")
    gateway = create_app(settings=settings)
    with running(gateway, settings) as url, httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
        asked = doors(gateway)
        assert len(asked) > 25
        for method, path in asked:
            for headers in STYLES:
                assert client.request(method, path, headers=headers).status_code == 401, (method, path, headers)
            assert client.request(method, f"{path}?token={KEY}&api_key={KEY}&access_token={KEY}").status_code == 401
            let_in = client.request(method, path, headers={"authorization": f"Bearer {KEY}"})  # the red control
            assert let_in.status_code != 401, (method, path)
    assert not standin.asked("/api/chat")


@pytest.mark.slow
def test_how_much_of_a_key_is_right_cannot_be_timed() -> None:
    """Five times ten thousand tries, by turns: the effect (Cohen's d) of a right beginning is below a twentieth."""
    keys = Keys.of(Settings(token=KEY))
    given = {"near": [f"Bearer {KEY[:-1]}x"], "far": [f"Bearer {'x' * len(KEY)}"]}
    effects = []
    for _ in range(5):
        times: dict[str, list[int]] = {"near": [], "far": []}
        for number in range(20_000):
            which = ("near", "far")[number % 2]
            before = time.perf_counter_ns()
            with suppress(TokenRefused):
                keys.holder(given[which])
            times[which].append(time.perf_counter_ns() - before)
        kept = {name: sorted(each)[: int(0.9 * len(each))] for name, each in times.items()}  # without the pauses of the machine
        spread = (stdev(kept["near"]) + stdev(kept["far"])) / 2
        effects.append(abs(mean(kept["near"]) - mean(kept["far"])) / spread)
    print(f"Cohen's d: {', '.join(f'{effect:.3f}' for effect in effects)}")
    assert median(effects) < 0.05
