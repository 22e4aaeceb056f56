"""Each search service in the shapes that it documents: what is asked of it, and what its answers become."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
import respx
from services import CANARY, Service, Told, running_service  # noqa: F401 - fixture

from orchestra.errors import (
    BadResponse,
    ConfigError,
    KeyRefused,
    OrchestraError,
    RateLimited,
    SearchFault,
    SearchUnreachable,
    UsageError,
)
from orchestra.retrieval.passages import Passage, SearchProvider
from orchestra.retrieval.providers import hits
from orchestra.retrieval.providers.bocha import Bocha
from orchestra.retrieval.providers.feed import Feeds
from orchestra.retrieval.providers.google import Google
from orchestra.retrieval.providers.hits import Hit, passages, plain, sendable
from orchestra.retrieval.providers.searxng import SearXNG
from orchestra.retrieval.providers.tavily import Tavily
from orchestra.retrieval.providers.wikipedia import Wikipedia

ENGLISH, CHINESE = "What is the capital of France?", "法国的首都是哪里？"

SEARXNG = {"query": "x", "results": [
    {"title": "Paris", "url": "https://a.example/paris", "content": "The <b>capital</b> of France.", "publishedDate": "2025-03-04T00:00:00", "engine": "brave"},
    {"title": "Lyon", "url": "https://a.example/lyon", "content": "A city."}], "answers": [], "infoboxes": [], "unresponsive_engines": []}  # fmt: skip
TAVILY = {"query": "x", "results": [
    {"title": "Paris", "url": "https://a.example/paris", "content": "The capital of France.", "score": 0.9, "published_date": "2025-03-04"},
    {"title": "Lyon", "url": "https://a.example/lyon", "content": "A city.", "score": 0.3}], "response_time": 0.5}  # fmt: skip
BOCHA = {"code": 200, "log_id": "1", "msg": None, "data": {"_type": "SearchResponse", "webPages": {"value": [
    {"name": "Paris", "url": "https://a.example/paris", "snippet": "short", "summary": "The capital of France.", "datePublished": "2025-03-04T08:00:00+08:00"},
    {"name": "Lyon", "url": "https://a.example/lyon", "snippet": "A city.", "summary": ""}]}}}  # fmt: skip
GOOGLE = {"kind": "customsearch#search", "items": [
    {"title": "Paris", "link": "https://a.example/paris", "snippet": "The capital of\xa0France.", "displayLink": "a.example"},
    {"title": "Lyon", "link": "https://a.example/lyon", "snippet": "A city."}]}  # fmt: skip
WIKIPEDIA = {"batchcomplete": True, "query": {"pages": [
    {"pageid": 2, "title": "Lyon", "index": 2, "extract": "A city.", "fullurl": "https://a.example/lyon"},
    {"pageid": 1, "title": "Paris", "index": 1, "extract": "The capital of France.", "fullurl": "https://a.example/paris"}]}}  # fmt: skip

SERVICES: dict[str, tuple[Callable[[], SearchProvider], str, dict[str, Any], dict[str, Any]]] = {
    "searxng": (lambda: SearXNG("http://searx.example/"), "http://searx.example/search", SEARXNG, {**SEARXNG, "results": []}),
    "tavily": (lambda: Tavily(CANARY), "https://api.tavily.com/search", TAVILY, {"results": []}),
    "bocha": (lambda: Bocha(CANARY), "https://api.bochaai.com/v1/web-search", BOCHA, {"code": 200, "data": {"webPages": {"value": []}}}),
    "google": (lambda: Google(CANARY, "cx1"), "https://www.googleapis.com/customsearch/v1", GOOGLE, {"searchInformation": {"totalResults": "0"}}),
    "wikipedia": (lambda: Wikipedia(), "https://en.wikipedia.org/w/api.php", WIKIPEDIA, {"batchcomplete": True}),
}  # fmt: skip
WITH_KEY = {"tavily": "ORCHESTRA_TAVILY_KEY", "bocha": "ORCHESTRA_BOCHA_KEY", "google": "ORCHESTRA_GOOGLE_KEY"}


def asked(name: str, *answers: httpx.Response | Exception, query: str = ENGLISH, results: int = 3) -> tuple[Sequence[Passage], list[httpx.Request]]:
    make, url, _, _ = SERVICES[name]
    with respx.mock(assert_all_called=False) as mock:
        route = mock.route(url__startswith=url.replace("https://en.", "https://zh.") if query == CHINESE and name == "wikipedia" else url)
        route.side_effect = [*answers]
        found = make().search(query, results=results)
        return found, [call.request for call in route.calls]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_finds(name: str) -> None:
    found, (request, *_) = asked(name, httpx.Response(200, json=SERVICES[name][2]))
    assert [(each.title, each.url, each.text) for each in found] == [
        ("Paris", "https://a.example/paris", "The capital of France."),
        ("Lyon", "https://a.example/lyon", "A city."),
    ]
    assert [each.score for each in found] == [1.0, 0.5]
    assert {each.origin for each in found} == {name}
    assert found[0].published in ("2025-03-04", "")
    assert "orchestra" in request.headers["user-agent"]


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_found_is_an_answer(name: str) -> None:
    empty = httpx.Response(200, json=SERVICES[name][3])
    assert asked(name, empty, empty)[0] == []


@pytest.mark.parametrize("name", SERVICES)
def test_no_more_than_was_asked_for(name: str) -> None:
    assert len(asked(name, httpx.Response(200, json=SERVICES[name][2]), results=1)[0]) == 1


REFUSALS: dict[str, tuple[httpx.Response | Exception, type[OrchestraError]]] = {
    "limit": (httpx.Response(429, headers={"retry-after": "3"}), RateLimited),
    "fault": (httpx.Response(502, text="<html>bad gateway</html>"), SearchFault),
    "page": (httpx.Response(200, text="<!doctype html><title>Sign in</title>"), BadResponse),
    "shape": (httpx.Response(200, json={"results": {"a": 1}, "items": "x", "query": [1], "data": 7}), BadResponse),
    "slow": (httpx.ReadTimeout("slow"), SearchUnreachable),
    "cable out": (httpx.ConnectError("[Errno -3] Temporary failure in name resolution"), SearchUnreachable),
    "reset": (httpx.RemoteProtocolError("gone"), SearchUnreachable),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_fails_says_how(name: str, refusal: str) -> None:
    answer, kind = REFUSALS[refusal]
    with pytest.raises(kind) as caught:
        asked(name, answer)
    assert type(caught.value) is kind
    assert caught.value.facts["provider"] == name


@pytest.mark.parametrize("name", WITH_KEY)
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_its_variable(name: str, status: int) -> None:
    with pytest.raises(KeyRefused) as caught:
        asked(name, httpx.Response(status, json={"message": f"key {CANARY}"}))
    assert WITH_KEY[name] in caught.value.hint()
    assert CANARY not in caught.value.message() + caught.value.hint() + repr(vars(caught.value))


def test_a_key_stands_in_a_header_alone_and_in_no_repr() -> None:
    for name in WITH_KEY:
        _, (request,) = asked(name, httpx.Response(200, json=SERVICES[name][2]))
        assert CANARY not in str(request.url)
        assert CANARY not in request.content.decode()
        assert CANARY in str(dict(request.headers))
        assert CANARY not in repr(SERVICES[name][0]())


# --- what is particular to each


def body(request: httpx.Request) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(request.content)
    return value


def test_searxng_is_asked_for_json_in_the_questions_language() -> None:
    ok = httpx.Response(200, json=SEARXNG)
    assert dict(asked("searxng", ok)[1][0].url.params) == {"q": ENGLISH, "format": "json", "language": "en", "safesearch": "1"}
    assert asked("searxng", ok, query=CHINESE)[1][0].url.params["language"] == "zh-CN"


def test_a_searxng_without_json_says_how_to_switch_it_on() -> None:
    with pytest.raises(BadResponse, match=r"search.formats"):
        asked("searxng", httpx.Response(403, text="<h1>Forbidden</h1>"))


@pytest.mark.parametrize(
    ("silent", "kind"),
    [([["duckduckgo", "Suspended: too many requests"]], RateLimited), ([["brave", "CAPTCHA"]], RateLimited), ([["brave", "timeout"]], SearchUnreachable)],
)  # fmt: skip
def test_a_searxng_whose_engines_are_silent_has_not_answered(silent: Any, kind: type[OrchestraError]) -> None:
    with pytest.raises(kind):
        asked("searxng", httpx.Response(200, json={"results": [], "unresponsive_engines": silent}))


@pytest.mark.parametrize(
    ("address", "asks"),
    [("localhost:8080", "http://localhost:8080/search"), ("https://s.example/searx/", "https://s.example/searx/search"), ("http://s.example/search", "http://s.example/search")],
)  # fmt: skip
def test_a_searxngs_address_in_several_forms(address: str, asks: str) -> None:
    with respx.mock() as mock:
        mock.get(url__startswith=asks + "?").respond(json=SEARXNG)
        assert SearXNG(address).search("x", results=1)


@pytest.mark.parametrize("address", ["ftp://x", "http://", "file:///etc/passwd"])
def test_an_address_that_is_none_is_a_setting_to_correct(address: str) -> None:
    with pytest.raises(ConfigError, match="ORCHESTRA_SEARXNG"):
        SearXNG(address)


def test_tavily_with_a_key_and_without_one() -> None:
    _, (request,) = asked("tavily", httpx.Response(200, json=TAVILY))
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert body(request) == {"query": ENGLISH, "search_depth": "basic", "topic": "general", "max_results": 3}
    with respx.mock() as mock:
        route = mock.post("https://api.tavily.com/search").respond(json=TAVILY)
        Tavily("keyless").search("x", results=1)
        keyless = route.calls[0].request.headers
    assert "authorization" not in keyless
    assert keyless["x-tavily-access-mode"] == "keyless"


@pytest.mark.parametrize(("status", "kind"), [(432, RateLimited), (433, RateLimited), (429, RateLimited)])
def test_tavilys_limits(status: int, kind: type[OrchestraError]) -> None:
    with pytest.raises(kind):
        asked("tavily", httpx.Response(status, json={"error": {"code": "limit", "retry_after_seconds": 60}}))


def test_bocha_is_asked_for_summaries() -> None:
    _, (request,) = asked("bocha", httpx.Response(200, json=BOCHA), query=CHINESE)
    assert body(request) == {"query": CHINESE.replace("？", "?"), "summary": True, "freshness": "noLimit", "count": 3}


@pytest.mark.parametrize(("code", "kind"), [("401", KeyRefused), (429, RateLimited), ("403", KeyRefused), (500, SearchFault), ("x", SearchFault)])
def test_bochas_errors_that_come_as_success(code: Any, kind: type[OrchestraError]) -> None:
    with pytest.raises(kind):
        asked("bocha", httpx.Response(200, json={"code": code, "message": "no"}))


def test_google_says_that_it_ends() -> None:
    for status in (400, 403, 404):
        with pytest.raises(KeyRefused) as caught:
            asked("google", httpx.Response(status))
        assert "2027-01-01" in caught.value.message()
        assert "2027-01-01" in caught.value.message("zh")


def test_google_is_asked_in_the_questions_language() -> None:
    _, (request,) = asked("google", httpx.Response(200, json=GOOGLE), query=CHINESE, results=50)
    assert dict(request.url.params) == {"cx": "cx1", "q": CHINESE.replace("？", "?"), "num": "10", "lr": "lang_zh-CN"}


def test_wikipedia_in_the_questions_language() -> None:
    assert asked("wikipedia", httpx.Response(200, json=WIKIPEDIA))[1][0].url.host == "en.wikipedia.org"
    _, (request,) = asked("wikipedia", httpx.Response(200, json=WIKIPEDIA), query=CHINESE)
    assert (request.url.host, request.url.params["variant"]) == ("zh.wikipedia.org", "zh-cn")


def test_wikipedia_is_asked_for_the_words_where_it_finds_no_sentence() -> None:
    found, requests = asked("wikipedia", httpx.Response(200, json={}), httpx.Response(200, json=WIKIPEDIA))
    assert [request.url.params["gsrsearch"] for request in requests] == [ENGLISH, "capital france"]
    assert found


@pytest.mark.parametrize(("code", "kind"), [("ratelimited", RateLimited), ("internal_api_error", SearchFault), (None, SearchFault)])
def test_wikipedias_errors_come_as_success(code: Any, kind: type[OrchestraError]) -> None:
    with pytest.raises(kind):
        asked("wikipedia", httpx.Response(200, json={"error": {"code": code, "info": "..."}}))


# --- queries and hits


@pytest.mark.parametrize("query", ['""', "- + | ~", "“”", "？！", " \x00\n", "", "***", "()[]{}"])
@pytest.mark.parametrize("name", SERVICES)
def test_a_query_without_a_word_is_said_to_be_that(name: str, query: str) -> None:
    with pytest.raises(UsageError, match="no word"):
        asked(name, query=query)


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("ＡＢＣ　１２３", "ABC 123"),
        ("a\x00b\x1b[31mc\r\nd\te", "a b [31mc d e"),
        ('site:a.example "x" OR -y', 'site:a.example "x" OR -y'),
        ("word " * 200, ("word " * 80).strip()),
        ("长" * 500, "长" * 400),
        ("half \ud800 pair", "half ? pair"),
    ],
)
def test_a_query_as_it_is_sent(query: str, sent: str) -> None:
    assert sendable(query) == sent
    assert len(sent) <= hits.LONGEST_QUERY


@pytest.mark.parametrize("bad", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//a.example", "", None, 7, "http://[", "https://a.example/\x1b[31m", "http://", "https://a.example/" + "x" * 3000])
def test_a_hit_without_a_web_address_is_left_out(bad: Any) -> None:
    assert passages("x", [Hit("t", bad, "text"), Hit("t", "https://a.example", "text")], results=5)[0].url == "https://a.example"


@pytest.mark.parametrize("bad", [None, 7, ["x"], {"a": 1}, "", "  ", "<b></b>"])
def test_a_hit_without_a_text_has_its_title(bad: Any) -> None:
    assert [p.text for p in passages("x", [Hit("title", "https://a.example", bad), Hit(bad, "https://b.example", bad)], results=5)] == ["title"]


def test_somebodys_text_is_in_one_line_without_markup_and_of_a_length() -> None:
    assert plain("<p>A &amp; B</p>\n\x07 <script>c</script> 1 < 2", 100) == "A & B c 1 < 2"
    assert len(plain("x" * 10_000, 100)) == 100
    plain("a\ud800b", 100).encode()


# --- feeds

RSS = """<?xml version="1.0" encoding="{charset}"?><rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel><title>News</title>
<item><title>Ferry to the island starts again</title><link>https://a.example/ferry</link><description>&lt;p&gt;The ferry sails daily.&lt;/p&gt;</description><pubDate>Tue, 10 Nov 2026 08:00:00 GMT</pubDate></item>
<item><title>图书馆新馆开放</title><link>https://a.example/library</link><content:encoded><![CDATA[<b>新馆</b>每天九点开放。]]></content:encoded><description>short</description><pubDate>Wed, 11 Nov 2026 08:00:00 +0800</pubDate></item>
<item><title>No link</title><description>x</description></item></channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title><entry><title>Ferry to the island starts again</title><link rel="self" href="https://a.example/self"/>
<link href="https://a.example/ferry"/><updated>2026-11-10T08:00:00Z</updated><summary>The ferry sails daily.</summary></entry></feed>"""
RDF = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>x</title></channel>
<item><title>Ferry to the island starts again</title><link>https://a.example/ferry</link><description>The ferry sails daily.</description><dc:date>2026-11-10</dc:date></item></rdf:RDF>"""


