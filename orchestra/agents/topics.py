"""What a text is about, by its words: a small thesaurus in two languages.

The few lines of a persona file name a field (law, orders, software); those who ask use other words of the same field
(a landlord, a parcel, a crash). The thesaurus joins the two, without a model: a persona has the topics that its title and
its description name, and a message the topics of its own words. What is to be done (translate, look up, draw up a
standard) weighs more than what it is about: a contract that is to be translated goes to the translator.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from orchestra.retrieval.terms import plain_word

_WORD = re.compile(r"[a-z][a-z'’-]*")


class Topic(NamedTuple):
    """One field: what each of its words weighs, the Chinese ones, the plain Latin ones, and phrases ("a/b" in the list)."""

    weight: float
    han: tuple[str, ...]
    latin: frozenset[str]
    phrases: tuple[str, ...]


_LISTED: dict[str, tuple[float, str]] = {
    "law": (1.0, """
        法律 法规 法条 法院 法官 律师 合法 违法 犯法 非法 起诉 诉讼 仲裁 判决 判刑 维权 侵权 赔偿 违约 合同 协议 条款 责任 义务 权利
        合规 备案 许可 商标 专利 著作权 版权 竞业 劳动法 民法 刑法 广告法 房东 押金 租约 租房 离婚 抚养 继承 遗产 遗嘱 借条 欠条 未成年 诽谤
        隐私权 个人信息 数据保护 出境 处罚 罚款 监管 立法 条例 法 工伤 辞退 开除 加班费 社保 债务 担保 公证 辩护 证据
        law legal lawful illegal unlawful lawyer attorney court judge sue lawsuit liability liable contract clause licence license
        copyright trademark patent gdpr regulation statute statutory compliance comply consent penalty lease landlord tenant
        my/rights legal/rights duty obligation jurisdiction defamation inheritance divorce custody employer employee dismissal
        warranty
        imprint legislation prosecute prosecution criminal damages sanction ai/act data/processing privacy/law
    """),
    "computing": (1.0, """
        技术 程序 代码 编程 软件 算法 架构 系统 服务器 数据库 索引 缓存 加密 解密 接口 部署 容器 微服务 线程 进程 内存 性能 延迟 并发
        神经网络 模型 大模型 机器学习 深度学习 训练 微调 推理 过拟合 数据结构 列表 元组 函数 变量 编译 调试 日志 漏洞 防火墙 网络协议 正则 表达式 脱敏
        差分隐私 去标识 操作系统 前端 后端 爬虫 向量 显卡 芯片 二进制 递归 排序 脚本 程序员 报错 异常
        software code coding program programming python java javascript rust golang sql git docker linux kubernetes algorithm
        database
        index query server api cache encryption encrypt cryptography tcp udp http network bug debug crash compiler function class
        thread memory latency deploy microservice container architecture neural llm model training overfitting machine/learning
        deep/learning fine-tuning data/structure hash linked/list stack queue recursion regex backend frontend technique technical
        pseudonymise anonymise prompt/injection log gpu classifier embedding css html json firewall vulnerability engineering
    """),
    "orders": (1.0, """
        订单 下单 发货 收货 快递 包裹 物流 配送 加急 退货 退款 换货 退换 运费 发票 抬头 优惠券 赠品 客服 投诉 售后 签收 买错 网店
        商品 库存 有货 缺货 尺码 地址 催单 寄 到货 送达 保修期 付款 扣款 七天无理由 预售 拆封
        order parcel package delivery deliver shipping ship shipped shipment courier refund return exchange invoice receipt
        coupon voucher
        stock purchase charged expedite tracking warehouse cart checkout customer/service broken in/size bought
    """),
    "translation": (3.0, """
        翻译 译成 译文 译为 中译英 英译中 英文怎么说 英语怎么说 中文怎么说 用英语 用英文 用中文说 译者 英文是什么 中文意思 什么意思 改写成英文 英文版
        translate translation translator into/chinese into/english in/chinese in/english interpreter
        chinese/word english/word english/version chinese/version chinese/to/english english/to/chinese
    """),
    "research": (2.0, """
        查一下 查查 查找 查证 检索 搜索 搜一下 上网 联网 文献 论文 研究现状 综述 参考文献 出处 来源 最新 核实 新闻 资料 数据来源
        research search paper literature survey source cite citation reference latest news look/up find/out fact-check
        evidence study
        web internet
    """),
    "standards": (2.0, """
        标准化 制定 起草 整合 方案 规范 标准 行业标准 实施细则 指南 协调 各方 专家 综合 体系 流程 治理 框架 路线图 实施方案
        standard standardization standardisation integrate coordinate combine governance framework policy implementable roadmap
        certification draft guideline company-wide rulebook
    """),
}  # fmt: skip


def _topic(weight: float, listed: str) -> Topic:
    words = listed.split()
    latin = [word for word in words if word.isascii()]
    return Topic(
        weight,
        tuple(word for word in words if not word.isascii()),
        frozenset(plain_word(word) for word in latin if "/" not in word),
        tuple(f" {' '.join(map(plain_word, word.split('/')))} " for word in latin if "/" in word),
    )


TOPICS: dict[str, Topic] = {name: _topic(*listed) for name, listed in _LISTED.items()}


def words_of_topics(text: str) -> dict[str, tuple[str, ...]]:
    """Which words of `text` speak of which topic; topics without one are left out."""
    text = unicodedata.normalize("NFKC", text).casefold()
    latin = [plain_word(word) for word in _WORD.findall(text)]
    forms = {form for word in latin for form in _forms(word)}
    line = f" {' '.join(latin)} "
    found = {
        name: (
            *_longest([word for word in topic.han if word in text]),
            *sorted(forms & topic.latin),
            *(phrase.strip() for phrase in topic.phrases if phrase in line),
        )
        for name, topic in TOPICS.items()
    }
    return {name: words for name, words in found.items() if words}


def _longest(words: list[str]) -> list[str]:
    """Words that do not merely stand within another one of them (法律 is counted, 法 within it is not)."""
    return [word for word in words if not any(word != other and word in other for other in words)]


def _forms(word: str) -> tuple[str, ...]:
    """A word, and what it may be a form of: deployed, deploying -> deploy; licensed -> license."""
    for ending in ("ing", "ed"):
        if len(word) > len(ending) + 3 and word.endswith(ending):
            stem = word.removesuffix(ending)
            return word, stem, f"{stem}e"
    return (word,)
