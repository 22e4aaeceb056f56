"""One exchange with a search service: every way in which it goes wrong is an error of ours, in time, without the key."""

from __future__ import annotations

import gzip
import json
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from services import CANARY, Service, Told, everything_logged, running_service  # noqa: F401 - fixtures

from orchestra.errors import BadResponse, KeyRefused, OrchestraError, RateLimited, SearchFault, SearchUnreachable
from orchestra.retrieval import web
from orchestra.retrieval.web import Exchange, fetched, fetched_json

NOWHERE = "http://127.0.0.1:9/"
SENTENCE = "巴黎是法国的首都，塞纳河流经市区。"


def ask(url: str, *, seconds: float = 5.0, key: str = CANARY, **more: Any) -> Exchange:
    given: dict[str, Any] = {"variable": "ORCHESTRA_X_KEY", "headers": {"authorization": f"Bearer {key}"}, **more}
    return Exchange(provider="x", url=url, seconds=seconds, **given)


def endless(pace: float = 0.0, piece: bytes = b" " * 65536) -> Iterator[bytes]:
    while True:
        time.sleep(pace)
        yield piece


def as_json(text: str = SENTENCE, charset: str = "utf-8") -> bytes:
    return json.dumps({"text": text}, ensure_ascii=False).encode(charset)


FAULTS: dict[str, tuple[Told, type[OrchestraError], str]] = {
    "401": (Told(401, CANARY.encode()), KeyRefused, "HTTP 401"),
    "403": (Told(403), KeyRefused, "HTTP 403"),
    "402": (Told(402), RateLimited, "used up"),
    "432": (Told(432), RateLimited, "used up"),
    "429": (Told(429, headers={"retry-after": "7"}), RateLimited, "HTTP 429"),
    "429 alone": (Told(429), RateLimited, "HTTP 429"),
    "503 with a time": (Told(503, headers={"retry-after": "30"}), RateLimited, "HTTP 503"),
    "503": (Told(503), SearchFault, "HTTP 503"),
    "500": (Told(500, f'{{"error": "bad key {CANARY}"}}'.encode()), SearchFault, "HTTP 500"),
    "400": (Told(400), SearchFault, "HTTP 400"),
    "204": (Told(204, b""), SearchFault, "HTTP 204"),
    "page": (Told(200, f"<html>{CANARY}</html>".encode()), BadResponse, "page"),
    "words": (Told(200, b"hello"), BadResponse, "no JSON"),
    "empty": (Told(200, b""), BadResponse, "no JSON"),
    "list": (Told(200, b"[1]"), BadResponse, "shape"),
    "deep": (Told(200, b"[" * 200_000), BadResponse, "no JSON"),
    "long number": (Told(200, b'{"a": ' + b"9" * 100_000 + b"}"), BadResponse, "no JSON"),
    "10 MB": (Told(200, b'{"a": "' + b"x" * 10_000_000 + b'"}'), BadResponse, "more than 2 MB"),
    "no end": (Told(200, endless()), BadResponse, "more than 2 MB"),
    "packed bomb": (Told(200, gzip.compress(b"0" * 50_000_000), {"content-encoding": "gzip"}), BadResponse, "more than 2 MB"),
    "packed badly": (Told(200, b"no gzip", {"content-encoding": "gzip"}), BadResponse, "unpacked"),
    "packed otherwise": (Told(200, b"x", {"content-encoding": "br"}), BadResponse, "packed"),
    "elsewhere": (Told(302, b"", {"location": "http://other.example/"}), BadResponse, "elsewhere"),
    "in a circle": (Told(302, b"", {"location": "/again"}), BadResponse, "again and again"),
    "no http": (Told(302, b"", {"location": "file:///etc/passwd"}), BadResponse, "elsewhere"),
    "cut short": (Told(200, [b'{"a"'], {"content-length": "999"}), SearchUnreachable, "broke"),
    "a drop a second": (Told(200, endless(0.05, b" ")), SearchUnreachable, "nothing whole"),
    "silence": (Told(hang=True), SearchUnreachable, "nothing whole"),
}  # fmt: skip


def failing(service: Service, name: str) -> tuple[OrchestraError, float]:
    service.told, kind, detail = FAULTS[name]
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        fetched_json(ask(service.url, seconds=0.4 if kind is SearchUnreachable else 5))
    assert type(caught.value) is kind
    assert detail in caught.value.message()
    return caught.value, time.monotonic() - began


@pytest.mark.parametrize("name", FAULTS)
def test_what_goes_wrong_is_told_apart_and_in_time(service: Service, name: str) -> None:
    error, seconds = failing(service, name)
    assert seconds < 4.5
    assert error.hint()
    assert error.message("zh") != error.message("en")
    assert "?" not in error.message() + error.hint() + error.message("zh") + error.hint("zh")


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(SearchUnreachable, match="no connection"):
        fetched(ask(NOWHERE))


