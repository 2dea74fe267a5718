"""Converts a sentence-transformers BERT folder into one ONNX graph, from token numbers to finished sentence vectors."""

import argparse
from pathlib import Path

from safetensors.numpy import load_file

from bert import Encoder
from folder import Refusal, copy_companions, read_pooling, read_settings, replaced_atomically, report_refusal
from graph import write_model

# What the graph takes for granted, and what a folder that does not say means by its silence.
ASSUMED = {"model_type": ("bert", None), "hidden_act": ("gelu", None), "position_embedding_type": ("absolute", "absolute")}


def read_architecture(source):
    settings = read_settings(source, "config.json")
    for key, (wanted, silent) in ASSUMED.items():
        found = settings.get(key, silent)
        if found != wanted:
            raise Refusal(
                f"config.json says {key} {found!r} and only {wanted!r} can be converted: "
                "use a model folder that already carries onnx/model.onnx"
            )
    return settings


def read_weights(source):
    path = Path(source) / "model.safetensors"
    if not path.is_file():
        raise Refusal(f"{path} is missing: name a model folder that holds its weights as safetensors")
    # Some folders carry a larger model, in which the encoder is one part called bert.
    return {name.removeprefix("bert."): value for name, value in load_file(path).items()}


def convert(source, target):
    settings = read_architecture(source)
    pooling, normalise = read_pooling(source)
    try:
        model = Encoder(settings, read_weights(source)).build(pooling, normalise)
    except KeyError as missing:
        raise Refusal(f"the model folder lacks {missing}: fetch it again") from None
    with replaced_atomically(target) as unfinished:
        copy_companions(source, unfinished)
        write_model(model, unfinished / "model.onnx")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="sentence-transformers folder with model.safetensors")
    parser.add_argument("target", help="folder to write, replaced as a whole")
    arguments = parser.parse_args()
    convert(arguments.source, arguments.target)


if __name__ == "__main__":
    report_refusal(main)
