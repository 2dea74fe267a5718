"""Compares the vectors of a model folder with a reference file and fails when they differ by more than allowed."""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from folder import Refusal, read_settings, report_refusal


def load_tokenizer(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # tokenizer.json carries lengths of its own (128, padded to 128) which sentence-transformers overrides too.
    tokenizer.no_padding()
    tokenizer.enable_truncation(read_settings(folder, "sentence_bert_config.json")["max_seq_length"])
    return tokenizer


def load_session(folder, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])


def read_reference(path):
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
        return [row["text"] for row in rows], np.array([row["embedding"] for row in rows])
    except FileNotFoundError:
        raise Refusal(f"{path} is missing: name a file with one JSON object of text and embedding per line") from None


def embed_batch(session, texts):
    """One run; texts are lists of token numbers."""
    ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
    mask = np.zeros_like(ids)
    for row, numbers in enumerate(texts):
        ids[row, : len(numbers)] = numbers
        mask[row, : len(numbers)] = 1
    return session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})[0].astype(np.float64)


def embed(session, texts, batch):
    vectors = [None] * len(texts)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        for place, vector in zip(chosen, embed_batch(session, [texts[place] for place in chosen])):
            vectors[place] = vector
    return np.array(vectors)


def measure_cosines(left, right):
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with model.onnx and tokenizer.json")
    parser.add_argument("reference", help="lines of JSON with text and embedding")
    parser.add_argument("--least", type=float, default=0.98, help="cosine that every text must reach (default 0.98)")
    parser.add_argument("--mean", type=float, default=0.99, help="cosine to reach on average (default 0.99)")
    parser.add_argument("--apart", type=float, default=1e-5, help="difference allowed by being in a batch (default 1e-5)")
    parser.add_argument("--batch", type=int, default=16, help="texts in a batch (default 16)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the session (default 1)")
    arguments = parser.parse_args()

    texts, wanted = read_reference(arguments.reference)
    tokenizer = load_tokenizer(arguments.folder)
    # sentence-transformers strips texts too.
    numbers = [encoding.ids for encoding in tokenizer.encode_batch([text.strip() for text in texts])]
    session = load_session(arguments.folder, arguments.threads)
    alone = embed(session, numbers, 1)
    batched = embed(session, numbers, arguments.batch)
    cosines = np.minimum(measure_cosines(alone, wanted), measure_cosines(batched, wanted))
    difference = max(np.abs(alone - wanted).max(), np.abs(batched - wanted).max())
    apart = np.abs(alone - batched).max()
    worst = texts[int(cosines.argmin())]

    print(f"texts                        {len(texts)}")
    print(f"least cosine                 {cosines.min():.6f}  {worst[:40]!r}")
    print(f"mean cosine                  {cosines.mean():.6f}")
    print(f"largest difference           {difference:.2e}")
    print(f"alone against in a batch     {apart:.2e}")
    # Written so that a number that is not one fails.
    good = cosines.min() >= arguments.least and cosines.mean() >= arguments.mean and apart <= arguments.apart
    return 0 if good else 1


if __name__ == "__main__":
    report_refusal(main)
