"""Keys with names: who is let in, whose a session is, and what `serve` refuses to start with."""

from __future__ import annotations

import hmac
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from served import Served
from test_gateway import SEED, error, served  # noqa: F401 - a fixture

from orchestra.errors import ConfigError, SessionMissing, TokenRefused, UsageError
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
