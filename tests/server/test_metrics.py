"""Metrics for Prometheus: endpoint metrics use a workspace's names, server metrics use our own."""

import asyncio
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import ClientDisconnect

from car_damage.errors import ModelRefused
from car_damage.server.address import token
from car_damage.server.errors import ApiError, ErrorKind
from car_damage.server.hosting.deployment import Phase
from car_damage.server.hosting.measures import Measures
from car_damage.server.metrics.exposition import Metrics
from tests.server.conftest import Server
from tests.server.fakes import ProcessFactory, config, endpoint, until
from tests.server.test_queries import records

A_WORKSPACE_EXPORTS = {
    "cpu_usage_percentage": "gauge",
    "mem_usage_percentage": "gauge",
    "provisioned_concurrent_requests_total": "gauge",
    "request_4xx_count_total": "gauge",
    "request_5xx_count_total": "gauge",
    "request_count_total": "gauge",
    "request_latency_ms": "histogram",
}
"""From the example configuration in Databricks' documentation on exporting endpoint metrics."""


def samples(text: str, **labels: str) -> dict[str, float]:
    """The samples that have these labels, by name."""
    families = text_string_to_metric_families(text)
    return {s.name: s.value for family in families for s in family.samples if labels.items() <= s.labels.items()}


def scrape(server: Server, **labels: str) -> dict[str, float]:
    response = server.call("GET", "/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return samples(response.text, **labels)


def test_a_workspace_s_own_client_reads_the_metrics_that_a_workspace_exports(ready: Server, photo: bytes) -> None:
    from databricks.sdk import WorkspaceClient

    ready.serving.query([photo])
    client = WorkspaceClient(host=ready.url, token=token(ready.settings.home), auth_type="pat")
    contents = client.serving_endpoints.export_metrics(ready.settings.serving.endpoint).contents
    assert contents is not None
    text = contents.read().decode()
    assert {family.name: family.type for family in text_string_to_metric_families(text)} == A_WORKSPACE_EXPORTS
    numbers = samples(text, endpoint_name=ready.settings.serving.endpoint)
    assert numbers["request_count_total"] >= 1
    assert numbers["provisioned_concurrent_requests_total"] >= 2
    assert 0 < numbers["mem_usage_percentage"] < 100
    assert 0 <= numbers["cpu_usage_percentage"] <= 100


def test_requests_are_counted_by_answer_and_those_that_the_model_answered_are_timed(ready: Server, photo: bytes) -> None:
    def counted() -> list[float]:
        name = ready.settings.serving.endpoint
        by_status = [
            scrape(ready, endpoint_name=name, status=status).get("car_damage_requests_total", 0) for status in ("200", "400", "413")
        ]
        return [*by_status, scrape(ready, endpoint_name=name, le="+Inf")["car_damage_request_duration_seconds_bucket"]]

    before = counted()
    ready.serving.query([photo])
    ready.invoke(json=records(b"no photo"))
    ready.invoke(content=bytes((1 << 20) + 1))
    assert [after - earlier for earlier, after in zip(before, counted(), strict=True)] == [1, 1, 1, 2]


def test_one_scrape_tells_how_each_endpoint_and_the_server_itself_stand(ready: Server) -> None:
    numbers = scrape(ready, endpoint_name=ready.settings.serving.endpoint)
    assert numbers["car_damage_endpoint_ready"] == 1
    assert numbers["car_damage_served_version"] == 1
    assert (numbers["car_damage_requests_waiting"], numbers["car_damage_requests_in_progress"]) == (0, 0)
    assert numbers["car_damage_model_start_seconds_sum"] > 0
    (model,) = ready.model_processes()
    assert numbers["car_damage_model_memory_bytes"] == pytest.approx(model.memory_info().rss, rel=0.5)
    assert scrape(ready)["process_resident_memory_bytes"] > 0


@pytest.mark.parametrize("path", ["/metrics", "/api/2.0/serving-endpoints/car_damage_model_ep/metrics"])
def test_metrics_need_the_token(ready: Server, path: str) -> None:
    assert ready.call("GET", path, bearer="guess").status_code == 403


def test_an_unknown_name_makes_no_series_and_a_deleted_endpoint_leaves_none(ready: Server) -> None:
    entity = {"entity_name": "nothing", "entity_version": "1", "workload_size": "Small", "scale_to_zero_enabled": True}
    assert ready.call("GET", "/api/2.0/serving-endpoints/gone/metrics").json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    ready.call("POST", "/serving-endpoints/gone/invocations", json={})
    assert scrape(ready, endpoint_name="gone") == {}
    ready.call("POST", "/api/2.0/serving-endpoints", json={"name": "gone", "config": {"served_entities": [entity]}})
    ready.call("POST", "/serving-endpoints/gone/invocations", json={})
    assert scrape(ready, endpoint_name="gone", status="503")["car_damage_requests_total"] == 1
    ready.call("DELETE", "/api/2.0/serving-endpoints/gone")
    assert scrape(ready, endpoint_name="gone") == {}


def test_a_model_that_is_asleep_takes_nothing_and_its_endpoint_is_ready() -> None:
    async def life() -> None:
        of = endpoint(ProcessFactory(), idle=0.05)
        of.update(config())
        await until(lambda: of.ready)
        awake = samples(Metrics([of], {}).server().decode(), endpoint_name="ep")
        await until(lambda: of.active is not None and of.active.phase is Phase.ASLEEP and of.pid is None)
        asleep = samples(Metrics([of], {}).server().decode(), endpoint_name="ep")
        names = ("car_damage_endpoint_ready", "car_damage_model_asleep")
        assert [awake[name] for name in names] == [1, 0]
        assert [asleep[name] for name in names] == [1, 1]
        for name in ("car_damage_model_memory_bytes", "mem_usage_percentage", "provisioned_concurrent_requests_total"):
            assert awake[name] > 0
            assert asleep[name] == 0
        await of.close()

    asyncio.run(life())


def test_starts_are_counted_by_outcome() -> None:
    async def life() -> None:
        of = endpoint(ProcessFactory(ModelRefused("no")))
        for _ in range(2):
            of.update(config())
            await until(lambda: of.update_state != "IN_PROGRESS")
        text = Metrics([of], {}).server().decode()
        counted = {outcome: samples(text, outcome=outcome)["car_damage_model_starts_total"] for outcome in ("ready", "failed")}
        assert counted == {"ready": 1, "failed": 1}
        await of.close()

    asyncio.run(life())


def test_a_request_that_is_refused_because_the_queue_is_full_is_counted() -> None:
    measures = Measures()
    with pytest.raises(Exception, match="wait already"), measures.request("m-1"):
        raise ApiError(ErrorKind.QUEUE_FULL, "64 requests wait already")
    assert measures.of("m-1").requests.labels("429")._value.get() == 1


def test_requests_of_more_than_a_minute_ago_are_not_of_the_last_minute() -> None:
    now = [1000.0]
    measures = Measures(lambda: now[0])
    for status in (200, 404, 503):
        with measures.request("m-1") as outcome:
            outcome.record("m-1", status)
    counts: Any = measures.last_minute()
    assert (counts.all, counts.client_errors, counts.server_errors) == (3, 1, 1)
    now[0] += 61
    with measures.request("m-1") as outcome:
        outcome.record("m-1", 200)
    assert measures.last_minute().all == 1


def test_however_many_versions_come_and_go_few_of_them_have_series() -> None:
    measures = Measures()
    for version in range(100):
        with measures.request("m-1"), measures.start(f"m-{version}"):
            pass
    assert [name for name, _ in measures][-1] == "m-1"
    assert len(list(measures)) <= 4


def test_a_caller_who_hangs_up_is_no_error_of_the_server() -> None:
    measures = Measures()
    with pytest.raises(ClientDisconnect), measures.request("model-1"):
        raise ClientDisconnect
    counts = measures.last_minute()
    assert (counts.all, counts.client_errors, counts.server_errors) == (1, 1, 0)
