"""Reads and writes a sentence-transformers model folder: its settings, and the files that travel with the graph."""

import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

# What a reader of the finished folder needs beside model.onnx, in the layout that sentence-transformers gave it.
COMPANIONS = (
    "1_Pooling/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


class Refusal(Exception):
    """A reason to stop that the person at the keyboard can act on."""


def report_refusal(command):
    """Runs a command line and turns a refusal into one sentence and exit status 1."""
    try:
        sys.exit(command())
    except Refusal as reason:
        sys.exit(f"error: {reason}")


def read_settings(folder, name):
    path = Path(folder) / name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refusal(f"{path} is missing: name a sentence-transformers model folder") from None
    except ValueError as fault:
        raise Refusal(f"{path} is not valid JSON ({fault}): fetch the model folder again") from None


def read_pooling(folder):
    """The pooling mode, and whether the vector is brought to unit length, as modules.json and 1_Pooling say."""
    kinds = [module["type"].rsplit(".", 1)[-1] for module in read_settings(folder, "modules.json")]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise Refusal(
            f"modules.json lists {', '.join(kinds)}: only Transformer, Pooling and an optional Normalize can be converted"
        )
    chosen = [
        key.removeprefix("pooling_mode_")
        for key, value in read_settings(folder, "1_Pooling/config.json").items()
        if key.startswith("pooling_mode_") and value is True
    ]
    if chosen not in (["mean_tokens"], ["cls_token"]):
        asked = " and ".join(chosen) or "nothing"
        raise Refusal(f"1_Pooling/config.json asks for {asked}: choose a model with mean or cls pooling")
    return chosen[0], "Normalize" in kinds


def copy_companions(source, target):
    for name in COMPANIONS:
        origin = Path(source) / name
        if origin.is_file():
            copy = Path(target) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin, copy)


@contextmanager
def replaced_atomically(target):
    """Gives an empty folder to fill, which takes the target's place only when all of it was written."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield unfinished
        # mkdtemp makes a private folder, but a database server under another account has to read this one.
        unfinished.chmod(0o755)
        if target.exists():
            former = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            os.rename(target, former / "former")
            os.rename(unfinished, target)
            shutil.rmtree(former)
        else:
            os.rename(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
