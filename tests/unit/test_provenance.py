"""Who started a run, and with which software."""

import getpass
import os

import pytest

from car_damage.adapters.mlflow.provenance import software, user


def test_a_user_whom_the_machine_knows_by_number_only_is_told_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run with any uid. There the standard library raises KeyError or OSError."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert user() == f"uid {os.getuid()}"


def test_software_names_the_package() -> None:
    assert software()["mlflow.source.name"] == "car-damage"
