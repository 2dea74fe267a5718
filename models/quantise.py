"""Rewrites a converted model so that its matrices, word table included, are 8-bit integers.

Activations are scaled token by token, not over the whole tensor as ONNX Runtime's own dynamic quantisation does: a text
then gets the same vector alone and in any batch, and one token with large values does not coarsen all the others.

Weights are signed, scaled per output column. Processors without VNNI instructions add the products of two neighbouring
rows in 16 bits, which saturate at 32767; the scale of a column keeps every such pair within bounds, so all processors
compute the same sums.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from folder import Refusal, copy_companions, replaced_atomically, report_refusal
from graph import FUSED, PRODUCER, Graph, write_model

CENTRE = 128
# GELU never goes below -0.17, so its 8 bits are better spent above zero.
GELU_DEPTH = 0.17
GELU_CENTRE = 32
# A token whose numbers are all zero must not be divided by zero.
LEAST_REACH = 1e-6
# 255 * 128 = 32640, the largest multiple of an unsigned 8-bit activation that 16 signed bits hold.
PAIR_LIMIT = 128
WORD_TABLE = "embeddings.word_embeddings.weight"


def quantise_matrix(matrix):
    """Signed 8-bit columns and their scales, such that no two neighbouring rows overflow 16 bits."""
    columns = matrix.shape[1]
    rows = np.zeros((matrix.shape[0] + matrix.shape[0] % 2, columns), np.float32)
    rows[: matrix.shape[0]] = matrix
    pairs = rows.reshape(-1, 2, columns)
    heaviest = np.maximum(np.maximum(pairs, 0).sum(1), np.maximum(-pairs, 0).sum(1)).max(0)
    # Rounding can add a half to each of the two, hence one less than the limit.
    scales = np.maximum(np.abs(matrix).max(0) / np.float32(127), heaviest / np.float32(PAIR_LIMIT - 1))
    scales = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def quantise_rows(table):
    scales = np.abs(table).max(1) / np.float32(127)
    scales = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
    return np.rint(table / scales[:, None]).astype(np.int8), scales


class Quantiser:
    def __init__(self, model):
        self.model, self.graph = model, Graph()
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.operator_of = {node.output[0]: node.op_type for node in model.graph.node}
        self.activations, self.centres = {}, {}

    def rewrite(self):
        self.along_last = self.graph.add_constant("along_last", np.array([-1]))
        for node in self.model.graph.node:
            if node.op_type == "MatMul" and node.input[1] in self.weights:
                self.multiply(node)
            elif node.op_type == "Gather" and node.input[0] == WORD_TABLE:
                self.look_up(node)
            else:
                self.graph.nodes.append(node)
        self.graph.constants = {**self.weights, **self.graph.constants}
        self.graph.inputs = list(self.model.graph.input)
        output = self.model.graph.output[0]
        return self.graph.close(output.name, output.type.tensor_type.shape.dim[1].dim_value)

    def read_weight(self, name):
        return numpy_helper.to_array(self.weights[name])

    def look_up(self, node):
        """Fetches the rows of the word table as integers and scales only those."""
        table, scales = quantise_rows(self.read_weight(node.input[0]))
        name, ids = node.output[0], node.input[1]
        rows = self.graph.add_node("Gather", f"{name}.integers", [self.graph.add_constant(f"{WORD_TABLE}.integers", table), ids])
        scale = self.graph.add_node("Gather", f"{name}.scales", [self.graph.add_constant(f"{WORD_TABLE}.scales", scales), ids])
        self.graph.add_node("DequantizeLinear", name, [rows, scale], axis=0)

    def multiply(self, node):
        graph, name = self.graph, node.output[0]
        matrix, scales = quantise_matrix(self.read_weight(node.input[1]))
        integers, token_scale, centre = self.quantise_activation(node.input[0])
        product = graph.add_node(
            "MatMulIntegerToFloat",
            f"{name}.unscaled",
            [
                integers,
                graph.add_constant(f"{name}.integers", matrix),
                graph.add_constant("unit_scale", np.float32(1)),
                graph.add_constant(f"{name}.scales", scales),
                centre,
            ],
            domain=FUSED,
        )
        graph.add_node("Mul", name, [product, token_scale])

    def quantise_activation(self, name):
        """The integers of an activation, a scale for each of its tokens, and the integer that stands for zero."""
        if name not in self.activations:
            from_gelu = self.operator_of[name] == "BiasGelu"
            centre = GELU_CENTRE if from_gelu else CENTRE
            scale = self.measure_gelu(name) if from_gelu else self.measure(name)
            graph = self.graph
            integers = graph.add_node("QuantizeLinear", f"{name}.integers", [name, scale, self.repeat_centre(centre)], axis=0)
            column = graph.add_node("Unsqueeze", f"{name}.scale_column", [scale, self.along_last])
            self.activations[name] = integers, column, graph.add_constant(f"centre_{centre}", np.uint8(centre))
        return self.activations[name]

    def measure(self, name):
        graph = self.graph
        most = graph.add_node("ReduceMax", f"{name}.most", [name, self.along_last], keepdims=0)
        least = graph.add_node("ReduceMin", f"{name}.least", [name, self.along_last], keepdims=0)
        depth = graph.add_node("Neg", f"{name}.depth", [least])
        return self.divide_reach(name, [most, depth], 255 - CENTRE, LEAST_REACH)

    def measure_gelu(self, name):
        most = self.graph.add_node("ReduceMax", f"{name}.most", [name, self.along_last], keepdims=0)
        steps = 255 - GELU_CENTRE
        return self.divide_reach(name, [most], steps, steps * GELU_DEPTH / GELU_CENTRE)

    def divide_reach(self, name, reaches, steps, least):
        graph = self.graph
        floor = graph.add_constant(f"least_reach_{steps}", np.float32(least))
        reach = graph.add_node("Max", f"{name}.reach", [*reaches, floor])
        step = graph.add_constant(f"one_in_{steps}", np.float32(1) / np.float32(steps))
        return graph.add_node("Mul", f"{name}.scale", [reach, step])

    def repeat_centre(self, centre):
        """QuantizeLinear wants as many zero points as it has scales."""
        name = f"centres_{centre}"
        if name not in self.centres:
            single = self.graph.add_constant(f"centre_{centre}_row", np.array([centre], np.uint8))
            self.centres[name] = self.graph.add_node("Expand", name, [single, self.count_tokens()])
        return self.centres[name]

    def count_tokens(self):
        if "token_shape" not in self.centres:
            self.centres["token_shape"] = self.graph.add_node("Shape", "token_shape", ["token_place"])
        return self.centres["token_shape"]


def quantise(source, target):
    path = Path(source) / "model.onnx"
    if not path.is_file():
        raise Refusal(f"{path} is missing: run convert.py first and name the folder it wrote")
    model = onnx.load(path)
    if model.producer_name != PRODUCER or WORD_TABLE not in {tensor.name for tensor in model.graph.initializer}:
        raise Refusal(f"{path} was not written by convert.py: convert the model with it, then quantise")
    with replaced_atomically(target) as unfinished:
        copy_companions(source, unfinished)
        write_model(Quantiser(model).rewrite(), unfinished / "model.onnx")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="folder written by convert.py")
    parser.add_argument("target", help="folder to write, replaced as a whole")
    arguments = parser.parse_args()
    quantise(arguments.source, arguments.target)


if __name__ == "__main__":
    report_refusal(main)
