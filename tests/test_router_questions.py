"""Several questions in one sentence go to their experts; one question is never cut, whatever it says about when and if."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.agents.personas import Library, shipped
from orchestra.agents.questions import MOST, goes_on, points_back, questions
from orchestra.agents.router import Router

ROUTER = Router(Library([shipped()]).all())
BOTH = {"support", "lawyer"}

SEVERAL = [
    ("我的快递到哪了，顺便问一下合同违约要赔多少？", BOTH),
    ("我的订单什么时候发货，另外房东不退押金能起诉吗？", BOTH),
    ("退款几天到账？还有，竞业协议的违约金怎么算？", BOTH),
    ("数据库怎么加密；我的包裹签收了吗？", {"computer_scientist", "support"}),
    ("请帮我看看快递到哪了，以及劳动合同到期不续签有没有赔偿", BOTH),
    ("微服务的接口延迟怎么优化，同时商标被抢注了怎么办？", {"computer_scientist", "lawyer"}),
    ("Is my contract legal, and can my order be expedited?", BOTH),
    ("Where is my parcel, and which penalties does the contract allow?", BOTH),
    ("How do I undo the last git commit, and when will my order be shipped?", {"computer_scientist", "support"}),
    ("Where is my parcel? Also, can my landlord keep the deposit under the lease?", BOTH),
    ("My parcel was due on Monday. Where is the courier, and can I sue my employer for breach of contract?", BOTH),
    ("房东不退押金我能起诉吗，我的包裹到哪了", BOTH),
    ("合同违约要赔多少，另外可以加急我的订单吗？", BOTH),
    ("Can I sue my landlord over the lease and is my order shipped?", BOTH),
    ("How does a hash table handle collisions; which laws protect a trademark, by the way?", {"computer_scientist", "lawyer"}),
]
ONE = [
    "如果房东不退押金，我的包裹怎么办？",
    "我在网上买的商品是假货，可以起诉商家吗？",
    "订单发货以后合同还能不能解除？",
    "因为快递丢了，我可以要求赔偿吗？",
    "不管快递到哪了，合同都可以解除吗？",
    "怎样加密数据库，法律上才算合规？",
    "既然合同违约了，订单怎么退款？",
    "程序员离职以后，竞业协议还有效吗？",
    "用什么算法处理个人信息，才算合法？",
    "只要签了合同，快递丢了谁负责？",
    "合同里还有什么漏洞？",
    "差分隐私是什么，它合法吗？",
    "当服务器被攻击时，谁承担法律责任？",
    "我的订单被法院冻结了，什么时候能发货？",
    "把这句话翻译成英文：我的快递到哪了，合同违约要赔多少？",
    "请解释“合同怎么写，快递到哪了”是什么意思",
    "网店的数据库泄露了我的订单，我可以起诉吗？",
    "If my landlord keeps the deposit, can I return the order?",
    "When the parcel arrives broken, can I sue the shop?",
    "What I ordered was broken, and the shop refuses a refund, can I sue?",
    "Because the contract was breached, where do I send the parcel?",
    "Although my order was shipped, may I cancel the contract?",
    "What is encryption, and is it required by law?",
    "Does the law also require encryption of the database?",
    "Can I sue the courier who lost my parcel, and my order with it?",
    "Is the seller liable while the parcel is with the courier?",
    "Which law applies if the software in my order crashes?",
    "Who is liable if a server crashes, and why?",
    "Translate into Chinese: where is my parcel, and is my contract legal?",
    'What does "Where is my parcel, and is my contract legal?" mean?',
    "The shop, and also the courier, broke the contract: whom can I sue?",
    "Unless the court forbids it, how do I encrypt the database?",
    "我签合同的时候不知道房东把房子抵押了，怎么办？",
    "请问订单付款以后多久发货，需要签合同吗？",
    "怎么判断一份合同是否合法，有哪些证据可以用？",
    "我写的程序被公司拿去用，侵权怎么算？",
    "你能告诉我退货时运费谁出吗？",
    "快递公司把我的包裹弄丢，法院会怎么判？",
    "怎样在数据库里查找某个订单？",
    "在签合同之前，怎么核实卖家发货能力？",
    "如何用 Python 解析快递单号，并且把结果写进数据库？",
    "哪些法律规定网店必须七天内退款？",
    "谁来赔我的快递，如果合同里没写？",
    "怎么起诉一家网店，他们不给退款？",
    "What should I do if the shop will not refund my order, and who decides?",
    "How do I write a Python script that tracks my parcel, and stores it in a database?",
    "Can the shop refuse my refund, and is there a law against it?",
    "When my parcel is lost, which law protects me?",
    "Do I need a lawyer to get my refund, and how much would one cost?",
    "What does the law say about software that deletes orders?",
    "I ordered a laptop; can I return it?",
    "Where can I read the law on refunds, and also on exchanges?",
    "Why did the court decide that the courier is liable, and how much must he pay?",
    "How can I prove, by the log of the server, that my order was paid?",
]


@pytest.mark.parametrize(("message", "experts"), SEVERAL)
def test_several_questions_in_one_sentence_go_to_their_experts(message: str, experts: set[str]) -> None:
    route = ROUTER.lexical(message)
    assert (route.persona, set(route.experts), route.sure) == ("standardization_expert", experts, True)
    assert set(route.questions) == experts
    for question in route.questions.values():
        assert question in message
        assert not question.startswith(("顺便", "另外", "还有", "，", "and", ","))
    assert ROUTER.lexical(message, current="researcher").experts == route.experts


@pytest.mark.parametrize("message", ONE)
def test_one_question_is_never_cut(message: str) -> None:
    assert ROUTER.lexical(message).questions == {}


def test_the_sentences_that_stay_whole_would_be_cut_at_every_comma(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.agents.questions._asks", lambda plain: bool(plain))
    monkeypatch.setattr("orchestra.agents.questions.points_back", lambda plain: False)
    assert sum(bool(ROUTER.lexical(message).questions) for message in ONE) >= 5


def test_each_expert_gets_its_own_part() -> None:
    route = ROUTER.lexical("我的快递到哪了，顺便问一下合同违约要赔多少？")
    assert route.questions == {"support": "我的快递到哪了", "lawyer": "问一下合同违约要赔多少？"}
    route = ROUTER.lexical("Is my contract legal, and can my order be expedited?")
    assert route.questions == {"lawyer": "Is my contract legal", "support": "can my order be expedited?"}


def test_what_is_said_about_a_question_stays_with_it() -> None:
    assert questions("我的订单号是 12345。能加急吗？合同违约怎么办？谢谢！") == ["我的订单号是 12345。能加急吗？", "合同违约怎么办？"]
    assert questions("Where is my parcel? It was due on Monday.") == ["Where is my parcel? It was due on Monday."]
    assert questions("合同违约怎么办？快递坏了，它怎么退？") == ["合同违约怎么办？", "快递坏了，它怎么退？"]
    assert questions("It rains.") == []


def test_a_question_that_points_back_is_asked_with_the_whole_message() -> None:
    route = ROUTER.lexical("怎么给数据库加密？法律上允许这样做吗？房东不退押金可以起诉吗？")
    assert set(route.experts) == {"computer_scientist", "lawyer"}
    assert route.questions == {}


def test_a_page_full_of_questions_is_material() -> None:
    assert questions("合同怎么写？" * (MOST + 1)) == ["合同怎么写？" * (MOST + 1)]


def test_two_fields_close_to_each_other_are_left_open() -> None:
    for message in ("怎样加密个人信息？", "Is Rust faster than Go for a web server?"):
        route = ROUTER.lexical(message)
        best, second = list(route.candidates.values())[:2]
        assert second >= 1.0
        assert best < 2 * second
        assert not route.sure


@pytest.mark.parametrize("message", ["它呢", "那要多久？", "这个多少钱一个月呢？", "Why?", "And what does it cost?", "Thanks a lot for your help!", "好的，我知道了谢谢你"])
def test_what_leans_on_a_dialogue_is_told(message: str) -> None:
    assert goes_on(message)


@pytest.mark.parametrize("message", ["写一首关于春天的诗", "好看的科幻电影有哪些推荐", "对了，写一首诗送给妈妈", "Thanks! Now write a short poem about autumn.", "其他国家的首都有哪些城市", "Write a poem about autumn.", "Who painted the Mona Lisa?"])
def test_what_stands_by_itself_is_told(message: str) -> None:
    assert not goes_on(message)
    assert not points_back(message)


@given(st.text("我合同怎么,，;；?？。and also “”\"吗它. \n", max_size=300))
def test_no_text_is_lost_or_made_up(message: str) -> None:
    for question in questions(message):
        assert question in message


@pytest.mark.parametrize("piece", [",  and ", "“", "also ", "如果怎么，", "that ", " and" * 9, "在"])
def test_long_messages_are_cut_in_linear_time(piece: str) -> None:
    message = (piece * 4000)[:4000]
    started = time.perf_counter()
    questions(message)
    goes_on(message)
    assert time.perf_counter() - started < 1.0
