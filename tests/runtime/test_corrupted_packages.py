"""Corrupted packages: each says what the whole one does, or gets one line; none crashes or hangs.

Under `verify=True` no answer may be another one. They are opened in processes of their own, a batch
to each, so that a crash is a failure of the corruption it came from.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pocketgpt

Corruption = Callable[[bytes, random.Random], bytes]

BATCHES = 4
SECONDS = 200  # for a batch
LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
# Of an entry of the directory: flags, method, sizes of names, and CRC-32, sizes, mode, place.
FIELDS = [
    *((place, "<H") for place in (8, 10, 28, 30, 34)),
    *((place, "<L") for place in (16, 20, 24, 38, 42)),
]

# A line for every package that did not do what it should; the last word is that it got to the end.
RUN = """
import resource, sys, traceback
import pocketgpt

resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))

def answer(path, **options):
    model = pocketgpt.load(path, "int8", threads=1, **options)
    return model.generate("The lighthouse", max_new_tokens=6).token_ids

expected = answer(sys.argv[1], verify=True)
for path in sys.argv[2:]:
    print("begin", path, flush=True)
    for verify in (True, False):
        try:
            found = answer(path, verify=verify)
            if verify and found != expected:
                print("WRONG", path, "another answer")
            print("ran" if verify else "ran unverified", path)
        except pocketgpt.PocketGPTError as error:
            line = str(error)
            if "\\n" in line or "\\r" in line or not 20 < len(line) < 1500:
                print("WRONG", path, repr(line)[:300])
        except BaseException as error:
            where = traceback.format_exc()[-600:].replace("\\n", " | ")
            print("WRONG", path, repr(error)[:300], where)
print("done", flush=True)
"""


def flipped(where: Callable[[bytes, random.Random], int]) -> Corruption:
    def corrupt(content: bytes, chooser: random.Random) -> bytes:
        changed = bytearray(content)
        for _ in range(chooser.choice([1, 1, 2, 8])):
            changed[where(content, chooser)] ^= 1 << chooser.randrange(8)
        return bytes(changed)

    return corrupt


def anywhere(content: bytes, chooser: random.Random) -> int:
    return chooser.randrange(len(content))


def in_the_directory(content: bytes, chooser: random.Random) -> int:
    return chooser.randrange(content.index(CENTRAL), len(content))


def in_a_header(content: bytes, chooser: random.Random) -> int:
    return chooser.choice(records(content, LOCAL)) + chooser.randrange(60)


def records(content: bytes, mark: bytes) -> list[int]:
    """Return where records begin."""
    found, at = [], content.find(mark)
    while at >= 0:
        found.append(at)
        at = content.find(mark, at + 1)
    return found


def cut(content: bytes, chooser: random.Random) -> bytes:
    return content[: anywhere(content, chooser)]


def piece_gone(content: bytes, chooser: random.Random) -> bytes:
    at = anywhere(content, chooser)
    return content[:at] + content[at + chooser.choice([1, 100, 4096]) :]


def piece_put_in(content: bytes, chooser: random.Random) -> bytes:
    at = anywhere(content, chooser)
    return content[:at] + chooser.randbytes(chooser.choice([1, 100, 4096])) + content[at:]


def piece_overwritten(content: bytes, chooser: random.Random) -> bytes:
    at = anywhere(content, chooser)
    piece = chooser.randbytes(chooser.choice([1, 64, 5000]))
    return content[:at] + piece + content[at + len(piece) :]


def directory_edited(content: bytes, chooser: random.Random) -> bytes:
    """A field of an entry, of 2 or 4 bytes, is another number."""
    at = chooser.choice(records(content, CENTRAL))
    place, form = chooser.choice(FIELDS)
    value = chooser.choice([0, 1, 8, 0x7FFF, 0xFFFF] + [0xFFFFFFFF, 1 << 31] * (form == "<L"))
    piece = struct.pack(form, value)
    return content[: at + place] + piece + content[at + place + len(piece) :]


def end_edited(content: bytes, chooser: random.Random) -> bytes:
    at, place = content.rindex(END), chooser.choice([4, 6, 8, 10, 12, 16, 20])
    piece = struct.pack("<H", chooser.choice([0, 1, 5, 0xFFFF]))
    return content[: at + place] + piece + content[at + place + 2 :]


def places_swapped(content: bytes, chooser: random.Random) -> bytes:
    """Two entries of the directory say each other's place, or name, or all."""
    one, other = chooser.sample(records(content, CENTRAL), 2)
    begin, end = chooser.choice([(42, 46), (16, 28), (46, 56)])
    changed = bytearray(content)
    changed[one + begin : one + end] = content[other + begin : other + end]
    changed[other + begin : other + end] = content[one + begin : one + end]
    return bytes(changed)


