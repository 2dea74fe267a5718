"""Collects the nodes and constants of an ONNX graph and closes them into a model that is the same bytes each time."""

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

FUSED = "com.microsoft"
PRODUCER = "vector_tools"


class Graph:
    """Nodes in the order they were added; each is named after its first output, so a graph reads like its source."""

    def __init__(self):
        self.nodes, self.constants, self.inputs = [], {}, []

    def add_input(self, name):
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]))
        return name

    def add_constant(self, name, value):
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def add_node(self, operator, name, inputs, domain="", **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def close(self, output, width):
        """One float output of shape (batch, width); constants that no node reads are left out."""
        used = {name for node in self.nodes for name in node.input}
        body = helper.make_graph(
            self.nodes,
            "sentence_embedding",
            self.inputs,
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])],
            [tensor for name, tensor in self.constants.items() if name in used],
        )
        # The versions are pinned to what ONNX Runtime 1.14 and later read, not to what the installed onnx prefers.
        return helper.make_model(
            body,
            producer_name=PRODUCER,
            producer_version="1",
            ir_version=8,
            opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)],
        )


def write_model(model, path):
    checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
