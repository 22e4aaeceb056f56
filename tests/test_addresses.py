"""Which addresses are read (rows R1 and R2): what leads into the private network is not connected to, seen at the socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain, repeat
from urllib.parse import urljoin

import pytest
from small_web import PUBLIC, SmallWeb

from orchestra.errors import BlockedAddress, OrchestraError, PageFault, SchemeRefused
from orchestra.retrieval import addresses, fetching
from orchestra.retrieval.addresses import Address, address, public
from orchestra.retrieval.fetching import Fetcher

NUMBERS = (
    "127.0.0.1 127.0.0.1. 127.1 127.0.1 127.255.255.254 2130706433 0x7f000001 0x7F.0.0.1 0x7f.1 017700000001 0177.0.0.1 0177.1 00177.0.0.01"
    " 0x7f.0.0.0x1 0 0.0.0.0 00 0x0 0.0.0.1 10.0.0.1 10.1 0xa.0.0.1 012.0.0.1 167772161 172.16.0.1 172.31.255.255 172.1048577 192.168.0.1"
    " 192.168.1 192.11010049 3232235521 0xc0a80001 0300.0250.0.1 169.254.169.254 169.16689662 2852039166 0xa9fea9fe 0xa9.0xfe.0xa9.0xfe"
    " 0251.0376.0251.0376 025177524776 169.254.170.2 169.254.0.1 168.63.129.16 2822734096 0xa83f8110 100.100.100.200 100.64.0.1 100.127.255.255"
    " 1684301000 192.0.0.192 192.0.0.8 192.0.2.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 192.88.99.1 224.0.0.1 239.255.255.250"
    " 255.255.255.255 240.0.0.1 4294967295 0xffffffff 037777777777"
).split()
LITERALS = (
    "::1 :: 0:0:0:0:0:0:0:1 0000:0000:0000:0000:0000:0000:0000:0001 ::ffff:127.0.0.1 ::ffff:7f00:1 ::FFFF:169.254.169.254 ::ffff:a9fe:a9fe"
    " 0:0:0:0:0:ffff:10.0.0.1 ::ffff:100.100.100.200 ::ffff:168.63.129.16 ::ffff:0:127.0.0.1 ::127.0.0.1 ::7f00:1 ::10.0.0.1 ::93.184.216.34"
    " 2002:7f00:1:: 2002:a9fe:a9fe::1 2002:c0a8:0101::1 2002:5db8:d822:: 2001:0:7f00:1::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001::1 64:ff9b::127.0.0.1"
    " 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1 64:ff9b::6464:64c8 64:ff9b:1::1 64:ff9b:1::93.184.216.34 fe80::1 fe80::1%25eth0 fe80::1%eth0 febf::1 fec0::1"
    " fc00::1 fd00::1 fd00:ec2::254 fd20:ce::254 ff02::1 ff0e::1 2001:db8::1 3fff::1 100::1 2001:10::1 2001:20::1 2001:2::1 5f00::1 4000::1 e000::1"
    " 2a00:1450::5efe:10.0.0.1 2a00:1450::200:5efe:192.168.0.1 v1.fe80 1:2:3 ::g ::1%25 ::ffff:999.0.0.1"
).split()
NAMES = (
    "localhost LOCALHOST localhost. LocalHost.. a.localhost foo.bar.localhost. localhost.localdomain ip6-localhost metadata kubernetes router intranet"
    " printer.local nas.lan server.home wiki.corp db.internal metadata.google.internal a.home.arpa x.test x.invalid hidden.onion"
    " 1.0.0.127.in-addr.arpa ollama host.docker.internal"
).split()
WIDE = (
    "１２７.０.０.１ 127。0。0。1 127．0．0．1 127｡0｡0｡1 １２７。１ ①②⑦.⓪.⓪.① 𝟏𝟐𝟕.𝟎.𝟎.𝟏 ２１３０７０６４３３ ０ｘ７ｆ．１ ⓛⓞⓒⓐⓛⓗⓞⓢⓣ ｌｏｃａｌｈｏｓｔ ₁₂₇.0.0.1 ¹²⁷.0.0.1"
    " 169。254。169。254 ｌocalhost。 loc\u00adalhost local\u200bhost 127.0.0.1\u3002 [::ffff:１２７.0.0.1]"
).split()
WHOLE = [
    *(f"{scheme}:{rest}" for scheme in ("file", "gopher", "ftp", "dict", "ldap", "jar", "netdoc", "ws") for rest in ("///etc/passwd", "//127.0.0.1:6379/x")),
    "data:text/html,<p>x", "javascript:alert(1)", "about:blank", "view-source:http://127.0.0.1/", "//127.0.0.1/", "/etc/passwd", "127.0.0.1", "", " ", "http:",
    "HTTP://127.0.0.1/", "hTTps://127.0.0.1", "http:/127.0.0.1/", "http:127.0.0.1", "http:///127.0.0.1/", "http:////127.0.0.1", "http:\\\\127.0.0.1\\",
    "http://\\127.0.0.1/", "http://site.example.org\\@127.0.0.1/", "http://127.0.0.1\\@site.example.org/", "http://site.example.org@127.0.0.1/",
    "http://127.0.0.1@site.example.org/", "http://user:secret@site.example.org/", "http://user@site.example.org", "http://:@site.example.org/", "http://@127.0.0.1/",
    "http://a:b@c:d@127.0.0.1/", "http://127.0.0.1#@site.example.org/", "http://127.0.0.1?@site.example.org/", "http://127.0.0.1%23@site.example.org/",
    "http://127.0.0.1%00.site.example.org/", "http://127.0.0.1\x00.site.example.org/", "http://127.0.0.1\t/", "ht\ntp://127.0.0.1/", "http://127.0.0.1\r\nX: y/",
    "http://127.0.0.1 /", "http:// 127.0.0.1/", "\x01http://127.0.0.1/", "http://%31%32%37.0.0.1/", "http://127%2e0%2e0%2e1/", "http://%6c%6fcalhost/",
    "http://[::1]:80/", "http://[::1/", "http://::1/", "http://::1]/", "http://a[::1]/", "http://[::1]a/", "http://[[::1]]/", "http://[127.0.0.1]/", "http://[]/",
    "http://127.0.0.1:80/", "http://127.0.0.1:080/", "http://127.0.0.1:+80/", "http://127.0.0.1:٨٠/", "http://127.0.0.1:/", "http://site.example.org:22/",
    "http://site.example.org:25/", "http://site.example.org:6379/", "http://site.example.org:11434/", "http://site.example.org:0/", "http://site.example.org:65536/",
    "http://site.example.org:80:80/", "http://site.example.org:-80/", "http://site.example.org:80a/", "https://site.example.org:9200/", "http://site.example.org:5000/",
    "http://.../", "http://./", "http://..1/", "http://127..1/", "http://-a.example.org/", "http://a..example.org/", "http://*.example.org/", "http://a_b/",
    "http://256.256.256.256/", "http://1.2.3.4.5/", "http://0x/", "http://08.0.0.1/", "http://127.0.0.0x1g/", "http://127.0.0.4294967296/", "http://99999999999/",
    "http://" + "9" * 100 + "/", "http://" + "a" * 300 + ".org/", "http://site.example.org/" + "a" * 3000, "http://$(hostname).example.org/", "http://a,b.example.org/",
    "http://127.0.0.1,site.example.org/", "http://site.example.org;127.0.0.1/", "http://{127.0.0.1}/", "http://127.0.0.1|x/", "http://ｅxample。ｏrg：80/",
]  # fmt: skip
FORMS = [*WHOLE, *(f"http://{host}/latest/meta-data/" for host in (*NUMBERS, *NAMES, *WIDE)), *(f"http://[{host}]/" for host in LITERALS)]
INWARD = {  # public names that lead inside
    f"inward{n}.example.org": ips
    for n, ips in enumerate(
        [
            ["127.0.0.1"], ["10.0.0.7"], ["169.254.169.254"], ["168.63.129.16"], ["::1"], ["fe80::1"], ["::ffff:10.0.0.1"], ["64:ff9b::7f00:1"],
            [PUBLIC, "192.168.1.1"], ["100.100.100.200", PUBLIC], ["0.0.0.0"], ["fd00:ec2::254"], ["2002:7f00:1::"], ["fe80::1%eth0"], ["nonsense"],
        ]
    )
}  # fmt: skip


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallWeb]:
    with SmallWeb().running(monkeypatch) as web:
        web.names = {"site.example.org": [PUBLIC], "other.example.org": [PUBLIC], **INWARD}
        web.page("/", b"<p>Hello</p>")
        yield web


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    fetcher = Fetcher()
    yield fetcher
    fetcher.close()


def got(fetcher: Fetcher, url: str, *, seconds: float = 5.0) -> OrchestraError | bytes:
    """The body, or the error."""
    try:
        return fetcher.fetch(url, deadline=time.monotonic() + seconds).body
    except PageFault as fault:
        return fault


def inside(web: SmallWeb) -> list[str]:
    """The connections that went elsewhere than to the one public address."""
    return [where for where in web.connected if not where.startswith(PUBLIC)]


def test_no_form_of_a_private_address_is_connected_to(web: SmallWeb, fetcher: Fetcher) -> None:
    urls = [*FORMS, *(f"http://{name}/" for name in INWARD)]
    assert len(set(urls)) >= 250
    results = {url: got(fetcher, url) for url in urls}
    assert [url for url, result in results.items() if isinstance(result, bytes)] == []
    assert web.connected == []
    assert set(web.looked_up) == set(INWARD)


def test_without_the_guard_they_are_connected_to(web: SmallWeb, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_public4", lambda ip: True)
    monkeypatch.setattr(addresses, "_public6", lambda ip: True)
    for url in [*FORMS, *(f"http://{name}/" for name in INWARD)]:
        got(fetcher, url)
    assert len(inside(web)) > 100


@pytest.mark.parametrize("url", ["http://169.254.169.254/", "http://127.1/", "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://inward2.example.org/"])
def test_a_private_address_is_named(web: SmallWeb, fetcher: Fetcher, url: str) -> None:
    fault = got(fetcher, url)
    assert isinstance(fault, BlockedAddress)
    assert fault.facts["address"] in ("169.254.169.254", "127.0.0.1", "::ffff:127.0.0.1")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://127.0.0.1/", "data:text/html,x", "javascript:x", "ftp://site.example.org/"])
def test_other_schemes_are_refused(web: SmallWeb, fetcher: Fetcher, url: str) -> None:
    assert isinstance(got(fetcher, url), SchemeRefused)


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://site.example.org", "site.example.org", "/"),
        (" HTTPS://Site.Example.org.:443/a b?q=ö|x#part ", "site.example.org", "/a%20b?q=%C3%B6%7Cx"),
        ("http://例子.中国/路径", "xn--fsqu00a.xn--fiqs8s", "/%E8%B7%AF%E5%BE%84"),
        ("http://ｗｗｗ．example。org/", "www.example.org", "/"),
        ("http://93.184.216.34:8080/%41", "93.184.216.34", "/%41"),
        ("http://1572395042/", PUBLIC, "/"),
        ("http://[2606:2800:220:1::1]/", "2606:2800:220:1::1", "/"),
        ("http://faß.de/", "xn--fa-hia.de", "/"),
    ],
)
def test_public_addresses_pass(url: str, host: str, target: str) -> None:
    place = address(url)
    assert (place.host, place.target) == (host, target)


@pytest.mark.parametrize("ip", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2a00:1450::5efe:8.8.8.8", "223.255.255.255"])
def test_public_ips(ip: str) -> None:
    assert public(ip)


def test_a_name_is_asked_for_by_its_own_name_and_port(web: SmallWeb, fetcher: Fetcher) -> None:
    assert got(fetcher, "http://Site.example.org:8080/") == b"<p>Hello</p>"
    assert web.asked[0]["host"] == "site.example.org:8080"
    assert web.connected == [f"{PUBLIC}:8080"]


def test_an_unknown_name(web: SmallWeb, fetcher: Fetcher) -> None:
    assert "nowhere.example.org is not known" in str(got(fetcher, "http://nowhere.example.org/"))


# --- redirects (row R2)

PRIVATE = ["http://169.254.169.254/latest/", "http://127.1/", "//10.0.0.1/", "http://inward0.example.org/", "http://[::1]/", "HTTP://2130706433"]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("location", PRIVATE)
def test_a_redirect_to_a_private_address_is_not_followed(web: SmallWeb, fetcher: Fetcher, location: str, status: str) -> None:
    web.moved("/", location, status)
    assert isinstance(got(fetcher, "http://site.example.org/"), BlockedAddress)
    assert web.connected == [f"{PUBLIC}:80"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://127.0.0.1/", "javascript:x", "data:,x"])
def test_a_redirect_to_another_scheme_is_not_followed(web: SmallWeb, fetcher: Fetcher, location: str) -> None:
    web.moved("/", location)
    assert isinstance(got(fetcher, "http://site.example.org/"), SchemeRefused)


def test_without_the_check_of_each_hop_it_is_noticed(web: SmallWeb, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(here: Address, location: str) -> Address:
        url = urljoin(here.url, location)
        return Address(url=url, scheme="http", host="169.254.169.254", port=80, target="/")

    monkeypatch.setattr(fetching, "onward", trusting)
    monkeypatch.setattr(fetching, "resolved", lambda place, resolve: (PUBLIC,) if place.host.endswith("org") else (place.host,))
    web.moved("/", PRIVATE[0])
    got(fetcher, "http://site.example.org/")
    assert inside(web) == ["169.254.169.254:80"]


def test_five_hops_and_no_more(web: SmallWeb, fetcher: Fetcher) -> None:
    for n in range(6):
        web.moved(f"/{n}", f"http://{'other' if n % 2 else 'site'}.example.org/{n + 1}")
    web.page("/6", b"<p>Here</p>")
    assert got(fetcher, "http://site.example.org/1") == b"<p>Here</p>"
    assert "more than 5 times" in str(got(fetcher, "http://site.example.org/0"))
    web.moved("/loop", "/loop")
    assert "more than 5 times" in str(got(fetcher, "http://site.example.org/loop"))


@pytest.mark.parametrize("location", ["http://[", "http://a:b:c/", "\x00", "http://", "//", "http://[::1", "\udcff"])
def test_a_malformed_redirect_is_a_fault(web: SmallWeb, fetcher: Fetcher, location: str) -> None:
    web.raw("/", lambda path, sock: sock.sendall(b"HTTP/1.1 302 x\r\nLocation: " + location.encode("utf-8", "surrogateescape") + b"\r\n\r\n"))
    assert isinstance(got(fetcher, "http://site.example.org/"), PageFault)
    assert inside(web) == []


def test_nothing_is_told_about_the_reader(web: SmallWeb, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    web.moved("/", "http://other.example.org/next", set_cookie="id=secret; Domain=example.org", www_authenticate="Basic")
    web.page("/next", b"<p>x</p>", set_cookie="id=secret")
    got(fetcher, "http://site.example.org/")
    got(fetcher, "http://other.example.org/next")
    told = {name for asked in web.asked for name in asked}
    assert len(web.asked) == 3
    assert told == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert {asked["accept-encoding"] for asked in web.asked} == {"identity, gzip"}


# --- rebinding


def rebound(web: SmallWeb) -> None:
    web.names["rebound.example.org"] = chain([[PUBLIC]], repeat(["127.0.0.1"]))


def test_the_address_that_was_judged_is_the_one_connected_to(web: SmallWeb, fetcher: Fetcher) -> None:
    rebound(web)
    assert got(fetcher, "http://rebound.example.org/") == b"<p>Hello</p>"
    assert web.connected == [f"{PUBLIC}:80"]
    assert web.looked_up == ["rebound.example.org"]
    assert isinstance(got(fetcher, "http://rebound.example.org/"), BlockedAddress)
    assert inside(web) == []


def test_rebinding_between_hops_is_judged_anew(web: SmallWeb, fetcher: Fetcher) -> None:
    rebound(web)
    web.moved("/", "/again")
    assert isinstance(got(fetcher, "http://rebound.example.org/"), BlockedAddress)
    assert inside(web) == []


def test_a_second_look_at_the_name_is_noticed(web: SmallWeb, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(place: Address, resolve: addresses.Resolver | None) -> tuple[str, ...]:
        addresses.resolved(place, resolve)
        return tuple(addresses._addresses(place.host, place.port))

    monkeypatch.setattr(fetching, "resolved", twice)
    rebound(web)
    got(fetcher, "http://rebound.example.org/")
    assert inside(web) == ["127.0.0.1:80"]


def test_another_address_of_the_host_is_tried(web: SmallWeb, fetcher: Fetcher) -> None:
    web.names["site.example.org"] = ["93.184.216.35", PUBLIC]
    assert got(fetcher, "http://site.example.org/") == b"<p>Hello</p>"
    assert web.connected == ["93.184.216.35:80", f"{PUBLIC}:80"]
