"""Makes a model of twice the dimensions: `python3 doubled_model.py MODEL_FOLDER NEW_FOLDER`.

Each vector of the real model is written twice and brought to unit length again, so that cosines stay what they were.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def main(source, target):
    """Copies the folder and changes the graph and what is said of it."""
    shutil.copytree(source, target)
    path = target / "model.onnx"
    model = onnx.load(path)
    graph = model.graph
    (output,) = graph.output
    name, single = output.name, "single_" + output.name
    for node in graph.node:
        node.output[:] = [single if word == name else word for word in node.output]
        node.input[:] = [single if word == name else word for word in node.input]
    graph.initializer.append(numpy_helper.from_array(np.float32(np.sqrt(0.5)), "half_root"))
    graph.node.append(helper.make_node("Concat", [single, single], ["twice"], axis=-1))
    graph.node.append(helper.make_node("Mul", ["twice", "half_root"], [name]))
    output.type.tensor_type.shape.dim[-1].dim_value *= 2
    onnx.save(model, path)
    pooling = target / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text(encoding="utf-8"))
    settings["word_embedding_dimension"] *= 2
    pooling.write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