def rewritten(change: Callable[[dict[str, bytes], random.Random], None]) -> Corruption:
    """Change files, and write them as a package is written: nothing but hashes can tell."""

    def corrupt(content: bytes, chooser: random.Random) -> bytes:
        from io import BytesIO
        from tempfile import TemporaryDirectory

        from pocketgpt.folder.package.writing import PackageWriter

        with zipfile.ZipFile(BytesIO(content)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        change(files, chooser)
        with TemporaryDirectory() as scratch:
            path = Path(scratch) / "package"
            with PackageWriter(path) as writer:
                for name in sorted(files):
                    writer.add(name, len(files[name]), [files[name]])
            return path.read_bytes()

    return corrupt


def contents_swapped(files: dict[str, bytes], chooser: random.Random) -> None:
    one, other = chooser.sample(sorted(files), 2)
    files[one], files[other] = files[other], files[one]


def renamed(files: dict[str, bytes], chooser: random.Random) -> None:
    name = chooser.choice(sorted(files))
    files[chooser.choice([f"{name}x", "README.txt", name.upper()])] = files.pop(name)


def left_out(files: dict[str, bytes], chooser: random.Random) -> None:
    del files[chooser.choice(sorted(files))]


def added(files: dict[str, bytes], chooser: random.Random) -> None:
    name = chooser.choice(["special_tokens_map.json", "chat_template.jinja", "notes.txt", "a/b/c"])
    files[name] = chooser.randbytes(100)


def content_flipped(files: dict[str, bytes], chooser: random.Random) -> None:
    name = chooser.choice(sorted(files))
    changed = bytearray(files[name])
    for _ in range(chooser.choice([1, 3])):
        changed[chooser.randrange(len(changed))] ^= 1 << chooser.randrange(8)
    files[name] = bytes(changed)


CORRUPTIONS: list[tuple[Corruption, int]] = [
    (flipped(anywhere), 30),
    (flipped(in_the_directory), 25),
    (flipped(in_a_header), 15),
    (cut, 15),
    (piece_gone, 10),
    (piece_put_in, 10),
    (piece_overwritten, 15),
    (directory_edited, 25),
    (end_edited, 10),
    (places_swapped, 10),
    (rewritten(contents_swapped), 15),
    (rewritten(renamed), 10),
    (rewritten(left_out), 10),
    (rewritten(added), 5),
    (rewritten(content_flipped), 30),
]


def corrupted(content: bytes) -> Iterator[tuple[str, bytes]]:
    for kind, (corrupt, times) in enumerate(CORRUPTIONS):
        for number in range(times):
            name = f"{kind}-{number}"
            yield name, corrupt(content, random.Random(name))


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
@pytest.mark.parametrize("batch", range(BATCHES))
def test_corrupted_packages(tiny_folder: Path, tmp_path: Path, batch: int) -> None:
    whole = tmp_path / "whole.pocketgpt"
    pocketgpt.package(tiny_folder, whole, ["int8"])
    cases = list(corrupted(whole.read_bytes()))
    assert len(cases) >= 200
    names = {}
    for name, content in cases[batch::BATCHES]:
        path = tmp_path / f"{name}.pocketgpt"
        path.write_bytes(content)
        names[str(path)] = name
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, str(whole), *names],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    lines = done.stdout.splitlines()
    wrong = [line for line in lines if line.startswith("WRONG")]
    assert [(names[line.split()[1]], line) for line in wrong] == []
    crashed = names.get(lines[-1].removeprefix("begin "), "") if lines else "the start"
    assert (lines[-1:], done.returncode) == (["done"], 0), (crashed, done.stderr[-500:])
    assert len([line for line in lines if line.startswith("begin")]) == len(names)
    ran = [line for line in lines if line.startswith("ran /")]
    assert 0 < len(ran) < len(names) / 2  # or this shows little
