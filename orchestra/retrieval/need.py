"""Whether a question has to be looked up, whether it can stand alone, whether its answer hangs on today: rules, no model.

Where a rule is unsure, the question is looked up, and taken as it is.
"""

from __future__ import annotations

import re

from orchestra.retrieval.terms import HAN_CHARACTER, terms

_LONGEST_TALK = 40  # characters; small talk that goes on says something
_LONGEST_RULED = 600  # characters in which a rule looks
_FEW_WORDS, _FEW_HAN = 6, 14  # a follow-up of so few words may leave something out
_NAMED = 3  # words before a pronoun among which it finds what it stands for

_TALK = re.compile(
    r"(?:hi|hello|hey|hiya|howdy|good (?:morning|afternoon|evening|night|day)|thank you(?: (?:so|very) much)?|thanks?|many thanks|thx|"
    r"cheers|bye|goodbye|see you(?: later)?|ok|okay|great|perfect|well done|nice|yes|no|sure|please|sorry|welcome|"
    r"how are you(?: (?:today|doing))?|how do you do|what['’]?s up|who are you|what(?:['’]s| is) your name|what can you do|"
    r"nice to meet you|are you there|tell me a joke|"
    r"[你您]好吗?|大家好|嗨|哈喽|早上好|早安|早|上午好|下午好|晚上好|晚安|再见|拜拜|谢谢[你您]?|多谢|非常感谢|感谢|辛苦了|好的?|行|可以|嗯|是的?|不是|没事|没关系|不客气|对不起|"
    r"你是谁|您是谁|你叫什么(?:名字)?|你会什么|你能做什么|在吗|讲个笑话|说个笑话|呢|啊|呀|吧|了|哦)",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"[\s,.!?;:~，。！？；：、～…]+|\b(?:there|everyone|all|my friend|for your help|for the help)\b", re.IGNORECASE)
_SUM = re.compile(
    r"\s*(?:(?:what(?:['’]s| is)|how much is|calculate|compute|evaluate|solve|请问|请|帮我|算一下|计算一下|计算|算|求)\s{0,3}[:：]?\s{0,3}){0,3}"
    r"(?:[\d\s.,+\-*/^%()=×÷＋－（）√π!²³]|plus|minus|times|divided by|mod|sqrt|加|减|乘以?|除以|等于|的平方|平方根){3,200}"
    r"(?:等于多少|是多少|得多少|得几|等于几|[?？。.!=])*\s*",
    re.IGNORECASE,
)
_OPERATED = re.compile(
    r"\d\s{0,3}\D{0,12}?(?:[+\-*/^%=×÷＋－√!²³]|plus|minus|times|divided|mod|sqrt|加|减|乘|除|平方|等于)|√|平方根|sqrt",
    re.IGNORECASE,
)
_OPENS = r"^\s*(?:please\s+|can you\s+|could you\s+|would you\s+|now\s+|请你?|帮我|帮忙|麻烦你?|能不能|能否)*\s*"
# What is worked on stands in the request itself: after a colon, in quotation marks, on lines of its own, or "this text".
_REWORK = re.compile(
    _OPENS + r"(?:translate|rewrite|rephrase|paraphrase|proofread|summari[sz]e|shorten|polish|edit|correct|improve|simplify|reword|"
    r"翻译|把.{0,200}?(?:翻译|译|改写|润色|缩写|扩写|改成|总结|概括)|将.{0,200}?(?:翻译|译|改写|润色|改成)|改写|润色|校对|缩写|扩写|总结|概括|修改|纠正|简化)",
    re.IGNORECASE,
)
_GIVEN = re.compile(
    r"[:：]\s*\S|\n\s*\S|[\"“”「『'‘][^\"“”」』'’\n]{2,}|\b(?:this|these|following|above|below)\b|"
    r"这|下面|以下|上面|上述|下列|[译成]+(?:英|中|法|德|日|俄)[文语]",
    re.IGNORECASE,
)
_WRITE = re.compile(
    _OPENS + r"(?:write|compose|invent|make up|创作|编一?个|写一?(?:首|个|篇|段))\s*(?:me\s+)?(?:an?\s+)?(?:\w+\s+){0,2}(?:关于.{1,20}?的)?"
    r"(?:poem|haiku|song|story|limerick|fairy tale|诗|歌|故事|童话|对联|笑话)",
    re.IGNORECASE,
)

