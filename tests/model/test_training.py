import gc
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from car_damage.model.networks import augmentation, cnn, startup, training
from car_damage.model.networks.training import batches, class_weights, predict, train
from car_damage.model.pixels.photos import Photos
from car_damage.settings import Training
from car_damage.stage import silent

Draw = Callable[..., Photos]


def few(**settings: object) -> Training:
    return Training(**{"epochs": 3, "batch_size": 8, **settings})  # type: ignore[arg-type]


def test_every_photo_comes_with_its_own_label_in_every_order(drawn: Draw) -> None:
    photos = drawn(10)
    by_pixels = {pixels.tobytes(): int(label) for pixels, label in zip(photos.pixels, photos.labels, strict=True)}
    for shuffle_seed in (None, 3):
        seen = [
            (pixels.tobytes(), int(label))
            for some in batches(photos, 4, shuffle_seed).as_numpy_iterator()
            for pixels, label in zip(*some, strict=True)
        ]
        assert dict(seen) == by_pixels
        assert len(seen) == 10


def test_each_pass_has_another_order_and_the_seed_repeats_them(drawn: Draw) -> None:
    photos = drawn(12)

    def passes(seed: int) -> list[bytes]:
        fed = batches(photos, 12, seed)
        return [next(iter(fed.as_numpy_iterator()))[0].tobytes() for _ in range(2)]

    first, second = passes(1)
    assert first != second
    assert passes(1) == [first, second]


def test_without_a_seed_the_order_is_that_of_the_rows(drawn: Draw) -> None:
    photos = drawn(5)
    assert np.array_equal(np.concatenate([pixels for pixels, _ in batches(photos, 2).as_numpy_iterator()]), photos.pixels)


def test_class_weights_make_every_class_count_the_same() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])
    weights = class_weights(labels, 3)
    assert [weights[number] * count for number, count in enumerate((6, 3, 1))] == pytest.approx([10 / 3] * 3)


def test_a_class_without_photos_has_a_weight_too() -> None:
    assert class_weights(np.array([0, 0, 2]), 3) == {0: 0.75, 1: 1.0, 2: 1.5}


def test_the_same_seed_and_photos_train_the_same_network(drawn: Draw) -> None:
    photos, validation = drawn(16), drawn(6, 100)

    def weights(seed: int) -> np.ndarray:
        trained = train(photos, validation, 3, few(seed=seed), silent)
        return np.concatenate([weight.ravel() for weight in trained.network.get_weights()])

    one = weights(1)
    assert np.allclose(one, weights(1), atol=1e-5)
    assert not np.allclose(one, weights(2), atol=1e-2)


def test_only_on_a_gpu_operations_are_told_to_repeat(gpu: Callable[[], None]) -> None:
    from tensorflow.python.framework import config

    startup.repeat(1)
    on_a_processor = config.is_op_determinism_enabled()
    gpu()
    startup.repeat(1)
    assert (on_a_processor, config.is_op_determinism_enabled()) == (False, True)


def test_training_stops_early_and_keeps_the_best_weights(drawn: Draw) -> None:
    photos = drawn(12)
    # The validation labels contradict the training labels, so each later epoch makes the validation loss worse.
    validation = replace(photos, labels=(photos.labels + 1) % 3)
    trained = train(photos, validation, 3, few(epochs=40, patience=2, augment=False, learning_rate=5e-3), silent)
    assert trained.epochs == trained.best_epoch + 2
    answers = predict(trained.network, validation)
    loss = -np.log(answers[np.arange(12), validation.labels]).mean()
    assert loss == pytest.approx(trained.history["val_loss"][trained.best_epoch - 1], rel=1e-3)


def test_progress_is_told_once_an_epoch_with_the_loss(drawn: Draw) -> None:
    told: list[tuple[str, int, int, str]] = []
    train(drawn(6), drawn(3, 50), 3, few(epochs=2), lambda *given: told.append(given))  # type: ignore[arg-type]
    assert [(step, done, total) for step, done, total, _ in told] == [("epoch", 1, 2), ("epoch", 2, 2)]
    assert "validation loss" in told[0][3]


def test_training_writes_nothing_to_the_terminal(drawn: Draw, capfd: pytest.CaptureFixture[str]) -> None:
    train(drawn(6), drawn(3, 50), 3, few(epochs=1), silent)
    assert capfd.readouterr() == ("", "")


def test_predictions_are_in_the_order_of_the_photos_across_batches(drawn: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    startup.import_quietly()
    import keras

    keras.utils.set_random_seed(1)
    network, photos = cnn.cnn(3), drawn(7)
    at_once = predict(network, photos)
    monkeypatch.setattr(training, "PREDICT_BATCH", 3)
    assert np.allclose(predict(network, photos), at_once, atol=1e-6)
    none = Photos(photos.pixels[:0], photos.labels[:0], (), ())
    assert predict(network, none).shape == (0, 3)


def test_wide_augmentation_changes_each_photo_in_each_pass_and_the_seed_repeats_it(drawn: Draw) -> None:
    photos = drawn(24)

    def passes(seed: int) -> list[np.ndarray]:
        fed = batches(photos, 4, seed, augmentation.wide)
        return [np.concatenate([pixels for pixels, _ in fed.as_numpy_iterator()]) for _ in range(2)]

    first, second = passes(1)
    assert np.array_equal(passes(1), [first, second])
    assert not {photo.tobytes() for photo in first} & {photo.tobytes() for photo in [*second, *photos.pixels]}
    plain, wide = (
        train(photos, photos, 3, few(epochs=1, augmentation=name), silent).network.get_weights()[0] for name in ("plain", "wide")
    )
    assert not np.array_equal(plain, wide)


@pytest.mark.parametrize("bits", ["mixed_float16", "mixed_bfloat16"])
def test_with_16_bits_another_network_is_trained_and_it_answers_with_32(drawn: Draw, gpu: Callable[[], None], bits: str) -> None:
    photos = drawn(8)
    without_a_gpu = train(photos, photos, 3, few(epochs=1, precision=bits), silent).network
    gpu()
    with_one = train(photos, photos, 3, few(epochs=1, precision=bits), silent).network
    assert not np.array_equal(without_a_gpu.get_weights()[0], with_one.get_weights()[0])
    assert {str(weights.dtype) for weights in with_one.get_weights()} == {"float32"}
    assert {layer.compute_dtype for layer in with_one.layers} == {"float32"}
    assert np.asarray(with_one(photos.pixels)).dtype == np.float32


def test_a_training_starts_from_the_weights_of_another_network(drawn: Draw) -> None:
    photos, start = drawn(6), cnn.cnn(3)
    learned = train(photos, photos, 3, few(epochs=1, learning_rate=1e-9), silent, start).network
    kernels = (one.get_layer("severity").get_weights()[0] for one in (start, learned))
    assert np.allclose(*kernels, atol=1e-6)


def test_photos_are_let_go_with_their_batches() -> None:
    """TensorFlow keeps what reads them for as long as the process lives: see `batches`."""
    photos = Photos(np.zeros((4, 224, 224, 3), np.uint8), np.zeros(4, np.int64), tuple("abcd"), tuple("abcd"))
    assert sum(len(labels) for _, labels in batches(photos, 2).as_numpy_iterator()) == 4
    there = weakref.ref(photos)
    del photos
    gc.collect()
    assert there() is None