@pytest.mark.parametrize("feed", [RSS.format(charset="utf-8"), ATOM, RDF], ids=["rss", "atom", "rdf"])
def test_a_feed_is_searched_by_the_words_of_the_question(service: Service, feed: str) -> None:
    service.told = Told(200, feed.encode())
    (found,) = Feeds([service.url]).search("When does the ferry sail?", results=3)
    assert (found.title, found.url, found.text, found.published) == (
        "Ferry to the island starts again", "https://a.example/ferry", "The ferry sails daily.", "2026-11-10",
    )  # fmt: skip
    assert Feeds([service.url]).search("What does a volcano cost?", results=3) == []
    assert "ferry" not in service.seen[0].path


def test_a_chinese_feed_in_a_chinese_charset(service: Service) -> None:
    service.told = Told(200, RSS.format(charset="gb18030").encode("gb18030"))
    (found,) = Feeds([service.url]).search("图书馆新馆几点开放？", results=3)
    assert found.text == "新馆每天九点开放。"


def test_who_asks_for_news_gets_the_newest(service: Service) -> None:
    service.told = Told(200, RSS.format(charset="utf-8").encode())
    assert [p.published for p in Feeds([service.url]).search("What is the latest news today?", results=3)] == ["2026-11-11", "2026-11-10"]


