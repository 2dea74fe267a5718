"""Computes reference vectors with a plain numpy forward pass in float64, which shares nothing with the ONNX graph.

The first argument is the model folder with model.safetensors, the second a file with one JSON object per line, of which
only the text is used; the result goes to standard output. With --verify, the embeddings already in that file are compared
instead.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

erf = np.vectorize(math.erf, otypes=[np.float64])


class Bert:
    def __init__(self, folder):
        self.settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
        self.weights = {name: value.astype(np.float64) for name, value in weights.items() if value.dtype.kind == "f"}
        self.longest = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def tokenise(self, text):
        """All token numbers, before truncation."""
        return self.tokenizer.encode(text.strip()).ids

    def truncate(self, ids):
        return ids if len(ids) <= self.longest else ids[: self.longest - 1] + ids[-1:]

    def dense(self, hidden, name):
        return hidden @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def normalise(self, hidden, name):
        centred = hidden - hidden.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + self.settings["layer_norm_eps"])
        return centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attend(self, hidden, name):
        tokens, width = hidden.shape
        heads = self.settings["num_attention_heads"]
        query, key, value = (
            self.dense(hidden, f"{name}.self.{part}").reshape(tokens, heads, width // heads).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(width // heads)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = (shares @ value).transpose(1, 0, 2).reshape(tokens, width)
        return self.normalise(self.dense(mixed, f"{name}.output.dense") + hidden, f"{name}.output.LayerNorm")

    def feed_forward(self, hidden, name):
        wide = self.dense(hidden, f"{name}.intermediate.dense")
        wide = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
        return self.normalise(self.dense(wide, f"{name}.output.dense") + hidden, f"{name}.output.LayerNorm")

    def embed(self, ids):
        """The mean of the last layer, at unit length, of one text without padding."""
        hidden = (
            self.weights["embeddings.word_embeddings.weight"][ids]
            + self.weights["embeddings.position_embeddings.weight"][: len(ids)]
            + self.weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self.normalise(hidden, "embeddings.LayerNorm")
        for layer in range(self.settings["num_hidden_layers"]):
            name = f"encoder.layer.{layer}"
            hidden = self.feed_forward(self.attend(hidden, f"{name}.attention"), name)
        pooled = hidden.mean(0)
        return pooled / np.linalg.norm(pooled)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder with model.safetensors and tokenizer.json")
    parser.add_argument("texts", type=Path, help="one JSON object with a text per line")
    parser.add_argument("--verify", action="store_true", help="compare with the embeddings in the file instead of printing")
    arguments = parser.parse_args()
    bert = Bert(arguments.model)
    worst = 0.0
    for line in arguments.texts.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        row = json.loads(line)
        ids = bert.tokenise(row["text"])
        embedding = bert.embed(bert.truncate(ids))
        if arguments.verify:
            worst = max(worst, np.abs(embedding - row["embedding"]).max())
            if len(ids) != row["tokens"]:
                start = row["text"][:40]
                sys.exit(f"error: {start!r} has {len(ids)} tokens, not {row['tokens']}: use the model's own tokenizer.json")
        else:
            rounded = [round(float(number), 7) for number in embedding]
            print(json.dumps({"text": row["text"], "tokens": len(ids), "embedding": rounded}, ensure_ascii=False))
    if arguments.verify:
        print(f"largest difference {worst:.1e}")
        sys.exit(0 if worst < 2e-6 else 1)


if __name__ == "__main__":
    main()
