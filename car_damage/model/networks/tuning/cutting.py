"""Cuts a backbone in two at one of its layers: what stays as it is, and what learns further."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from car_damage.errors import SettingsError
from car_damage.model.networks.backbone import mean

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Cut:
    """Both parts share their layers with the backbone: who trains the upper part trains the backbone."""

    lower: "keras.Model"
    """(n, 224, 224, 3) uint8 -> the maps of the layer, and then the means of those outputs that come before it."""
    upper: "keras.Model"
    """What the lower part gives -> (n, d) features, in their order. It always computes as in an answer, without dropout."""


def cut(backbone: "keras.Model", layer: str) -> Cut:
    """Cut a backbone, as `car_damage.model.networks.backbone` makes it, above one of its layers.

    Raises:
        SettingsError: there is no such layer, nothing comes after it, or another path leads past it.
    """
    import keras

    inner = next((one for one in backbone.layers if isinstance(one, keras.Model) and layer in {of.name for of in one.layers}), None)
    if inner is None:
        some = ", ".join(of.name for one in backbone.layers if isinstance(one, keras.Model) for of in one.layers[-40:])
        raise SettingsError(f"training.fine_tune_from names {layer}, and the backbone has no such layer; its last ones are {some}")
    maps = inner.get_layer(layer).output
    if not (after := _after(inner, layer)):
        raise SettingsError(f"training.fine_tune_from names {layer}, and nothing comes after it that could learn: name an earlier layer")
    before = [one for one in inner.outputs if id(one) not in after and one is not maps]
    pixels = backbone.layers[backbone.layers.index(inner) - 1].output
    lower = keras.Model(backbone.input, keras.Model(inner.input, [maps, *map(mean, before)])(pixels), name="lower")
    return Cut(lower, _upper(inner, layer, before))


def _upper(inner: "keras.Model", layer: str, before: list[Any]) -> "keras.Model":
    import keras

    maps, after = inner.get_layer(layer).output, _after(inner, layer)
    above = [one for one in inner.outputs if id(one) in after]
    given, means = keras.Input(maps.shape[1:]), [keras.Input(one.shape[-1:]) for one in before]
    try:
        part = keras.Model(maps, above)
    except ValueError as error:  # Keras' own for a path to the input that does not lead through the layer
        raise SettingsError(
            f"training.fine_tune_from names {layer}, and another path leads past it: name a layer between two blocks, such as a last sum"
        ) from error
    higher = {id(one): mean(of) for one, of in zip(above, keras.tree.flatten(part(given, training=False)), strict=True)}
    lower = {id(one): of for one, of in zip(before, means, strict=True)} | {id(maps): mean(given)}
    features = [(higher | lower)[id(one)] for one in inner.outputs]
    whole = features[0] if len(features) == 1 else keras.layers.Concatenate()(features)
    return keras.Model([given, *means], whole, name="upper")


def _after(inner: "keras.Model", layer: str) -> set[int]:
    """The ids of the network's outputs that are computed after a layer."""
    import keras

    names = [one.name for one in inner.layers]
    first = names.index(layer) + 1
    later = {id(tensor) for one in inner.layers[first:] for tensor in keras.tree.flatten(one.output)}
    return {id(one) for one in inner.outputs if id(one) in later}
