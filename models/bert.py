"""Builds the ONNX graph of a BERT sentence encoder from its weights, with ONNX Runtime's fused operators.

Two layouts alternate. Everything that treats each token on its own (projections, feed-forward, normalisation) runs on
the real tokens of all texts laid end to end, so padding costs nothing and never touches a value. Only attention, which
looks across a text, sees the padded (batch, sequence) layout; Gathers lead there and back.

Attention gets no mask, because ONNX Runtime has its fast (flash) kernel only without one. Each head is one number wider
instead: 1 in every query, 0 in the key of a token and a large negative number in the key of padding. The product is the
mask: exp() of it is exactly zero, so the result is the same.
"""

import numpy as np
from onnx import TensorProto

from graph import FUSED, Graph

PADDING_SCORE = np.float32(-1e5)


class Encoder:
    def __init__(self, settings, weights):
        self.settings, self.weights, self.graph = settings, weights, Graph()
        self.heads = settings["num_attention_heads"]
        self.head_width = settings["hidden_size"] // self.heads
        self.along_last = self.graph.add_constant("along_last", np.array([-1]))
        self.along_sequence = self.graph.add_constant("along_sequence", np.array([1]))

    def build(self, pooling, normalise):
        width = self.settings["hidden_size"]
        self.read_inputs()
        tokens = self.embed_tokens()
        for layer in range(self.settings["num_hidden_layers"]):
            tokens = self.add_layer(tokens, f"encoder.layer.{layer}")
        return self.graph.close(self.pool(self.spread(tokens, "padded"), pooling, normalise), width)

    def weight(self, name):
        return self.graph.add_constant(name, self.weights[name].astype(np.float32))

    def read_inputs(self):
        graph = self.graph
        self.ids = graph.add_input("input_ids")
        self.mask = graph.add_input("attention_mask")
        self.mask32 = graph.add_node("Cast", "mask32", [self.mask], to=TensorProto.INT32)
        flat = graph.add_node("Reshape", "mask_flat", [self.mask32, self.along_last])
        places = graph.add_node("NonZero", "token_places", [flat])
        self.places = graph.add_node("Reshape", "token_place", [places, self.along_last])
        # Where each padded place finds its token; padding repeats the token before it, which attention then ignores.
        zero = graph.add_constant("zero", np.array(0))
        running = graph.add_node("CumSum", "tokens_so_far", [flat, zero])
        one = graph.add_constant("one", np.array(1, np.int32))
        last = graph.add_node("Sub", "token_number_flat", [running, one])
        shape = graph.add_node("Shape", "padded_shape", [self.mask])
        self.token_number = graph.add_node("Reshape", "token_number", [last, shape])
        # The same for keys, in which padding finds the row that is appended after the last token.
        appended = graph.add_node("Shape", "padding_number", [self.places])
        numbers = graph.add_node("Cast", "token_number_wide", [self.token_number], to=TensorProto.INT64)
        present = graph.add_node("Cast", "mask_truth", [self.mask], to=TensorProto.BOOL)
        self.key_number = graph.add_node("Where", "key_number", [present, numbers, appended])

    def gather_tokens(self, padded, name):
        """From (batch, sequence, width) to (tokens, width)."""
        width = self.graph.add_constant("rows", np.array([-1, self.settings["hidden_size"]]))
        rows = self.graph.add_node("Reshape", f"{name}.rows", [padded, width])
        return self.graph.add_node("Gather", name, [rows, self.places])

    def spread(self, tokens, name):
        """From (tokens, width) back to (batch, sequence, width)."""
        return self.graph.add_node("Gather", name, [tokens, self.token_number])

    def spread_keys(self, keys, name):
        row = np.zeros((1, self.heads, self.head_width + 1), np.float32)
        row[:, :, -1] = PADDING_SCORE
        padding = self.graph.add_constant("padding_key", row.reshape(1, -1))
        rows = self.graph.add_node("Concat", f"{name}.rows", [keys, padding], axis=0)
        return self.graph.add_node("Gather", name, [rows, self.key_number])

    def widen_heads(self, values, filling):
        """One more number at the end of each head's part of a row."""
        heads = values.reshape(-1, self.heads, self.head_width)
        wide = np.pad(heads, ((0, 0), (0, 0), (0, 1)), constant_values=filling)
        return wide.reshape(*values.shape[:-1], -1)

    def embed_tokens(self):
        graph = self.graph
        flat = graph.add_node("Reshape", "ids_flat", [self.ids, self.along_last])
        ids = graph.add_node("Gather", "token_ids", [flat, self.places])
        words = graph.add_node("Gather", "words", [self.weight("embeddings.word_embeddings.weight"), ids])
        # The segment of a lone text is always 0, so its embedding belongs to every position.
        positions = self.weights["embeddings.position_embeddings.weight"].astype(np.float32)
        segment = self.weights["embeddings.token_type_embeddings.weight"][0].astype(np.float32)
        table = graph.add_constant("embeddings.position_and_segment.weight", positions + segment)
        columns = graph.add_node("NonZero", "mask_places", [self.mask32])
        column = graph.add_node("Gather", "token_positions", [columns, graph.add_constant("column", np.array(1))], axis=0)
        placed = graph.add_node("Gather", "positions", [table, column])
        return self.add_and_normalise(words, placed, "embeddings.LayerNorm")

    def add_and_normalise(self, left, right, name, bias=None):
        inputs = [left, right, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]
        if bias:
            inputs.append(self.weight(bias))
        return self.graph.add_node(
            "SkipLayerNormalization", name, inputs, domain=FUSED, epsilon=self.settings["layer_norm_eps"]
        )

    def project(self, tokens, name, wide_heads=False):
        """A dense layer without its bias, which the fused operator after it adds."""
        matrix = self.weights[f"{name}.weight"].astype(np.float32).T
        if wide_heads:
            matrix = self.widen_heads(matrix, 0)
        return self.graph.add_node("MatMul", name, [tokens, self.graph.add_constant(f"{name}.weight", matrix)])

    def attend(self, tokens, name):
        query, key, value = (f"{name}.self.{part}" for part in ("query", "key", "value"))
        query_bias, key_bias, value_bias = (self.weights[f"{part}.bias"].astype(np.float32) for part in (query, key, value))
        bias = np.concatenate([self.widen_heads(query_bias, 1), self.widen_heads(key_bias, 0), value_bias])
        padded = self.graph.add_node(
            "MultiHeadAttention",
            f"{name}.padded",
            [
                self.spread(self.project(tokens, query, wide_heads=True), f"{query}.padded"),
                self.spread_keys(self.project(tokens, key, wide_heads=True), f"{key}.padded"),
                self.spread(self.project(tokens, value), f"{value}.padded"),
                self.graph.add_constant(f"{name}.self.bias", bias),
            ],
            domain=FUSED,
            num_heads=self.heads,
            scale=self.head_width**-0.5,
        )
        return self.gather_tokens(padded, name)

    def add_layer(self, tokens, name):
        graph = self.graph
        attended = self.attend(tokens, f"{name}.attention")
        output = f"{name}.attention.output"
        projected = self.project(attended, f"{output}.dense")
        tokens = self.add_and_normalise(projected, tokens, f"{output}.LayerNorm", f"{output}.dense.bias")
        widened = self.project(tokens, f"{name}.intermediate.dense")
        activated = graph.add_node(
            "BiasGelu",
            f"{name}.intermediate",
            [widened, self.weight(f"{name}.intermediate.dense.bias")],
            domain=FUSED,
        )
        narrowed = self.project(activated, f"{name}.output.dense")
        return self.add_and_normalise(narrowed, tokens, f"{name}.output.LayerNorm", f"{name}.output.dense.bias")

    def pool(self, padded, pooling, normalise):
        graph, name = self.graph, "sentence_embedding"
        pooled = "pooled" if normalise else name
        if pooling == "cls_token":
            graph.add_node("Gather", pooled, [padded, graph.add_constant("first", np.array(0))], axis=1)
        else:
            mask = graph.add_node("Cast", "mask_float", [self.mask], to=TensorProto.FLOAT)
            row = graph.add_node("Unsqueeze", "mask_row", [mask, self.along_sequence])
            total = graph.add_node("MatMul", "total_row", [row, padded])
            total = graph.add_node("Squeeze", "total", [total, self.along_sequence])
            count = graph.add_node("ReduceSum", "token_count", [mask, self.along_sequence], keepdims=1)
            graph.add_node("Div", pooled, [total, count])
        if normalise:
            length = graph.add_node("ReduceL2", "length", [pooled, self.along_sequence], keepdims=1)
            least = graph.add_constant("least_length", np.float32(1e-12))
            graph.add_node("Div", name, [pooled, graph.add_node("Max", "safe_length", [length, least])])
        return name
