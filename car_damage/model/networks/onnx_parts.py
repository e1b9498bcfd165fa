"""A transfer network in the format ONNX, in its two parts: the backbone, exported once, and the head, a few nodes behind it.

Features are computed by the backbone of the very network that answers. An exported backbone carries its digest, so that the next
training can take it out of the network of an earlier run: an export takes as long as the features of hundreds of photos.
"""

import numpy as np

from car_damage.model.networks.heads import Head, differences

FEATURES = "features"
"""Name of the backbone's output."""
_OUTPUT = "probabilities"
_DIGEST = "car_damage.backbone"
_HEAD = "head/"
"""Beginning of the names of the head's nodes and numbers."""


def marked(backbone: bytes, digest: str) -> bytes:
    """A backbone as it was exported, with its digest, and with its output under the name FEATURES."""
    import onnx

    model = onnx.load_from_string(backbone)
    (output,) = model.graph.output
    model.graph.node.append(onnx.helper.make_node("Identity", [output.name], [FEATURES], name="features"))
    output.name = FEATURES
    onnx.helper.set_model_props(model, {_DIGEST: digest})
    return bytes(model.SerializeToString())


def with_head(backbone: bytes, head: Head) -> bytes:
    """The whole network: input (n, 224, 224, 3) uint8, output (n, classes) float32, as `Head.on` has it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(backbone)
    graph = model.graph

    def number(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), _HEAD + name))
        return _HEAD + name

    def node(kind: str, inputs: list[str], output: str = "") -> str:
        name = f"{_HEAD}{len(graph.node)}"
        graph.node.append(helper.make_node(kind, inputs, [output or name], name=name))
        return output or name

    logits = node("Gemm", [FEATURES, number("kernel", head.kernel), number("bias", head.bias)])
    classes = len(head.bias)
    if head.kind == "softmax":
        node("Softmax", [logits], _OUTPUT)
    else:
        classes += 1
        kernel, bias = differences(classes)
        odds = node("Relu", [node("Gemm", [node("Sigmoid", [logits]), number("steps", kernel), number("first", bias)])])
        # As a product with ones, because ReduceSum changed its inputs between two versions of ONNX.
        node("Div", [odds, node("MatMul", [odds, number("ones", np.ones((classes, 1)))])], _OUTPUT)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, [None, classes]))
    return bytes(model.SerializeToString())


def backbone_of(network: bytes, digest: str) -> bytes | None:
    """The backbone of a network that `with_head` made of the backbone with this digest; None for another one, such as one with integers."""
    import onnx
    from onnx import TensorProto, helper

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
    graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [None, None]))
    return bytes(model.SerializeToString())
