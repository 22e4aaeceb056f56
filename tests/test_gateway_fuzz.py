"""Requests made of the gateway's own description, sound ones and unsound: none may be a fault of ours, and what
is answered is what the description says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from served import running

from orchestra.gateway import create_app
from orchestra.settings import Settings
from orchestra.standin import StandIn

CHECKS = [not_a_server_error, response_schema_conformance, content_type_conformance]
DEAR = ("/integrate", "/ask", "/chat")  # a sound request of these is an answer of several models, or a long one
LEAST = 10  # operations


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setenv("ORCHESTRA_MAX_TOKENS", "8")
    monkeypatch.setenv("ORCHESTRA_SEARCH", "offline")
    monkeypatch.setenv("ORCHESTRA_PARALLEL", "4")
    with StandIn() as daemon:
        own = Settings.read(host=daemon.url, language="en")
        with running(create_app(settings=own), own) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            yield client


def sent(client: httpx.Client, cases: int, start: int) -> Counter[int]:
    """The statuses of so many requests to each operation; raises what one of them breaks."""
    statuses: Counter[int] = Counter()
    description = openapi.from_dict(client.get("/openapi.json").json())
    description.config.update(base_url=str(client.base_url))
    operations = [each.ok() for each in description.get_all_operations() if isinstance(each, Ok)]
    assert len(operations) >= LEAST
    for operation in operations:
        wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        few = cases < 100 and operation.path in DEAR

        @seed(start)
        @settings(max_examples=cases, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=wrong if few else right | wrong)
        def one(case: object) -> None:
            answer = case.call(timeout=60)  # type: ignore[attr-defined]
            statuses[answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS)  # type: ignore[attr-defined]

        one()
    return statuses


def test_whatever_is_sent_is_no_fault_of_ours(client: httpx.Client) -> None:
    statuses = sent(client, 8, start=1)
    assert sum(statuses.values()) > 100
    assert statuses[200]
    assert statuses[400] + statuses[422]


def test_a_fault_would_be_seen(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The red control: an answer that the description does not know."""
    monkeypatch.setattr("orchestra.gateway.roster.Roster.face", lambda _: None)
    with pytest.raises((FailureGroup, ExceptionGroup)):
        sent(client, 1, start=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_thousand_requests(client: httpx.Client) -> None:
    statuses = sent(client, 400, start=2)
    print(dict(statuses))
    assert sum(statuses.values()) >= 5000