_POINTING = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|him|his|she|her|hers|this|that|these|those|the (?:former|latter)|"
    r"(?:other|another|that|this|each|first|second|last|cheaper|better|bigger|smaller|newer|older) ones?|there)\b|"
    r"它|他|她|牠|这个|那个|这些|那些|这种|那种|这里|那里|那儿|这儿|此[外时]|其中|其次|上述|前者|后者|刚才|之前说|上面|前面|为此|"
    r"该(?:产品|公司|城市|国|市|人|书|药|型号|机器|设备|项目|活动|方法)",
    re.IGNORECASE,
)
_CONNECTED = re.compile(
    r"^\s*(?:and|but|or|also|then|what about|how about|what else|anything else|how so|for example|more|go on|continue)\b|"
    r"^\s*(?:why|why not|really|how come|since when|says who)\s*[?.!]*\s*$|"
    r"\b(?:the (?:first|second|third|last|other|others|rest)|instead|else|as well|too)\s*[?.!]*\s*$|"
    r"^\s*(?:还有|那|而|但|可是|然后|所以|另外|再|换成|如果是|真的|比如|例如|继续|接着|详细)|"
    r"^\s*(?:为什么|怎么会|为何|怎么说)\s*[?？。]*\s*$|呢\s*[?？。]?\s*$",
    re.IGNORECASE,
)
_THERE = re.compile(r"(?<!\bis )(?<!\bare )(?<!\bwas )(?<!\bwere )\bthere\s*[?.!]*\s*$", re.IGNORECASE)
_NAMES = re.compile(r"\s[A-Z]\w")  # within the question: then "there" is where that is
_EXPLETIVE = re.compile(
    r"\b(?:is|was|are|were) there\b|\bthere (?:is|are|was|were|exists?)\b|\bso that\b|"
    r"\b(?:it|that) (?:is|was) (?:true|possible|necessary|said|known)\b|\bit (?:takes?|rains?|snows?)\b",
    re.IGNORECASE,
)
_DEFINES = re.compile(r"^\s*(?:what|who)(?:['’]s| is| are| was| were)\s|什么是|是(?:什么|谁)|叫做什么", re.IGNORECASE)
_TODAY = re.compile(
    r"\b(?:today|tonight|now|currently|current|latest|newest|recent(?:ly)?|this (?:week|month|year)|(?:last|next) (?:week|month|year)|"
    r"yesterday|tomorrow|up to date|so far|still|how old|how long ago|days? (?:until|left|ago)|what (?:day|date|year)|upcoming|news)\b|"
    r"今天|今日|今晚|今年|今后|现在|目前|当前|最新|最近|近来|近期|本周|本月|本年|这周|这个月|上周|上个月|去年|明年|下周|下个月|昨天|明天|如今|几号|星期几|哪一年|多少岁|几岁|多大了|多久以前|还剩|截至|新闻",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")


def needs_search(question: str) -> bool:
    """Whether `question` asks for something to be looked up: not small talk, arithmetic, or work on a text that it brings."""
    text = question.strip()[:_LONGEST_RULED]
    if len(text) <= _LONGEST_TALK and not _BETWEEN.sub("", _TALK.sub("", _BETWEEN.sub(" ", text))).strip():
        return False
    if _SUM.fullmatch(text) and _OPERATED.search(text):
        return False
    return not (_WRITE.match(text) or (_REWORK.match(text) and _GIVEN.search(text)))


def leans_on_dialogue(question: str) -> bool:
    """Whether `question` can only be understood with what was said before it: a pronoun, "and ...?", a few words alone."""
    text = question.strip()[:_LONGEST_RULED]
    if _CONNECTED.search(text) or (_THERE.search(text) and not _NAMES.search(text)):
        return True
    pointing = _POINTING.search(_EXPLETIVE.sub(" ", text))
    if pointing is not None and len(set(terms(text[: pointing.start()]))) < _NAMED:
        return True  # with several words before it, it stands for one of those
    return brief(text) and len(set(terms(text))) < (1 if _DEFINES.search(text) else 2)


def brief(question: str) -> bool:
    """Whether `question` is so short that it may leave something out, though no word of it says so."""
    han = len(HAN_CHARACTER.findall(question))
    return han <= _FEW_HAN if han else len(_WORD.findall(question)) <= _FEW_WORDS


def hangs_on_today(question: str) -> bool:
    """Whether the answer to `question` is another one tomorrow."""
    return bool(_TODAY.search(question[:_LONGEST_RULED]))
