"""Pages whose encoding is named wrongly or not at all (row R5): at least 95 of 100 characters come out right, and nothing is raised."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.retrieval import charset
from orchestra.retrieval.charset import decode, known

SIMPLIFIED = (
    "黄河发源于青海省巴颜喀拉山脉，流经九个省区，最后注入渤海。它的名字来自河水中的泥沙：每年约有十六亿吨泥沙被带到下游。",
    "阅读文章之前，请先确认浏览器的设置。图书馆周一至周五上午九点开门，读者凭借书证可以借阅五本书，期限为三十天。",
    "咖啡豆烘焙的程度决定了风味：浅烘保留果酸，深烘带来焦糖与可可的香气。冲泡时水温不宜超过九十三摄氏度。",
)
TRADITIONAL = (
    "臺北捷運於一九九六年開始營運，目前共有六條路線。旅客可以使用悠遊卡付費，車廂內禁止飲食，違者將處以罰款。",
    "這座圖書館建於十九世紀，收藏了許多珍貴的手稿。參觀者須於入口處登記，並遵守館內的規定，請勿大聲喧嘩。",
    "香港天文台發出暴雨警告，市民應留在安全的地方，直至大雨過去。學校宣布下午停課，巴士服務亦受影響。",
)
JAPANESE = (
    "東京の地下鉄は世界でも有数の規模を誇り、毎日多くの人が利用しています。切符は駅の券売機で買うことができます。",
    "桜の花が咲く季節になると、公園には家族連れや友人同士が集まり、お弁当を食べながら花見を楽しみます。",
    "この図書館では、インターネットで本を予約することができます。カードをお持ちでない方は受付にお越しください。",
)
KOREAN = ("서울의 지하철은 하루에 수백만 명이 이용하는 중요한 교통수단입니다. 환승할 때는 안내 표지를 확인하시기 바랍니다.",)
LATIN = (
    "Le café était fermé à midi, mais l’élève de l’école voisine a trouvé une bibliothèque où étudier — « très agréable », dit-elle.",
    "Die Bürgermeisterin eröffnete gestern die größte Straßenbahnstrecke der Stadt; die Züge fahren künftig alle fünf Minuten.",
)
RUSSIAN = ("Библиотека открыта ежедневно с девяти часов утра до восьми вечера, кроме понедельника. Читатели могут брать книги домой.",)
LIES = ("", "utf-8", "iso-8859-1", "gb2312", "windows-1252", "no-such-thing")
ENCODINGS = {
    "gbk": SIMPLIFIED, "gb18030": SIMPLIFIED, "big5": TRADITIONAL, "shift_jis": JAPANESE, "euc_jp": JAPANESE,
    "utf-16": SIMPLIFIED + JAPANESE, "utf-16-le": SIMPLIFIED, "utf_8": SIMPLIFIED + LATIN, "cp1252": LATIN, "euc_kr": KOREAN, "cp1251": RUSSIAN,
}  # fmt: skip


def page(text: str, label: str) -> str:
    """A page that says `label` of itself, as pages do: in the head, the text far below."""
    meta = f'<meta http-equiv="Content-Type" content="text/html; charset={label}">' if label else ""
    return f"<!doctype html>\n<html><head>{meta}<title>{text[:12]}</title></head>\n<body class=main>\n<p>{text}</p>\n</body></html>"


def pages() -> list[tuple[str, str, str, bytes]]:
    """Encoding, what the header says, the page as text and as bytes."""
    made = []
    for encoding, texts in ENCODINGS.items():
        for text, (header, meta) in zip(itertools.cycle(texts), [*zip(LIES, reversed(LIES), strict=True), (encoding, encoding)], strict=False):
            whole = page(text, meta)
            made.append((encoding, header, whole, whole.encode(encoding)))
    return made


def right(got: str, whole: str) -> float:
    """The share of characters beyond ASCII that stand where they should."""
    wanted = [(n, c) for n, c in enumerate(whole) if c > "\x7f"]
    return sum(got[n : n + 1] == c for n, c in wanted) / len(wanted)


def share() -> float:
    made = pages()
    assert len(made) >= 60
    return sum(right(decode(data, declared=header), whole) >= 0.95 for _, header, whole, data in made) / len(made)


def test_pages_that_lie_about_their_encoding_are_read() -> None:
    wrong = [(encoding, header, decode(data, declared=header)[-80:]) for encoding, header, whole, data in pages() if right(decode(data, declared=header), whole) < 0.95]
    assert wrong == []
    assert share() == 1.0


def test_believing_what_pages_say_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charset, "NAMED", 9.0)
    assert share() < 0.95


def test_guessing_without_frequencies_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charset, "plausibility", lambda text, codec: 0.0)
    assert share() < 0.95


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"plain", "plain"),
        (b"\xef\xbb\xbfa\xc3\xa9", "aé"),
        ("中文".encode()[:-1], "中\ufffd"),  # cut within a character
        ("中文\r\n".encode("utf-16"), "中文\r\n"),
        ("\ufeff中文".encode("utf-32-le"), "中文"),
        ("中文页面".encode() * 20 + b"\xff", "中文页面" * 20 + "\ufffd"),  # one stray byte
        ("日本語".encode("iso2022_jp"), "日本語"),
        ("caf\xe9 au lait".encode("cp1252"), "café au lait"),
        ("“it’s”".encode("cp1252"), "“it’s”"),
        ("你好，世界".encode("gbk"), "你好，世界"),
        ("請問圖書館在哪裡".encode("big5"), "請問圖書館在哪裡"),
    ],
)
def test_small_texts(data: bytes, text: str) -> None:
    assert decode(data) == text


@pytest.mark.parametrize("label", ["utf-7", "rot13", "hex", "punycode", "unicode_escape", "idna", "zlib", "mbcs", "", "\x00", "x" * 1000])
def test_a_name_that_no_page_should_use_is_not_taken(label: str) -> None:
    assert known(label) == ""
    assert decode(b"+ADw-script+AD4-", declared=label) == "+ADw-script+AD4-"


def test_every_name_leads_to_a_codec() -> None:
    for name in {*charset.ALIASES.values(), *charset.GUESSES}:
        "text".encode(name)


@given(st.binary(max_size=400), st.sampled_from([*charset.ALIASES, "nonsense"]))
def test_no_bytes_raise(data: bytes, label: str) -> None:
    assert isinstance(decode(data, declared=label), str)
