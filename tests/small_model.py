"""The smallest network that can be logged as a car damage model. It answers, but it is not trained."""

from pathlib import Path

from car_damage.data.photos.silver import SILVER
from car_damage.photo.preparation import Preparation
from car_damage.ports import Dataset, RunContents
from tests.corpus import encoded, picture


def network(folder: Path) -> Path:
    """A .keras file: (n, 224, 224, 3) uint8 in, (n, 3) softmax out. The same network is beside it as .onnx."""
    from car_damage.model.networks import export, startup

    startup.import_quietly()
    import keras

    photo = keras.Input((224, 224, 3), dtype="uint8")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(photo))
    file = folder / "car_damage_classifier.keras"
    small = keras.Model(photo, keras.layers.Dense(3, activation="softmax")(pooled))
    small.save(file)
    export.write(small, file.with_suffix(".onnx"))
    return file


def run_of(network_file: Path, folder: Path) -> RunContents:
    """The contents of a training run of this network. Creates the folder, which must not exist, and writes one file to it."""
    folder.mkdir()
    (folder / "evaluation.json").write_text("{}")
    return RunContents(
        params={"epochs": 3},
        metrics={"test_accuracy": 0.75},
        history={"loss": [1.1, 0.9, 0.8]},
        folder=folder,
        keras_file=network_file,
        onnx_file=network_file.with_suffix(".onnx"),
        answering_file=None,
        example=encoded(picture(), "JPEG"),
        dataset=Dataset("/tables/silver", 7, "ab" * 32, SILVER, {"train": 9, "validation": 3, "test": 4}),
        preparation=Preparation(),
    )
