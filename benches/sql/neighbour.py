"""Embeds with sentence-transformers: `python3 neighbour.py MODEL_FOLDER THREADS`.

Says `ready` with its versions, then reads a JSON array of texts a line and answers each with the seconds it took.
"""

import json
import sys
import time


def main():
    """Answers line by line until the input ends."""
    try:
        import sentence_transformers
        import torch
    except ImportError as error:
        print(error, flush=True)
        return
    torch.set_num_threads(int(sys.argv[2]))
    model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu")
    model.encode(["the first call is slower"] * 8)
    print(f"ready sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        began = time.perf_counter()
        model.encode(texts)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
