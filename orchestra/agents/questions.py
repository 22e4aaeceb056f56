"""The questions of a message, told apart without a model, and whether a message leans on what was said before.

A message is cut only where a new question begins: a clause that merely says when, if or about what one asks stays with its
question, and so does one that points back with "it" or 这. What is cut too little is asked of a coordinator as a whole;
what is cut wrongly loses its sense, so that every doubt leaves a message in one piece.
"""

from __future__ import annotations

import re
from itertools import pairwise

MOST = 12  # questions; a text with more is material to read
_END = "?？!！。\n"
_HELPS = r"(?:is|are|was|were|am|do|does|did|can|could|may|must|should|shall|will|would|has|have|had|need)(?:n't)?"
_WHOSE = r"(?:i|you|he|she|it|we|they|the|my|your|our|his|her|its|their|a|an|this|that|these|those)"
_CUT = re.compile(
    r"[?？!！。\n]+|[，；;]|(?=顺便|另外|还有|以及|同时|此外)|,(?=\s{1,9}(?:and|but|also|plus|besides|by the way)\b)|(?<=\s)(?=also\s)|"
    rf"\.(?=\s{{1,9}}[A-Z])|(?=\sand\s{{1,9}}{_HELPS}\s{{1,9}}{_WHOSE}\b)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"\A[\s,，;；、.]*(?:(?:顺便|另外|还有|以及|同时|此外|而且|再说|对了|然后|并且)[，,]?|"
    r"(?:(?:and|but|also|plus|besides|by the way|then|secondly|second|first)\b[,\s]*){1,3})?\s*",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"“[^”]{1,400}”|\"[^\"]{1,400}\"|「[^」]{1,400}」|『[^』]{1,400}』")
_ASKS_ZH = re.compile(r"吗|呢|什么|怎|如何|多少|多久|多长|几[个天年次种]|哪|谁|为何|是否|能不能|可不可以|要不要|是不是|有没有|该不该|请|帮我|咋")
_BELOW_ZH = re.compile(r"(?:如果|要是|假如|万一|不管|无论|不论|即使|就算|因为|由于|既然|虽然|尽管|除非|只要|只有|当|在.{1,12}(?:时|之前|之后|前提下))")
_BARE_ZH = re.compile(r"(?:需要|要|能|可以|会|该|应该|有没有|是否|是不是|怎么办|多少钱)")  # whose subject the clause before has
_AFTER_ZH = re.compile(r".{0,6}?(?:就|才|那么|否则|则|都(?![会有]))")
_ASKS_EN = re.compile(
    rf"(?:{_HELPS}\s+{_WHOSE}\b|{_HELPS}\s+\w+|(?:what|who|whom|whose|which|where|why|how)(?!\s+{_WHOSE}\b)\b|when\s+{_HELPS}\b|"
    r"(?:please|tell|explain|show|help|write|give|find|translate|i(?:'d like|\s+(?:want|need|would like))\s+to\s+know)\b)",
    re.IGNORECASE,
)
_BACK_ZH = re.compile(r"它|[她那这也]|(?<!其)他|前者|后者|两者|上述|刚才|刚刚|之前说|前面|呢[?？。！!\s]*\Z|\A(?:再|继续|还|具体)")
_BACK_EN = re.compile(
    r"\A\s*(?:and|but|or|so|then|what about|how about|what if|why not)\b|"
    r"\b(?:it|its|this|these|those|they|them|their|he|him|his|she|her|again|instead)\b|"
    r"(?:\A|\b(?:is|was|does|did|do|has|will|would|can|could|should|of|for|about|like|with|at|from|to|than|after|before|without)\s)"
    r"that(?:\s|\W*\Z)|\b(?:that|examples?|details?|more)\W*\Z",
    re.IGNORECASE,
)
_HEARD = re.compile(
    r"\s*(?:谢谢|多谢|明白|知道了|嗯|哈哈|(?:好|行|可以|不用|是|对)(?:[的吧啊呀]|(?<!对)了)?(?:[，,。！!\s]|\Z)|"
    r"(?:thanks|thank|ok|okay|yes|yeah|no|great|good|fine|sure|sorry)\b)",
    re.IGNORECASE,
)
_HAN = re.compile("[\u3400-\u9fff]")
_LATIN = re.compile(r"[^\W\d_\u3400-\u9fff]+")
_FEW_HAN, _FEW_WORDS = 6, 3


def questions(message: str) -> list[str]:
    """The questions and requests of a message, in order, in its words: each with what is said before or after it."""
    parts: list[str] = []
    before = ""
    begins = True  # a sentence
    for clause in _clauses(message):
        plain = _plain(clause)
        if _asks(plain) and (begins or before or not parts or not _leans(clause, plain)):
            parts.append(before + clause)
            before = ""
        elif begins or before or not parts:
            before += clause
        else:
            parts[-1] += clause
        begins = clause[-1] in _END
    if before and parts and not _HEARD.match(before):
        parts[-1] += before
    return [_plain(part) for part in parts] if len(parts) <= MOST else [message]


def points_back(text: str) -> bool:
    """Whether `text` names something that only what was said before can tell."""
    return bool(_BACK_ZH.search(text) or _BACK_EN.search(text))


def goes_on(message: str) -> bool:
    """Whether a message can hardly be understood by itself: it is short, the more so where it begins with thanks, or points back."""
    han, words = len(_HAN.findall(message)), len(_LATIN.findall(message))
    times = 2 if _HEARD.match(message) else 1
    return (han <= times * _FEW_HAN and words <= times * _FEW_WORDS) or points_back(message)


def _clauses(message: str) -> list[str]:
    """A message cut where a clause may begin, never within what it quotes; together they are the message."""
    open_to_cuts = _QUOTED.sub(lambda quoted: "“" * len(quoted[0]), message)
    places = [0, *(cut.end() for cut in _CUT.finditer(open_to_cuts)), len(message)]
    return [message[start:end] for start, end in pairwise(places) if start < end]


def _asks(plain: str) -> bool:
    """Whether a clause is a question or a request of its own."""
    if _HAN.search(plain):
        asks = _ASKS_ZH.search(plain) or plain.endswith(("?", "？"))
        return bool(asks) and not _BELOW_ZH.match(plain) and not _AFTER_ZH.match(plain)
    return bool(_ASKS_EN.match(plain))


def _leans(clause: str, plain: str) -> bool:
    """Whether a clause points back, or takes its subject from the clause before without a word that joins them."""
    return points_back(plain) or bool(_BARE_ZH.match(plain) and clause.lstrip().startswith(plain))


def _plain(clause: str) -> str:
    """A clause without the words that join it to the one before."""
    return _LEAD.sub("", clause, count=1).strip(" \t\n,，;；、")
