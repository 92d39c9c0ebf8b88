"""`map_file`: a file to a file, killed and taken up again; what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.bulk import Job, RowWorker, map_file

from ..conftest import SENTENCES, Cli, contents

OPTIONS = {"max_new_tokens": 4, "do_sample": True}
COUNT = 40


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), "utf-8")
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    texts = [*SENTENCES, "", "🌙", None, "a\x00b"]
    rows = [{"id": f"r{i}", "prompt": texts[i % len(texts)], "other": [i]} for i in range(COUNT)]
    return write(tmp_path / "rows.jsonl", rows)


@pytest.fixture
def job(tiny_folder: Path) -> Job:
    loading = {"variant": "fp32", "threads": 1}
    return Job(tiny_folder, id_column="id", options=OPTIONS, batch_size=1, loading=loading)


def test_rows_stay_in_order_with_their_columns(job: Job, source: Path, tmp_path: Path) -> None:
    done, seen = tmp_path / "new" / "done.jsonl", []
    found = map_file(job, source, done, progress=lambda *how: seen.append(how))
    worker = RowWorker(job)
    assert read(done) == worker(read(source))
    assert (found.path, found.rows, found.errors, found.resumed) == (str(done), COUNT, 3, 0)
    assert seen == [(rows, COUNT) for rows in range(0, COUNT + 1, 8)]
    assert [path.name for path in done.parent.iterdir()] == ["done.jsonl"]
    # Without a column of ids a row has its number.
    numbered = Job(job.folder, options=OPTIONS, loading=job.loading)
    map_file(numbered, source, tmp_path / "numbered.jsonl")
    assert read(tmp_path / "numbered.jsonl") == RowWorker(numbered)(read(source))


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stopped_at", [0, 8, 24, 40])
@pytest.mark.parametrize("torn", [b"", b'{"completion": "half a li', b"\x00" * 40 + b"\n", b"[]\n"])
def test_a_run_that_stopped_goes_on(
    job: Job, source: Path, tmp_path: Path, stopped_at: int, torn: bytes
) -> None:
    map_file(job, source, tmp_path / "whole.jsonl")

    def stop(rows: int, count: int) -> None:
        if rows == stopped_at:
            raise StoppedError

    done = tmp_path / "done.jsonl"
    with pytest.raises(StoppedError):
        map_file(job, source, done, progress=stop)
    assert not done.exists()
    with (tmp_path / "done.jsonl.partial" / "answers.jsonl").open("ab") as file:
        file.write(torn)
    found = map_file(job, source, done)
    assert found.resumed == stopped_at
    assert done.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not (tmp_path / "done.jsonl.partial").exists()


def test_half_of_what_is_answered_together_is_answered_again(
    job: Job, source: Path, tmp_path: Path
) -> None:
    """So that the same rows are together again: of int8 too the file is the same to a byte."""
    whole, done = tmp_path / "whole.jsonl", tmp_path / "done.jsonl"
    int8 = Job(job.folder, options=OPTIONS, batch_size=2, loading={"variant": "int8", "threads": 1})
    map_file(int8, source, whole)
    seen: list[int] = []

    def stop(rows: int, count: int) -> None:
        if rows == 32:
            raise StoppedError

    with pytest.raises(StoppedError):
        map_file(int8, source, done, progress=stop)
    answers = tmp_path / "done.jsonl.partial" / "answers.jsonl"
    answers.write_bytes(b"".join(answers.read_bytes().splitlines(True)[:27]))
    assert map_file(int8, source, done, progress=lambda rows, _: seen.append(rows)).resumed == 16
    assert seen == [16, 32, 40]
    assert done.read_bytes() == whole.read_bytes()


def test_killed_at_any_time_it_gives_the_same_file(job: Job, source: Path, tmp_path: Path) -> None:
    map_file(job, source, tmp_path / "whole.jsonl")
    done = tmp_path / "done.jsonl"
    flags = ["--id", "id", "--max-new-tokens", "4", "--do-sample", "--batch-size", "1"]
    call = [sys.executable, "-m", "pocketgpt", "map", str(job.folder), str(source), str(done)]
    command = [*call, *flags, "--variant", "fp32", "--threads", "1"]
    answers = tmp_path / "done.jsonl.partial" / "answers.jsonl"
    for wanted in (1, 17):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            until = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < until:
                if answers.exists() and answers.read_bytes().count(b"\n") >= wanted:
                    break
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=60)
    assert done.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_what_is_there_is_not_replaced_unasked(job: Job, source: Path, tmp_path: Path) -> None:
    done = tmp_path / "done.jsonl"
    done.write_text("mine")
    with pytest.raises(OptionError, match="exists; replace it with --overwrite"):
        map_file(job, source, done)
    assert done.read_text() == "mine"
    map_file(job, source, done, overwrite=True)
    assert len(read(done)) == COUNT
    with pytest.raises(OptionError, match="is the file that is read"):
        map_file(job, source, source, overwrite=True)
    (tmp_path / "link.jsonl").symlink_to(source)
    with pytest.raises(OptionError, match="is the file that is read"):
        map_file(job, source, tmp_path / "link.jsonl", overwrite=True)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(OptionError, match="is a folder"):
        map_file(job, source, tmp_path / "folder.jsonl", overwrite=True)


def test_a_part_of_another_run_is_named(job: Job, source: Path, tmp_path: Path) -> None:
    done = tmp_path / "done.jsonl"

    def stop(rows: int, count: int) -> None:
        if rows:
            raise StoppedError

    with pytest.raises(StoppedError):
        map_file(job, source, done, progress=stop)
    before = contents(tmp_path)
    other = Job(job.folder, id_column="id", options={"max_new_tokens": 5}, loading=job.loading)
    with pytest.raises(OptionError) as caught:
        map_file(other, source, done)
    message = str(caught.value)
    for part in (
        "batch_size was 1 and is 16",
        "max_new_tokens was 4 and is 5",
        "do_sample was True and is None",
        "--overwrite",
    ):
        assert part in message
    assert "threads" not in message
    assert contents(tmp_path) == before
    found = map_file(other, source, done, overwrite=True)
    assert (found.rows, found.resumed) == (COUNT, 0)
    assert read(done) == RowWorker(other)(read(source))


def test_other_rows_are_another_run(job: Job, source: Path, tmp_path: Path) -> None:
    done = tmp_path / "done.jsonl"
    with pytest.raises(StoppedError):
        map_file(job, source, done, progress=lambda *_: (_ for _ in ()).throw(StoppedError))
    with source.open("a", encoding="utf-8") as file:
        file.write('{"id": "one more", "prompt": "a"}\n')
    with pytest.raises(OptionError, match="the rows are others; call it"):
        map_file(job, source, done)


def test_two_processes_do_not_write_one_file(job: Job, source: Path, tmp_path: Path) -> None:
    done = tmp_path / "done.jsonl"

    def again(rows: int, count: int) -> None:
        with pytest.raises(OptionError, match="another process's"):
            map_file(job, source, done)

    map_file(job, source, done, progress=again)
    assert len(read(done)) == COUNT


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"id": 1, "prompt": "a"}, {"id": 1, "prompt": "b"}],
            "rows 1 and 2 have one 'id', 1",
        ),
        ([{"id": "a", "prompt": "a"}, {"prompt": "b"}], "row 2, 'id': a row's id should be"),
        ([{"id": 1.5, "prompt": "a"}], "row 1, 'id': a row's id should be"),
        ([{"id": 1, "text": "a"}], r"no column 'prompt' \(id, text\); name it: --column"),
        ([{"id": 1, "prompt": "a", "error": 1}], "row 1 has a column 'error' already"),
        ([{"id": 1, "prompt": "a"}, ["b"]], "line 2: should be an object"),
        ([{"id": 1, "prompt": float("nan")}], "line 1: NaN is no JSON"),
    ],
)
def test_a_file_that_is_no_file_of_rows_is_refused_before_the_work(
    job: Job, tmp_path: Path, rows: list[Any], message: str
) -> None:
    write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(OptionError, match=message):
        map_file(job, tmp_path / "rows.jsonl", tmp_path / "done.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_ids_of_two_kinds_are_two(job: Job, tmp_path: Path) -> None:
    rows = [{"id": 1, "prompt": SENTENCES[0]}, {"id": "1", "prompt": SENTENCES[0]}]
    map_file(job, write(tmp_path / "rows.jsonl", rows), tmp_path / "done.jsonl")
    one, other = read(tmp_path / "done.jsonl")
    assert one["completion"] != other["completion"]


def test_odd_files_are_read(job: Job, tmp_path: Path) -> None:
    odd = tmp_path / "odd.ndjson"
    odd.write_bytes(
        '\ufeff{"id": 1, "prompt": "灯台守"}\r\n\n  \n'.encode()
        + b'{"id": 2, "prompt": "\\ud83d\\ude00"}\n{"id": 3, "prompt": "\\ud800"}'
    )
    map_file(job, odd, tmp_path / "done.jsonl")
    found = read(tmp_path / "done.jsonl")
    assert [row["prompt"] for row in found] == ["灯台守", "😀", "\ud800"]
    assert [row["error"] is None for row in found] == [True, True, False]
    write(tmp_path / "empty.jsonl", [])
    assert map_file(job, tmp_path / "empty.jsonl", tmp_path / "none.jsonl").rows == 0
    assert (tmp_path / "none.jsonl").read_bytes() == b""
    for line in (b"\xff\n", b"{\n", b"[" * 100_000 + b"\n"):
        odd.write_bytes(line)
        with pytest.raises(OptionError, match=r"odd.ndjson, line 1: "):
            map_file(job, odd, tmp_path / "bad.jsonl")


def test_wrong_names_are_refused(job: Job, source: Path, tmp_path: Path) -> None:
    for name in ("rows.csv", "rows"):
        with pytest.raises(OptionError, match=r"should end in \.jsonl or \.parquet"):
            map_file(job, source, tmp_path / name)
    with pytest.raises(OptionError, match=r"nowhere\.jsonl is not there"):
        map_file(job, tmp_path / "nowhere.jsonl", tmp_path / "done.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(OptionError, match="is no plain file"):
        map_file(job, tmp_path / "pipe.jsonl", tmp_path / "done.jsonl")


def test_the_command_line(cli: Cli, tiny_folder: Path, source: Path, tmp_path: Path) -> None:
    done = tmp_path / "done.jsonl"
    call = ["map", tiny_folder, source, done, "--variant", "fp32", "--max-new-tokens", 4]
    code, text, errors = cli(*call, "--id", "id", "--do-sample", "--seed", 5)
    assert (code, text) == (0, "")
    assert "40 rows; 3 with an error, see its column" in errors
    job = Job(tiny_folder, id_column="id", options=OPTIONS, seed=5, loading={"variant": "fp32"})
    assert read(done) == RowWorker(job)(read(source))
    code, text, errors = cli(*call)
    assert (code, text) == (2, "")
    assert "exists; replace it with --overwrite" in errors
    code, text, _ = cli(*call, "--overwrite", "--json")
    assert code == 0
    assert {**json.loads(text), "seconds": 0} == {
        "path": str(done),
        "rows": COUNT,
        "errors": 3,
        "resumed": 0,
        "seconds": 0,
    }


def test_the_command_line_does_every_task(
    cli: Cli, tiny_folder: Path, classifier_folder: Path, tmp_path: Path
) -> None:
    rows = [{"text": sentence, "own": [" a", " b c"]} for sentence in SENTENCES[:3]]
    source = write(tmp_path / "rows.jsonl", rows)
    loading = {"variant": "fp32"}

    def check(job: Job, *flags: object) -> None:
        done = tmp_path / f"{job.task}.jsonl"
        call = ["map", job.folder, source, done, "--task", job.task, "--variant", "fp32"]
        assert cli(*call, *flags, "--overwrite").returncode == 0
        assert read(done) == RowWorker(job)(rows)
        assert {row["error"] for row in read(done)} == {None}

    check(Job(tiny_folder, "score", options={"stride": 9}, loading=loading), "--stride", 9)
    check(Job(classifier_folder, "classify", loading=loading))
    own = Job(tiny_folder, "choose", "text", choices_column="own", loading=loading)
    check(own, "--column", "text", "--choices-column", "own")
    shared = ["--column", "text", "--choice", " a", "--choice", " b", "--normalization", "bytes"]
    options = {"normalization": "bytes"}
    both = (" a", " b")
    check(Job(tiny_folder, "choose", "text", None, options, both, loading=loading), *shared)
    for task, flags, message in (
        ("generate", ["--stride", 3], "the task generate has no option stride"),
        ("score", ["--max-new-tokens", 3], "the task score has no option max_new_tokens"),
        ("sing", [], "task should be one of"),
    ):
        call = ["map", tiny_folder, source, tmp_path / "new.jsonl", "--task", task, *flags]
        code, _, errors = cli(*call)
        assert code == 2
        assert message in errors


def test_the_worker_knows_of_no_engine(tmp_path: Path) -> None:
    code = "import sys, pocketgpt.bulk; print({'ray', 'pyarrow', 'pyspark'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert pocketgpt.bulk.Job is Job
