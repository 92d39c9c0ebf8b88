"""Session files that are damaged, forged or foreign; and places where none can be written."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import pocketgpt
from pocketgpt import OptionError, Session, SessionError

Header = dict[str, Any]
Tensors = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def saved(model: pocketgpt.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of a few tokens, all but the newest in its cache. Leave it as it is."""
    session = model.session()
    session.append("The quick brown")
    session.generate(max_new_tokens=4, eos_token_id=[])
    session.append(" fox")
    path = tmp_path_factory.mktemp("sessions") / "saved"
    session.save(path)
    return path


def split(content: bytes) -> tuple[Header, bytes]:
    """The header of a safetensors file, and what follows it."""
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def join(header: object, data: bytes) -> bytes:
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + data


def any_value(random: np.random.Generator) -> Any:
    values: list[Any] = [
        None,
        -1,
        0,
        3,
        2**63,
        1e300,
        "",
        "F16",
        "I64",
        "BF16",
        [],
        [1],
        {},
        [[1]],
        True,
    ]
    return values[random.integers(len(values))]


def flip_bytes(content: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    end = int(random.choice([16, 300, len(content)]))
    for position in random.integers(0, end, random.integers(1, 5)):
        changed[position] = random.integers(256)
    return bytes(changed)


def cut_or_grow(content: bytes, random: np.random.Generator) -> bytes:
    end = int(random.integers(0, len(content)))
    return content[:end] if random.random() < 0.7 else content + content[:end]


def change_the_header(content: bytes, random: np.random.Generator) -> bytes:
    header, data = split(content)
    name = str(random.choice([*header]))
    kind = random.integers(4)
    if kind == 0:
        del header[name]
    elif kind == 1:
        header[name] = any_value(random)
    elif kind == 2:
        header[str(random.choice(["more", "keys", "__metadata__"]))] = header[name]
    else:
        field = str(random.choice([*header[name]]))
        header[name][field] = any_value(random)
    return join(header, data)


def change_the_tensors(content: bytes, random: np.random.Generator) -> Tensors:
    """Tensors that are what the file's format allows, and another session's than it says."""
    header, data = split(content)
    tensors: Tensors = {}
    for name in ("token_ids", "keys", "values"):
        begin, end = header[name]["data_offsets"]
        dtype = {"I64": np.int64, "F32": np.float32}[header[name]["dtype"]]
        tensors[name] = np.frombuffer(data[begin:end], dtype).reshape(header[name]["shape"])
    changes: list[Callable[[Tensors], object]] = [
        lambda t: t.update(token_ids=random.integers(-5, 400, random.integers(0, 99))),
        lambda t: t.update(token_ids=np.tile(t["token_ids"], random.integers(2, 40))),
        lambda t: t.update(token_ids=t["token_ids"][: random.integers(0, 9)]),
        lambda t: t.update(token_ids=t["token_ids"].astype(random.choice(["i4", "f4", "u8", "?"]))),
        lambda t: t.update(token_ids=t["token_ids"][None]),
        lambda t: t.update(keys=t["keys"][:, :, : random.integers(0, 9)]),
        lambda t: t.update({n: t[n][:, :, : len(t["token_ids"]) // 2] for n in ("keys", "values")}),
        lambda t: t.update({n: np.repeat(t[n], 9, axis=2) for n in ("keys", "values")}),
        lambda t: t.update(values=t["values"].swapaxes(1, 2)),
        lambda t: t.update(values=t["values"].astype(random.choice(["f2", "f8", "i4"]))),
        lambda t: t.update(keys=t["keys"][random.integers(0, 2) :, ..., None]),
        lambda t: t.update(keys=np.full_like(t["keys"], random.choice([np.nan, np.inf, 3e38]))),
        lambda t: t.update(keys=t["keys"] * np.float32(1e30), values=t["values"] * 1e8),
        lambda t: t.update(more=t["token_ids"]),
        lambda t: t.pop(str(random.choice([*t]))),
    ]
    changes[random.integers(len(changes))](tensors)
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_done_to_a_file_it_restores_or_is_refused(
    model: pocketgpt.Model, saved: Path, tmp_path: Path, seed: int
) -> None:
    random = np.random.default_rng(seed)
    content, path = saved.read_bytes(), tmp_path / "session"
    mutations = [flip_bytes, cut_or_grow, change_the_header]
    if seed % 2:
        metadata = split(content)[0]["__metadata__"]
        save_file(change_the_tensors(content, random), path, metadata)
    else:
        path.write_bytes(mutations[seed // 2 % 3](content, random))
    try:
        session = model.restore(path)
    except SessionError as error:
        refusal = str(error)
    else:
        assert_usable(model, session)
        return
    assert refusal.startswith(str(path))
    assert "\n" not in refusal


def assert_usable(model: pocketgpt.Model, session: Session) -> None:
    assert len(session.token_ids) <= model.config.n_positions
    assert all(0 <= token_id < model.config.vocab_size for token_id in session.token_ids)
    if len(session.token_ids) < model.config.n_positions:
        session.fork().generate(max_new_tokens=2)
        session.generate(max_new_tokens=2, do_sample=True, top_p=0.9, top_k=0, seed=1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"token_ids": np.array([3, 9999])}, "outside the vocabulary of 320"),
        ({"token_ids": np.array([-1, 3])}, "outside the vocabulary of 320"),
        ({"token_ids": np.zeros(65, np.int64)}, "has 65 tokens, the model's context is 64"),
        ({"token_ids": np.array([1])}, "its cache is of 8 tokens, its text has 1"),
        ({"token_ids": np.zeros(9)}, "should be a list of int64, not float64"),
        ({"keys": np.zeros((2, 2, 8, 31), np.float32)}, "keys should be float32"),
        ({"keys": np.zeros((3, 2, 8, 32), np.float32)}, "[2, 2, length, 32], not float32"),
        ({"values": np.zeros((2, 2, 7, 32), np.float32)}, "values should be float32"),
        ({"values": np.zeros((2, 2, 8, 32), np.float16)}, "not float16 [2, 2, 8, 32]"),
        ({"keys": np.full((2, 2, 8, 32), np.inf, np.float32)}, "keys hold NaN, infinity or"),
        ({"keys": np.full((2, 2, 8, 32), -1e10, np.float32)}, "numbers no model computes"),
        ({"more": np.zeros(1)}, "its tensors should be token_ids, keys, values"),
    ],
)
def test_what_does_not_suit_the_model_is_named(
    model: pocketgpt.Model, saved: Path, tmp_path: Path, change: Tensors, says: str
) -> None:
    tensors = load_file(saved)
    shape = (2, 2, 8, 32)
    tensors |= {name: np.zeros(shape, np.float32) for name in ("keys", "values")}
    path = tmp_path / "session"
    save_file(tensors | change, path, split(saved.read_bytes())[0]["__metadata__"])
    with pytest.raises(SessionError) as caught:
        model.restore(path)
    assert says in str(caught.value)


def test_places_where_no_session_can_be(model: pocketgpt.Model, tmp_path: Path) -> None:
    session = model.session()
    session.append("A dog")
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    for place in ("folder", "file/session", "nul\0byte", "x" * 300):
        with pytest.raises(SessionError, match="cannot be written") as caught:
            session.save(tmp_path / place)
        assert "\n" not in str(caught.value)
        with pytest.raises(SessionError, match="cannot be read"):
            model.restore(tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert session.generate(max_new_tokens=2).token_ids


@pytest.mark.skipif(sys.platform == "win32", reason="pipes with names")
def test_what_is_no_file_is_not_replaced(model: pocketgpt.Model, tmp_path: Path) -> None:
    """A device for one, which whoever may write to its folder could replace."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SessionError, match="pipe cannot be written: it is there and no file"):
        model.session().save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_link_stays_and_its_file_is_replaced(model: pocketgpt.Model, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "session")  # which is not there yet
    for text in ("A", "A dog"):
        session = model.session()
        session.append(text)
        session.save(link)
        assert link.is_symlink()
        assert model.restore(tmp_path / "session").token_ids == session.token_ids


def test_a_path_through_a_file_is_said_to_be_one(model: pocketgpt.Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="Not a directory"):
        model.session().save(tmp_path / "file" / "session")


@pytest.mark.parametrize(
    "ids", [[1.5], [True], [np.True_], [None], ["1"], [[1, 2]], np.array([[1]]), 7, b"\1", None]
)
def test_what_is_no_list_of_token_ids_is_not_appended(model: pocketgpt.Model, ids: Any) -> None:
    session = model.session()
    with pytest.raises(OptionError, match=r"a token id should be|append takes"):
        session.append(ids)
    assert session.token_ids == []


def test_numpys_whole_numbers_are_token_ids(model: pocketgpt.Model) -> None:
    session = model.session()
    session.append(np.array([5, 6], np.int32))  # type: ignore[arg-type]
    session.append([np.int64(7), 8])  # type: ignore[list-item]
    session.append(range(9, 11))
    assert session.token_ids == [5, 6, 7, 8, 9, 10]
    assert {type(token_id) for token_id in session.token_ids} == {int}
