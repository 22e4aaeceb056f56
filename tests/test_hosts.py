"""`OLLAMA_HOST` in the forms that Ollama's own command line accepts, and those that name no daemon."""

from __future__ import annotations

import pytest

from orchestra.errors import ConfigError
from orchestra.model.hosts import daemon_url

FORMS = [
    ("", "http://127.0.0.1:11434"),
    ("1.2.3.4", "http://1.2.3.4:11434"),
    (":1234", "http://127.0.0.1:1234"),
    ("1.2.3.4:1234", "http://1.2.3.4:1234"),
    ("example.com", "http://example.com:11434"),
    ("example.com:1234", "http://example.com:1234"),
    ("example.com.", "http://example.com.:11434"),
    ("example.com:", "http://example.com:11434"),
    ("[::1]", "http://[::1]:11434"),
    ("::1", "http://[::1]:11434"),
    ("[::1]:1337", "http://[::1]:1337"),
    ("[0:0:0:0:0:0:0:1]", "http://[::1]:11434"),
    (" 1.2.3.4 ", "http://1.2.3.4:11434"),
    ('"1.2.3.4"', "http://1.2.3.4:11434"),
    (' " 1.2.3.4 " ', "http://1.2.3.4:11434"),
    ("'1.2.3.4'", "http://1.2.3.4:11434"),
    ("http://1.2.3.4", "http://1.2.3.4:80"),
    ("HTTP://1.2.3.4", "http://1.2.3.4:80"),
    ("http://1.2.3.4:4321", "http://1.2.3.4:4321"),
    ("http://1.2.3.4:4321/", "http://1.2.3.4:4321"),
    ("https://1.2.3.4", "https://1.2.3.4:443"),
    ("https://1.2.3.4:4321", "https://1.2.3.4:4321"),
    ("https://example.com/ollama", "https://example.com:443/ollama"),
    ("example.com:1234/a b/", "http://example.com:1234/a%20b"),
    ("ollama.com", "https://ollama.com:443"),
    ("gpu_box", "http://gpu_box:11434"),
]
# A server listens there; nobody can call it there.
ANYWHERE = [
    ("0.0.0.0", "http://127.0.0.1:11434"),
    ("0.0.0.0:8080", "http://127.0.0.1:8080"),
    ("http://0.0.0.0", "http://127.0.0.1:80"),
    ("[::]", "http://[::1]:11434"),
    ("[::]:8080", "http://[::1]:8080"),
    ("::", "http://[::1]:11434"),
]
NONE = [
    "localhost:99999", "localhost:0", "localhost:-1", "localhost:abc", "localhost:１１", "ftp://localhost", "unix:///run/ollama",
    "http://user:secret@localhost", "a b", "a..b", ".local", "x" * 64, "1.2.3.4?q=1", "1.2.3.4#x", "[::1]x", "1:2:3", "http://<host>",
]  # fmt: skip


@pytest.mark.parametrize(("form", "url"), FORMS + ANYWHERE)
def test_forms_of_an_address(form: str, url: str) -> None:
    assert daemon_url(form) == url


@pytest.mark.parametrize(("form", "url"), FORMS)
def test_a_url_names_itself(form: str, url: str) -> None:
    assert daemon_url(url) == url


@pytest.mark.parametrize("form", NONE)
def test_what_names_no_daemon(form: str) -> None:
    with pytest.raises(ConfigError) as caught:
        daemon_url(form)
    for language in ("en", "zh"):
        assert "OLLAMA_HOST" in caught.value.message(language)
        assert "http://127.0.0.1:11434" in caught.value.hint(language)