LAUGHS = '<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True)
) + "]><rss><channel><item><title>ferry &i;</title><link>https://a.example/x</link><description>ferry &i;</description></item></channel></rss>"  # fmt: skip


def test_a_billion_laughs_are_not_told(service: Service) -> None:
    service.told = Told(200, LAUGHS.encode())
    began = time.process_time()
    assert "ha" not in "".join(each.text for each in Feeds([service.url]).search("ferry", results=3))
    assert time.process_time() - began < 4


def test_an_entity_says_nothing(service: Service) -> None:
    service.told = Told(200, LAUGHS.replace("&i;", "&a;").encode())
    (found,) = Feeds([service.url]).search("ferry", results=3)
    assert (found.title, found.text) == ("ferry", "ferry")


def test_an_entity_fetches_nothing(service: Service, tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    document = f"""<!DOCTYPE rss [<!ENTITY f SYSTEM "{secret.as_uri()}"><!ENTITY n SYSTEM "{service.url}/n"><!ENTITY % p SYSTEM "{service.url}/p">%p;]>
    <rss><channel><item><title>ferry &f;&n;</title><link>https://a.example/x</link></item></channel></rss>"""
    service.told = Told(200, document.encode())
    (found,) = Feeds([service.url + "/feed"]).search("ferry", results=3)
    assert "SECRET" not in found.text + found.title
    assert [seen.path for seen in service.seen] == ["/feed"]


@pytest.mark.parametrize("text", ["", "no xml", "<html><body>Sign in</body></html>", "\x00\x01", "{}"])
def test_what_is_no_feed_is_said(service: Service, text: str) -> None:
    service.told = Told(200, text.encode())
    with pytest.raises(BadResponse, match=r"127.0.0.1 gives no feed"):
        Feeds([service.url]).search("ferry", results=3)


def test_one_feed_of_two_is_enough_and_its_token_is_not_shown(service: Service) -> None:
    service.told = Told(200, ATOM.encode())
    gone = f"http://127.0.0.1:9/{CANARY}"
    assert Feeds([gone, service.url]).search("ferry", results=3)
    with pytest.raises(SearchUnreachable) as caught:
        Feeds([gone]).search("ferry", results=3)
    assert CANARY not in repr(vars(caught.value)) + caught.value.message()
    with pytest.raises(ConfigError, match="ORCHESTRA_FEEDS"):
        Feeds(["file:///etc/passwd"])