def test_the_time_to_wait_is_what_the_service_says(service: Service) -> None:
    assert failing(service, "429")[0].facts["retry_after"] == 7
    assert failing(service, "429 alone")[0].facts["retry_after"] is None
    service.told = Told(429, headers={"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=90))})
    with pytest.raises(RateLimited) as caught:
        fetched(ask(service.url))
    assert 85 <= caught.value.facts["retry_after"] <= 90


@pytest.mark.parametrize("lie", ["99999999999999", "-5", "soon", "²", "Thu, 99 Foo 2026", ""])
def test_a_time_to_wait_that_is_none_does_no_harm(service: Service, lie: str) -> None:
    service.told = Told(429, headers={"retry-after": lie.encode().decode("latin-1")})
    with pytest.raises(RateLimited) as caught:
        fetched(ask(service.url))
    assert (caught.value.facts["retry_after"] or 0) <= web.LONGEST_WAIT


@pytest.mark.parametrize(
    ("charset", "named"),
    [("utf-8", "utf-8"), ("utf-8", "gbk"), ("utf-8", "ascii"), ("utf-8", "no-such"), ("utf-8-sig", ""), ("gbk", "utf-8"), ("gbk", "gbk"),
     ("gb18030", ""), ("utf-16", "utf-16"), ("utf-8", "idna"), ("utf-8", "unicode_escape")],
)  # fmt: skip
def test_json_is_read_whatever_its_charset_is_said_to_be(service: Service, charset: str, named: str) -> None:
    service.told = Told(200, as_json(charset=charset), {"content-type": f"application/json; charset={named}"})
    assert fetched_json(ask(service.url))["text"] == SENTENCE


def test_a_packed_answer_is_unpacked(service: Service) -> None:
    service.told = Told(200, gzip.compress(as_json()), {"content-encoding": "gzip"})
    assert fetched_json(ask(service.url))["text"] == SENTENCE
    assert service.seen[0].headers["accept-encoding"] == "gzip"
    assert "orchestra" in service.seen[0].headers["user-agent"]


def test_a_redirect_on_the_same_host_is_followed(service: Service) -> None:
    service.told = lambda seen: Told(200, as_json()) if seen.path == "/there" else Told(301, b"", {"location": "/there"})
    assert fetched_json(ask(service.url, params={"q": "x"}))["text"] == SENTENCE


# --- the environment's proxies


def test_the_environments_proxy_is_used_and_not_for_this_machine(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", service.url)
    service.told = Told(200, as_json())
    assert fetched_json(ask("http://search.example/x"))["text"] == SENTENCE
    assert service.seen[0].path == "http://search.example/x"
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    assert fetched_json(ask(service.url))["text"] == SENTENCE


@pytest.mark.parametrize("proxy", [f"ftp://user:{CANARY}@127.0.0.1:9", f"socks5://user:{CANARY}@127.0.0.1:9", f"http://user:{CANARY}@127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_said_without_its_password(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(SearchUnreachable) as caught:
        fetched(ask("http://search.example/x"))
    assert CANARY not in shown(caught.value)


# --- the key is repeated nowhere


def shown(error: BaseException) -> str:
    """All that a log of the error could hold."""
    facts = repr(vars(error))
    chinese = error.message("zh") + error.hint("zh") if isinstance(error, OrchestraError) else ""
    return "".join(traceback.format_exception(error)) + repr(error) + facts + chinese + repr(error.__cause__) + repr(error.__context__)


@pytest.mark.parametrize("name", FAULTS)
def test_the_key_is_in_no_error_and_no_log(service: Service, name: str, logged: pytest.LogCaptureFixture) -> None:
    error, _ = failing(service, name)
    assert CANARY not in shown(error)
    assert CANARY not in logged.text
    assert CANARY in service.seen[0].headers["authorization"]


@pytest.mark.parametrize("key", [f"{CANARY}\n", f"{CANARY}\r\nx: y", f"密钥{CANARY}", f"{CANARY}\x00", f"{CANARY}\ud800"])
def test_a_key_that_is_none_is_said_and_not_shown(service: Service, key: str) -> None:
    with pytest.raises((KeyRefused, SearchUnreachable)) as caught:
        fetched(ask(service.url, key=key))
    assert CANARY not in shown(caught.value)
    assert not service.seen


def test_an_exchange_does_not_show_its_key() -> None:
    assert CANARY not in repr(ask(NOWHERE))


# --- red controls: the guards are what holds


def test_red_control_the_limit_on_size(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "LARGEST", 100 * 2**20)
    service.told = FAULTS["10 MB"][0]
    assert len(fetched(ask(service.url)).content) > 10_000_000


def test_red_control_a_redirect_elsewhere_would_carry_the_key(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_onward", lambda asked, url, location: location)
    elsewhere = service.url.replace("127.0.0.1", "localhost") + "/there"
    service.told = lambda seen: Told(200, as_json()) if seen.path == "/there" else Told(301, b"", {"location": elsewhere})
    fetched(ask(service.url))
    assert CANARY in service.seen[-1].headers["authorization"]
    assert service.seen[-1].headers["host"].startswith("localhost")
