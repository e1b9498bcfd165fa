"""A transfer network in the format ONNX, in its two parts: the backbone, exported once, and the head, a few nodes behind it.

The head says what it answers, and on the backbone's maps where it sees that: see `car_damage.model.networks.activation`.

Features are computed by the backbone of the very network that answers. An exported backbone carries its digest, so that the next
training can take it out of the network of an earlier run: an export takes as long as the features of hundreds of photos.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from car_damage.model.networks.activation import speaking
from car_damage.model.networks.heads import Head, differences

FEATURES = "features"
"""Name of the backbone's output."""
MAP = "map/"
"""Beginning of the names of its other outputs, the maps whose means the features are: (n, h, w, c)."""
_OUTPUT, _PLACES = "probabilities", "places"
_DIGEST = "car_damage.backbone"
_HEAD = "head/"
"""Beginning of the names of the head's nodes and numbers."""
_UP = 1 + 1e-6


def marked(backbone: bytes, digest: str) -> bytes:
    """A backbone as it was exported, with its digest, and with its output under the name FEATURES."""
    import onnx

    model = onnx.load_from_string(backbone)
    for number, output in enumerate(model.graph.output):
        name = FEATURES if number == 0 else f"{MAP}{number}"
        model.graph.node.append(onnx.helper.make_node("Identity", [output.name], [name], name=name))
        output.name = name
    onnx.helper.set_model_props(model, {_DIGEST: digest})
    return bytes(model.SerializeToString())


def with_head(backbone: bytes, head: Head) -> bytes:
    """The whole network, as `Head.on` has it: input (n, 224, 224, 3) uint8, output (n, classes) float32, and where the backbone has maps
    a second one as `activation.with_places` has it.
    """
    import onnx

    model = onnx.load_from_string(backbone)
    graph = model.graph
    parts = list(graph.output)
    graph.value_info.extend(parts)
    del graph.output[:]
    added = _Nodes(graph)
    _decide(added, head)
    if maps := [part for part in parts if part.name.startswith(MAP)]:
        _place(added, head, maps)
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class _Nodes:
    """Adds nodes of a head to a graph."""

    graph: Any

    def number(self, name: str, value: npt.ArrayLike) -> str:
        """A constant; its name in the graph."""
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), _HEAD + name))
        return _HEAD + name

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: str) -> str:
        """A node; the name of its output."""
        from onnx import helper

        name = f"{_HEAD}{len(self.graph.node)}"
        self.graph.node.append(helper.make_node(kind, inputs, [output or name], name=name, **attributes))
        return output or name

    def output(self, name: str, *shape: int) -> None:
        """An output of the whole network: (n, *shape) float32."""
        from onnx import TensorProto, helper

        self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, *shape]))


def _decide(added: _Nodes, head: Head) -> None:
    """From features to probabilities."""
    logits = added.node("Gemm", [FEATURES, added.number("kernel", head.kernel), added.number("bias", head.bias)])
    classes = len(head.bias)
    if head.kind == "softmax":
        added.node("Softmax", [logits], _OUTPUT)
    else:
        classes += 1
        kernel, bias = differences(classes)
        steps = added.node("Gemm", [added.node("Sigmoid", [logits]), added.number("steps", kernel), added.number("first", bias)])
        odds = added.node("Relu", [steps])
        # As a product with ones, because ReduceSum changed its inputs between two versions of ONNX.
        added.node("Div", [odds, added.node("MatMul", [odds, added.number("ones", np.ones((classes, 1)))])], _OUTPUT)
    added.output(_OUTPUT, classes)


def _place(added: _Nodes, head: Head, maps: list[Any]) -> None:
    """From maps to what the head says of each of their places, in the size of the largest."""
    shapes = [tuple(dim.dim_value for dim in one.type.tensor_type.shape.dim[1:]) for one in maps]
    height, width, _ = max(shapes)
    kernel = speaking(head.kernel, ordinal=head.kind == "ordinal")
    ends = np.cumsum([shape[2] for shape in shapes])[:-1]
    said = []
    for one, shape, part in zip(maps, shapes, np.split(kernel, ends), strict=True):
        score = added.node("MatMul", [one.name, added.number(f"of {one.name}", part)])
        if shape[:2] != (height, width):
            # A little too large, because ONNX Runtime rounds the size down.
            scales = added.number(f"scale of {one.name}", [1, height / shape[0] * _UP, width / shape[1] * _UP, 1])
            score = added.node("Resize", [score, "", scales], mode="linear", coordinate_transformation_mode="half_pixel")
        said.append(score)
    added.node("Sum", said, _PLACES)
    added.output(_PLACES, height, width, kernel.shape[1])


def backbone_of(network: bytes, digest: str) -> bytes | None:
    """The backbone of a network that `with_head` made of the backbone with this digest; None for another one, such as one with integers."""
    import onnx

    model = onnx.load_from_string(network)
    graph = model.graph
    props = {prop.key: prop.value for prop in model.metadata_props}
    names = {output for node in graph.node for output in node.output}
    if props.get(_DIGEST) != digest or FEATURES not in names or any("QuantizeLinear" in node.op_type for node in graph.node):
        return None
    for parts in (graph.node, graph.initializer):
        for part in [part for part in parts if part.name.startswith(_HEAD)]:
            parts.remove(part)
    del graph.output[:]
    for info in [info for info in graph.value_info if info.name == FEATURES or info.name.startswith(MAP)]:
        graph.output.append(info)
        graph.value_info.remove(info)
    return bytes(model.SerializeToString())
