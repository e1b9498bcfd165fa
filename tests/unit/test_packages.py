"""Versions of packages: what trains here, what a model was trained with, and where the two differ."""

from importlib import metadata

import pytest

from car_damage.packages import differing, installed, that_train_here, that_train_here_exactly, trained_with

HERE = {"tensorflow": "2.21", "keras": "3.15", "pillow": "13.0", "pi-heif": "1.4"}
MODEL = "mlflow==3.17.2\ntensorflow-cpu==2.21.0\nkeras==3.15.1\npillow==13.0.0\nnumpy==2.4.6\n"


def test_the_packages_that_train_here_have_minor_versions() -> None:
    assert that_train_here()["keras"] == ".".join(metadata.version("keras").split(".")[:2])
    assert list(that_train_here()) == ["tensorflow", "keras", "onnxruntime", "pillow", "pi-heif"]


def test_what_a_training_here_notes_was_trained_with_what_is_here() -> None:
    assert trained_with(that_train_here_exactly(), that_train_here())


@pytest.mark.parametrize(
    "other",
    [
        MODEL.replace("tensorflow-cpu==2.21.0", "tensorflow==2.21.3"),
        MODEL.replace("pillow==13.0.0", "pillow==13.0.7"),
        MODEL.replace("mlflow==3.17.2", "mlflow==3.5.0"),
        "",
    ],
)
def test_another_build_or_patch_or_mlflow_trains_the_same_model(other: str) -> None:
    assert trained_with(other, HERE)


@pytest.mark.parametrize(
    ("old", "new"), [("cpu==2.21.0", "cpu==2.20.0"), ("keras==3.15.1", "keras==3.14.1"), ("pillow==13.0.0", "pillow==13.1.0")]
)
def test_another_minor_version_trains_another_model(old: str, new: str) -> None:
    assert not trained_with(MODEL.replace(old, new), HERE)


def test_a_worker_without_tensorflow_compares_what_it_has() -> None:
    assert trained_with(MODEL, {"pillow": "13.0"})
    assert not trained_with(MODEL, {"pillow": "12.0"})


def test_differing_packages_are_named_with_both_versions() -> None:
    exact = that_train_here_exactly()
    assert differing(exact) == {}
    pillow = installed("pillow")
    assert differing(exact.replace(f"pillow=={pillow}", "pillow==1.0") + "\nno-such-package==1.0\n") == {
        "pillow": ("1.0", pillow),
        "no-such-package": ("1.0", "not installed"),
    }
