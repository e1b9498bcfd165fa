"""Which network the setting auto takes, and with which key its training ends."""

from datetime import UTC, datetime
from typing import Any

import pytest

from car_damage.errors import FileMissing, Unavailable, WeightsMissing
from car_damage.pipeline import TrainRequest, training_key, training_keys
from car_damage.ports import FEATURES_TAG, RunSummary
from car_damage.settings import Settings, Training
from car_damage.stage import silent
from car_damage.stages.training.network import settle, told
from tests.fakes import Endpoint, Photos, Runs, Versions, World

REQUEST = TrainRequest("flow-1", 0, "f" * 64, "as transfer", fallback_key="as cnn")
SEEING: Any = object()


def world(*, champion: str = "", **training: Any) -> World:
    """A platform whose champion, if there is one, was trained with this network."""
    tags = {FEATURES_TAG: "digest"} if champion == "transfer" else {}
    run = RunSummary("run-1", "a training", "FINISHED", datetime(2026, 1, 1, tzinfo=UTC), {}, tags)
    versions = Versions()
    if champion:
        versions.add(1)
        versions.aliases["champion"] = 1
    settings = Settings(training=Training(**{"network": "auto", **training}))
    return World(settings, Photos({}), versions, Endpoint({}), Runs({}, [run]))


def there(training: Training) -> Any:
    assert training.network == "transfer"
    return SEEING


def gone(_: Training) -> Any:
    raise WeightsMissing("the weights cannot be had: no way out")


def test_auto_is_transfer_where_the_weights_can_be_had_and_the_run_says_why() -> None:
    said: list[tuple[Any, ...]] = []
    settled = settle(REQUEST, world(), there, lambda *given: said.append(given))  # type: ignore[arg-type]
    assert (settled.platform.settings.training.network, settled.backbone) == ("transfer", SEEING)
    assert (settled.request.training_key, settled.request.fallback_key) == ("as transfer", "")
    assert settled.params == {"network_asked": "auto", "network_why": "the weights of EfficientNetV2B0 can be had"}
    assert said == [("network", 1, 1, "transfer, because the weights of EfficientNetV2B0 can be had")]


@pytest.mark.parametrize("champion", ["", "cnn"])
def test_auto_is_cnn_with_the_key_of_a_cnn_where_they_cannot(champion: str) -> None:
    settled = settle(REQUEST, world(champion=champion), gone, silent)  # type: ignore[arg-type]
    assert (settled.platform.settings.training.network, settled.backbone) == ("cnn", None)
    assert (settled.request.training_key, settled.request.fallback_key) == ("as cnn", "")
    assert settled.params["network_why"] == "the weights cannot be had: no way out"


def test_a_night_without_weights_trains_no_cnn_against_a_champion_that_has_them() -> None:
    with pytest.raises(Unavailable, match="the live version sees through a backbone, and tonight the weights cannot be had"):
        settle(REQUEST, world(champion="transfer"), gone, silent)  # type: ignore[arg-type]


def test_a_network_that_is_named_is_taken_or_refused() -> None:
    with pytest.raises(WeightsMissing):
        settle(REQUEST, world(network="transfer"), gone, silent)  # type: ignore[arg-type]
    assert settle(REQUEST, world(network="cnn"), gone, silent).params == {}  # type: ignore[arg-type]


def test_the_keys_of_auto_are_those_of_both_networks() -> None:
    auto, cnn, transfer = (Settings(training=Training(network=name)) for name in ("auto", "cnn", "transfer"))
    assert training_keys("data", auto) == (training_key("data", transfer), training_key("data", cnn))
    assert training_keys("data", cnn) == (training_key("data", cnn), "")


def test_where_a_file_is_not_there_auto_is_cnn_even_if_it_comes_during_the_run() -> None:
    def read(path: str) -> bytes:
        raise FileMissing(path)

    named = {"network": "auto", "backbone": "/data/backbone.keras"}
    key, fallback = training_keys("data", Settings(training=Training(**named)), read)  # type: ignore[arg-type]
    assert key == fallback == training_key("data", Settings())
    request = TrainRequest("flow-1", 0, "f" * 64, key, fallback_key=fallback)
    settled = settle(request, world(backbone="/data/backbone.keras"), there, silent)  # type: ignore[arg-type]
    assert settled.platform.settings.training.network == "cnn"
    assert settled.params["network_why"] == "/data/backbone.keras was not there when the run began"


def test_doctor_says_what_auto_will_take() -> None:
    assert told(world(), lambda _: "1280 features") == "auto takes transfer: 1280 features"  # type: ignore[arg-type]
    assert told(world(), gone) == "auto takes cnn, because the weights cannot be had: no way out"  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="sees through a backbone"):
        told(world(champion="transfer"), gone)  # type: ignore[arg-type]
