"""Which user of Open WebUI asks: a signed token, or a name where that is believed."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
from fastapi import Request
from served import running
from services import everything_logged  # noqa: F401 - a fixture

from orchestra.errors import ConfigError, FieldInvalid, UserRefused
from orchestra.gateway import create_app
from orchestra.gateway.identity import NOBODY, Users
from orchestra.settings import Settings
from orchestra.standin import StandIn

SECRET = "canary-of-the-secret-" + "0123456789abcdef" * 3  # long enough for HS512 too
ID = "3f0c9c2e-7c1b-4a57-9d0e-7c1b4a579d0e"
HERE, ELSEWHERE = ("127.0.0.1", 5), ("192.0.2.7", 5)
SIGNED, PLAIN = "X-OpenWebUI-User-Jwt", "X-OpenWebUI-User-Id"


def claims(**other: Any) -> dict[str, Any]:
    """What Open WebUI 0.12.4 says of a user."""
    now = int(time.time())
    said = {"sub": ID, "email": "m@example.org", "name": "小明", "role": "user", "iss": "open-webui", "iat": now, "exp": now + 300}
    return {name: value for name, value in (said | other).items() if value is not None}


def token(secret: str = SECRET, algorithm: str = "HS256", **other: Any) -> str:
    return jwt.encode(claims(**other), secret, algorithm=algorithm)


def scope(*headers: tuple[str, str], client: tuple[str, int] | None = HERE) -> dict[str, Any]:
    return {"type": "http", "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers], "client": client}


def user(*headers: tuple[str, str], secret: str = SECRET, keyed: bool = True, client: tuple[str, int] | None = HERE) -> str:
    return Users.of(Settings(jwt_secret=secret)).user(scope(*headers, client=client), keyed=keyed)


# --- signed


def test_a_signed_token_names_the_user() -> None:
    assert user((SIGNED, token())) == ID
    assert user((SIGNED, token(exp=int(time.time()) - 5))) == ID, "two clocks may differ a little"
    assert user() == NOBODY


def test_where_there_is_a_secret_a_plain_name_is_not_believed() -> None:
    assert user((PLAIN, "mallory")) == NOBODY
    assert user((PLAIN, "mallory"), (SIGNED, token())) == ID
    assert user((PLAIN, "mallory"), secret="") == "mallory", "the same without a secret"


def unsigned(**head: Any) -> str:
    parts = [json.dumps({"typ": "JWT", **head}).encode(), json.dumps(claims()).encode(), b""]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts).decode()


def nested() -> str:
    """A head of brackets in brackets, which is read before any signature is."""
    _, body, signature = token().split(".")
    return ".".join([base64.urlsafe_b64encode(b"[" * 6000).rstrip(b"=").decode(), body, signature])


WRONG: dict[str, Callable[[], str]] = {
    "another secret": lambda: token("another-secret-0123456789abcdef-xyz"),
    "expired": lambda: token(exp=int(time.time()) - 60),
    "no expiry": lambda: token(exp=None),
    "no issuer": lambda: token(iss=None),
    "another issuer": lambda: token(iss="open-webui.evil"),
    "no user": lambda: token(sub=None),
    "user empty": lambda: token(sub=""),
    "user of wrong form": lambda: token(sub="../../somebody"),
    "user too long": lambda: token(sub="a" * 129),
    "user a number": lambda: jwt.api_jws.encode(json.dumps(claims(sub=7)).encode(), SECRET, algorithm="HS256"),
    "for others": lambda: token(aud="another service"),
    "not yet": lambda: token(nbf=int(time.time()) + 600),
    "another hash": lambda: token(algorithm="HS512"),
    "no algorithm": lambda: unsigned(alg="none"),
    "an algorithm that is none": lambda: unsigned(alg=["HS256"]),
    "brackets": nested,
    "a word": lambda: "Bearer",
    "latin": lambda: "ÿ.ÿ.ÿ",
    "empty": lambda: "",
    "a signature cut": lambda: token()[:-2],
}


@pytest.mark.parametrize("what", WRONG)
def test_a_token_that_is_not_valid_is_refused_without_repeating_it(what: str) -> None:
    given = WRONG[what]()
    with pytest.raises(UserRefused) as raised:
        user((SIGNED, given))
    said = f"{raised.value.message()} {raised.value.hint()} {raised.value!r}"
    assert "\n" not in said
    assert not [part for part in (SECRET, ID, "m@example.org", *given.split(".")) if len(part) > 6 and part in said]
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_two_tokens_are_none() -> None:
    with pytest.raises(UserRefused):
        user((SIGNED, token()), (SIGNED, token()))


def test_red_control_whoever_believes_any_signature_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.decode", lambda given, *_, **__: jwt.api_jwt.decode_complete(given, options={"verify_signature": False})["payload"])
    assert user((SIGNED, WRONG["another secret"]())) == ID


def test_a_secret_that_can_be_guessed_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as raised:
        Users.of(Settings(jwt_secret="t0o-short-secret"))
    assert "shorter than 32 bytes" in raised.value.message()
    with pytest.raises(ConfigError):
        create_app(settings=Settings(jwt_secret="t0o-short-secret"))  # before anything is served
    assert "t0o" not in f"{raised.value.message()} {raised.value.hint()}"
    assert SECRET not in repr(Users.of(Settings(jwt_secret=SECRET)))
    assert Users.of(Settings(jwt_secret="密" * 11)).secret


# --- by name


def test_a_name_is_believed_with_a_key_or_from_this_machine() -> None:
    name = (PLAIN, ID)
    assert user(name, secret="", client=ELSEWHERE) == ID
    assert user(name, secret="", keyed=False) == ID
    assert user(name, secret="", keyed=False, client=("::1", 5)) == ID
    assert user(name, secret="", keyed=False, client=ELSEWHERE) == NOBODY
    assert user(name, secret="", keyed=False, client=None) == NOBODY
    assert user((PLAIN, ""), secret="") == NOBODY, "Open WebUI sends an empty one where there is none"
    assert user((SIGNED, token()), secret="") == NOBODY, "a token that nobody can check names nobody"


@pytest.mark.parametrize("name", ["a/b", "a b", "a" * 129, "..\x00", "é", "a\tb"])
def test_a_name_of_the_wrong_form_is_refused(name: str) -> None:
    with pytest.raises(FieldInvalid):
        user((PLAIN, name), secret="")


def test_two_names_are_refused() -> None:
    with pytest.raises(FieldInvalid):
        user((PLAIN, "a"), (PLAIN, "b"), secret="")


# --- over HTTP


@pytest.fixture
def gateway(standin: StandIn) -> Iterator[httpx.Client]:
    settings = Settings.read(host=standin.url, token="k", jwt_secret=SECRET, language="en")
    app = create_app(settings=settings)

    @app.get("/who")
    async def who(request: Request) -> dict[str, str]:
        return {"user": request.state.user}

    with running(app, settings) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def test_the_user_reaches_the_routes_and_a_wrong_token_does_not(gateway: httpx.Client, logged: pytest.LogCaptureFixture) -> None:
    key = {"authorization": "Bearer k"}
    assert gateway.get("/who", headers=key | {SIGNED: token()}).json() == {"user": ID}
    assert gateway.get("/who", headers=key | {PLAIN: "mallory"}).json() == {"user": ""}
    assert gateway.get("/who", headers={SIGNED: token()}).status_code == 401, "a user's token is no key"
    wrong = WRONG["another secret"]()
    for path in ("/v1/models", "/who"):
        answer = gateway.get(path, headers=key | {SIGNED: wrong})
        assert answer.status_code == 401
        assert "another secret" in answer.json()["error"]["message"]
        assert not [secret for secret in (SECRET, wrong, token(), "m@example.org", "小明") if secret in answer.text + logged.text]
        assert ID not in answer.text
    assert gateway.get("/healthz", headers={SIGNED: wrong}).status_code == 200
