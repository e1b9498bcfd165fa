"""Metrics of the server and its endpoints in Prometheus' text format.

An endpoint's metrics have the names that a workspace exports (cpu_usage_percentage, request_count_total and so on), so
that the same dashboard works for both. The server's metrics contain these and the server's own names. Each scrape reads the
endpoints that exist at that moment, so a deleted endpoint is not in the next scrape.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from car_damage.server.hosting.endpoint import Endpoint
from car_damage.server.metrics.usage import Meter, Usage

_ENDPOINT, _ENTITY = "endpoint_name", "served_entity_name"


class Metrics:
    """Metrics of one server.

    Args:
        endpoints: read at each scrape.
        dropped: what is done beside the answers -> counts what was dropped of it.
    """

    def __init__(self, endpoints: Iterable[Endpoint], dropped: Mapping[str, Callable[[], int]]) -> None:
        self._meter = Meter()
        self._server = CollectorRegistry()
        ProcessCollector(registry=self._server)
        self._server.register(_Families(endpoints, self._meter, own_names=True))
        self._server.register(_Dropped(dropped))

    def server(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._server)

    def endpoint(self, endpoint: Endpoint) -> bytes:
        """The metrics that a workspace exports for an endpoint, in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(_Families([endpoint], self._meter, own_names=False))
        return generate_latest(registry)


class _Families(Collector):
    """The metric families of some endpoints, collected for each scrape."""

    def __init__(self, endpoints: Iterable[Endpoint], meter: Meter, *, own_names: bool) -> None:
        self._endpoints, self._meter, self._own_names = endpoints, meter, own_names

    def collect(self) -> Iterator[Metric]:
        merged: dict[str, Metric] = {}
        for endpoint in self._endpoints:
            usage = self._meter.read(endpoint.pid)
            families = [*_as_a_workspace(endpoint, usage), *(_by_own_names(endpoint, usage) if self._own_names else ())]
            for family in families:
                merged.setdefault(family.name, Metric(family.name, family.documentation, family.type)).samples.extend(family.samples)
        yield from merged.values()


class _Dropped(Collector):
    """What was dropped rather than let an answer wait."""

    def __init__(self, counts: Mapping[str, Callable[[], int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        text = "Requests that were not noted in the request log, and photos that were not kept for the review desk, for lack of room."
        family = CounterMetricFamily("car_damage_dropped", text, labels=["by"])
        for by, count in self._counts.items():
            family.add_metric([by], count())
        yield family


def _as_a_workspace(endpoint: Endpoint, usage: Usage) -> Iterator[Metric]:
    """Names, types and units as in https://docs.databricks.com/aws/en/machine-learning/model-serving/metrics-export-serving-endpoint."""
    labels = {_ENDPOINT: endpoint.name}
    at_once = 0 if endpoint.pid is None else endpoint.queue.at_once
    minute = endpoint.measures.last_minute()
    yield _gauge("cpu_usage_percentage", "Share of this machine's processor time that the model uses, in percent.", usage.cpu, labels)
    yield _gauge("mem_usage_percentage", "Share of this machine's memory that the model uses, in percent.", usage.memory_share, labels)
    yield _gauge("provisioned_concurrent_requests_total", "Requests that the model can work on at once.", at_once, labels)
    yield _gauge("request_count_total", "Requests in the last minute.", minute.all, labels)
    yield _gauge("request_4xx_count_total", "Requests in the last minute with a 4xx response.", minute.client_errors, labels)
    yield _gauge("request_5xx_count_total", "Requests in the last minute with a 5xx response.", minute.server_errors, labels)
    for entity, measures in endpoint.measures:
        for family in measures.durations.collect():
            yield _in_milliseconds(_labelled(family, labels | {_ENTITY: entity}))


def _by_own_names(endpoint: Endpoint, usage: Usage) -> Iterator[Metric]:
    labels = {_ENDPOINT: endpoint.name}
    yield _gauge("car_damage_endpoint_ready", "1 while the endpoint is READY.", endpoint.ready, labels)
    yield _gauge("car_damage_requests_waiting", "Requests that wait for their turn.", endpoint.queue.waiting, labels)
    yield _gauge("car_damage_requests_in_progress", "Requests that the model works on.", endpoint.queue.in_progress, labels)
    yield _gauge("car_damage_model_memory_bytes", "Memory of the model's process; 0 without a process.", usage.memory, labels)
    if endpoint.active is not None:
        entity = endpoint.active.config.entity
        labels |= {_ENTITY: entity.served_name}
        yield _gauge("car_damage_model_asleep", "1 while the model is scaled to zero.", endpoint.active.is_asleep, labels)
        yield _gauge("car_damage_served_version", "The model version that answers.", int(entity.entity_version), labels)
    for name, measures in endpoint.measures:
        for metric in (measures.requests, measures.durations, measures.starts, measures.start_seconds):
            for family in metric.collect():
                yield _labelled(family, {_ENDPOINT: endpoint.name, _ENTITY: name})


def _gauge(name: str, documentation: str, value: float, labels: dict[str, str]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[*labels])
    family.add_metric([*labels.values()], value)
    return family


def _labelled(family: Metric, labels: dict[str, str]) -> Metric:
    labelled = Metric(family.name, family.documentation, family.type)
    for sample in family.samples:
        # These samples say when a series began. Nobody needs them, and they double the number of series.
        if not sample.name.endswith("_created"):
            labelled.add_sample(sample.name, labels | sample.labels, sample.value)
    return labelled


def _in_milliseconds(seconds: Metric) -> Metric:
    family = Metric("request_latency_ms", "Milliseconds from the arrival of a request to its response.", "histogram")
    for sample in seconds.samples:
        labels = {name: value if name != "le" or value == "+Inf" else str(float(value) * 1000) for name, value in sample.labels.items()}
        factor = 1000 if sample.name.endswith("_sum") else 1
        family.add_sample(sample.name.replace(seconds.name, family.name), labels, sample.value * factor)
    return family
