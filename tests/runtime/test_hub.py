"""Models of the Hugging Face hub, by huggingface_hub's own code over a hub on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

import pocketgpt
from pocketgpt import ModelFolderError, OptionError
from pocketgpt.folder import hub as module
from pocketgpt.folder.hub import HubModel, located, no_variant
from pocketgpt.folder.manifest import read_manifest, write_manifest
from pocketgpt.folder.verification import verify_files

from .hub_server import TOKEN, Hub, Repo, files_of, hub_at_work

pytest.importorskip("huggingface_hub")

Agent: TypeAlias = "subprocess.Popen[str]"

NAME = "someone/tiny"
PROMPT = "The lighthouse keeper"


# Runs command lines one after the other: starting Python for each would take minutes in all.
AGENT = """
import contextlib, io, json, os, sys
from huggingface_hub import constants
from pocketgpt.cli import main

for line in sys.stdin:
    asked = json.loads(line)
    os.chdir(asked["folder"])
    os.environ.pop("HF_TOKEN", None)
    os.environ.update(asked["environment"])
    constants.HF_HUB_CACHE = asked["cache"]
    sys.argv = ["pocketgpt", *asked["arguments"]]
    code, texts = 0, [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with contextlib.redirect_stdout(texts[0]), contextlib.redirect_stderr(texts[1]):
        try:
            main()
        except SystemExit as end:
            code = end.code
    for text in texts:
        text.seek(0)
    print(json.dumps([code, *(text.read() for text in texts)]), flush=True)
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Hub]:
    with hub_at_work() as hub:
        yield hub


def environment(hub: Hub, cache: Path) -> dict[str, str]:
    """Return the environment of a process whose hub and cache these are."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
        "HF_ENDPOINT": hub.address,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="module")
def agent(running: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """A process of huggingface_hub's, which reads its hub's address when it is imported."""
    with subprocess.Popen(
        [sys.executable, "-c", AGENT],
        env=environment(running, tmp_path_factory.mktemp("cache")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def hub(running: Hub, tiny_folder: Path) -> Hub:
    """A hub with the tiny folder as someone/tiny."""
    running.forget()
    running.repos[NAME] = Repo()
    running.repos[NAME].commit(files_of(tiny_folder))
    return running


class Client:
    """Runs the command line in a folder and with a cache of its own."""

    def __init__(self, hub: Hub, agent: Agent, root: Path) -> None:
        self.hub, self.agent = hub, agent
        self.cache, self.folder = root / "cache", root / "here"
        self.folder.mkdir()

    def run(self, *arguments: str | Path, **environment: str) -> tuple[int, str, str]:
        """Return the exit code, standard output and standard error."""
        asked = {
            "arguments": [*map(str, arguments)],
            "folder": str(self.folder),
            "cache": str(self.cache),
            "environment": environment,
        }
        assert self.agent.stdin is not None
        assert self.agent.stdout is not None
        print(json.dumps(asked), file=self.agent.stdin, flush=True)
        code, out, err = json.loads(self.agent.stdout.readline())
        return code, out, err

    def says(self, *arguments: str | Path, **environment: str) -> str:
        code, out, err = self.run(*arguments, **environment)
        assert code == 0, err
        return out

    def fails(self, *arguments: str | Path, code: int = 1, **environment: str) -> str:
        return the_error(self.run(*arguments, **environment), code)

    def apart(self, *arguments: str, **changes: str) -> tuple[int, str, str]:
        """Run in a process of its own, in another environment."""
        done = subprocess.run(
            [sys.executable, "-m", "pocketgpt", *arguments],
            env={**environment(self.hub, self.cache), **changes},
            cwd=self.folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


def the_error(finished: tuple[int, str, str], code: int) -> str:
    """Return the one line of a failure, whatever bars of progress are before it."""
    assert finished[0] == code, finished
    lines = finished[2].splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "Traceback" not in finished[2]
    return lines[-1]


@pytest.fixture
def client(hub: Hub, agent: Agent, tmp_path: Path) -> Client:
    return Client(hub, agent, tmp_path)


GENERATE = ("generate", NAME, PROMPT, "--max-new-tokens", "8")


def test_a_model_is_downloaded_and_taken_from_the_cache(
    hub: Hub, client: Client, tiny_folder: Path
) -> None:
    """Of its files those that the variant takes; the next time without the network."""
    expected = pocketgpt.load(tiny_folder, "q4").generate(PROMPT, max_new_tokens=8).text
    expected = expected.strip()
    assert client.says(*GENERATE, "--variant", "q4").strip() == expected
    names = {line.split("/", 1)[1] for line in hub.downloads()}
    q4 = {record.path for record in read_manifest(tiny_folder).variants["q4"].all_files}
    read = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names == {"pocketgpt.json", *read, *q4}

    hub.asked.clear()
    client.says(*GENERATE, "--variant", "q4")
    assert hub.downloads() == []
    assert [line.split()[0] for line in hub.asked] == ["HEAD"]  # is there a newer commit
    code, out, _ = client.apart(*GENERATE, "--variant", "q4", HF_HUB_OFFLINE="1")
    assert (code, out.strip()) == (0, expected)
    assert len(hub.asked) == 1
    away = client.apart(*GENERATE, "--variant", "fp32", HF_HUB_OFFLINE="1")
    line = the_error(away, 1)
    assert "cache has no onnx/model.onnx" in line


def test_a_folder_goes_before(client: Client, hub: Hub, tiny_folder: Path) -> None:
    shutil.copytree(tiny_folder, client.folder / NAME)
    client.says(*GENERATE)
    assert hub.asked == []
    line = client.fails(*GENERATE, "--revision", "main", code=2)
    assert "is on this disk, where it has no revision main" in line


def test_revisions(client: Client, hub: Hub, tiny_folder: Path) -> None:
    older = replace(read_manifest(tiny_folder), source="the older one")
    files = files_of(tiny_folder)
    fields = {**json.loads(files["pocketgpt.json"]), "source": older.source}
    files["pocketgpt.json"] = json.dumps(fields).encode()
    number = hub.repos[NAME].commit(files, "v1")
    for name in (f"{NAME}@v1", f"{NAME}@{number}"):
        assert json.loads(client.says("inspect", name, "--json"))["source"] == "the older one"
    assert json.loads(client.says("inspect", NAME, "--json"))["source"] != "the older one"
    client.says(*GENERATE, "--revision", "v1")
    assert "has no revision v2 on the hub" in client.fails(*GENERATE, "--revision", "v2")
    both = client.fails("generate", f"{NAME}@v1", PROMPT, "--revision", "v2", code=2)
    assert "is of revision v1, and v2 was asked for" in both


def test_every_verb_takes_it(client: Client, hub: Hub, tiny_folder: Path) -> None:
    """What a verb does not need is not downloaded."""
    client.says("inspect", NAME)
    client.says("devices", NAME)
    assert not any("onnx" in line for line in hub.downloads())
    assert "int8: ok" in client.says("verify", NAME).replace("fp32, int8, q4", "int8")
    assert json.loads(client.says("verify", NAME, "--json"))["failures"] == []
    text = client.folder / "text.txt"
    text.write_text(PROMPT * 4, "utf-8")
    client.says("score", NAME, text)
    client.says("choose", NAME, PROMPT, " a", " b")
    client.says("inspect", NAME, "--profile")


def test_a_verb_that_writes_refuses_it(client: Client) -> None:
    line = client.fails("quantize", NAME, "int8", code=2)
    assert f"hf download {NAME} --local-dir FOLDER" in line


def test_what_is_not_there(client: Client, hub: Hub, tiny_folder: Path) -> None:
    files = files_of(tiny_folder)
    hub.repos["someone/checkpoint"] = Repo()
    hub.repos["someone/checkpoint"].commit({"config.json": files["config.json"]})
    hub.repos["someone/torn"] = Repo()
    hub.repos["someone/torn"].commit({n: c for n, c in files.items() if n != "tokenizer.json"})
    hub.repos["someone/hidden"] = Repo(private=True)
    hub.repos["someone/hidden"].commit(files)
    for name, expected in {
        "someone/none": "someone/none is neither a folder nor a model on the hub",
        "someone/hidden": "HF_TOKEN",
        "someone/checkpoint": "has no pocketgpt.json, so it is not a model folder",
        "someone/torn": "lacks tokenizer.json on the hub, which its pocketgpt.json lists",
    }.items():
        assert expected in client.fails("generate", name, PROMPT)
    assert "no variant 'q8'" in client.fails(*GENERATE, "--variant", "q8", code=2)
    client.says("generate", "someone/hidden", PROMPT, HF_TOKEN=TOKEN)


def test_what_was_tampered_with_is_refused(client: Client, hub: Hub, tiny_folder: Path) -> None:
    files = files_of(tiny_folder)
    files["onnx/model_q4.onnx_data"] = files["onnx/model_q4.onnx_data"][::-1]
    hub.repos[NAME].commit(files)
    assert "model_q4.onnx_data was altered" in client.fails("verify", NAME)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ModelFolderError, match=r"someone/tiny is not a folder; .*pocketgpt\[hub\]"):
        pocketgpt.load(NAME)


def test_a_slip_in_a_paths_name_asks_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(module, "_file", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(ModelFolderError, match="models/gtp2 is not a folder; 'pocketgpt export'"):
        pocketgpt.load("models/gtp2")


@pytest.mark.parametrize(
    "name", ["tiny", "./some/tiny", "some/tiny.pocketgpt", "/some/tiny", "some/tiny/q4", "~/tiny"]
)
def test_paths_are_no_names_on_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert HubModel.of(name) is None or name == "./some/tiny"  # of which Path makes some/tiny
    assert HubModel.of("some/tiny@a/b") == HubModel("some/tiny", "a/b")


def test_revisions_are_the_hubs(tiny_folder: Path) -> None:
    with pytest.raises(OptionError, match="on this disk"):
        located(tiny_folder, no_variant, revision="main")


class TestPush:
    PUSHED = "me/tales"

    def downloaded(self, hub: Hub, tmp_path: Path, revision: str = "main") -> Path:
        """Write what the hub has to a folder."""
        known = hub.repos[self.PUSHED].files(revision)
        assert known is not None
        folder = tmp_path / f"downloaded-{revision}"
        for path, content in known[1].items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    def test_all(self, client: Client, hub: Hub, tiny_folder: Path, tmp_path: Path) -> None:
        """What comes back is whole, speaks of itself by its name, and can be loaded by it."""
        said = client.says("push", tiny_folder, self.PUSHED, HF_TOKEN=TOKEN)
        assert f"/{self.PUSHED}/commit/" in said
        folder = self.downloaded(hub, tmp_path)
        assert verify_files(folder).failures == ()
        before, after = files_of(tiny_folder), files_of(folder)
        assert after.keys() == before.keys() | {".gitattributes"}
        differing = {name for name in before if before[name] != after[name]}
        assert differing == {"pocketgpt.json", "README.md"}
        assert f'pocketgpt.load("{self.PUSHED}"' in (folder / "README.md").read_text("utf-8")
        assert str(tiny_folder.parent) not in (folder / "pocketgpt.json").read_text("utf-8")
        assert read_manifest(folder).source == Path(read_manifest(tiny_folder).source).name
        client.says("generate", self.PUSHED, PROMPT)
        assert "POST /api/validate-yaml" in hub.asked

    def test_some_variants(
        self, client: Client, hub: Hub, tiny_folder: Path, tmp_path: Path
    ) -> None:
        client.says("push", tiny_folder, self.PUSHED, HF_TOKEN=TOKEN)
        client.says(
            *("push", tiny_folder, self.PUSHED, "--variant", "q4", "--variant", "int8"),
            *("--private", "--json"),
            HF_TOKEN=TOKEN,
        )
        folder = self.downloaded(hub, tmp_path)
        assert verify_files(folder).failures == ()
        assert list(read_manifest(folder).variants) == ["q4", "int8"]
        assert not (folder / "onnx" / "model.onnx").exists()
        assert "model.onnx`" not in (folder / "README.md").read_text("utf-8")

    def test_a_branch_and_a_card_of_ones_own(
        self, client: Client, hub: Hub, tiny_copy: Path, tmp_path: Path
    ) -> None:
        card = "---\nlicense: mit\n---\n# Mine\n"
        (tiny_copy / "README.md").write_text(card, "utf-8")
        client.says("push", tiny_copy, self.PUSHED, "--revision", "v1", HF_TOKEN=TOKEN)
        folder = self.downloaded(hub, tmp_path, "v1")
        assert (folder / "README.md").read_text("utf-8") == card
        assert verify_files(folder).failures == ()
        assert not (self.downloaded(hub, tmp_path) / "onnx").exists()

    def test_an_older_folder(
        self, client: Client, hub: Hub, tiny_copy: Path, tmp_path: Path
    ) -> None:
        write_manifest(tiny_copy, replace(read_manifest(tiny_copy), companions=()))
        client.says("push", tiny_copy, self.PUSHED, HF_TOKEN=TOKEN)
        assert pocketgpt.load(self.downloaded(hub, tmp_path), "q4").generate(PROMPT).text

    def test_refusals(self, client: Client, hub: Hub, tiny_copy: Path) -> None:
        assert "is no name on the hub" in client.fails("push", tiny_copy, "tales", code=2)
        assert "does not let you write me/tales" in client.fails("push", tiny_copy, self.PUSHED)
        assert "is not a folder" in client.fails("push", "nowhere", self.PUSHED, HF_TOKEN=TOKEN)
        line = client.fails("push", tiny_copy, self.PUSHED, "--variant", "q2", code=2)
        assert "no variant 'q2'" in line
        (tiny_copy / "onnx" / "model_q4.onnx").write_bytes(b"")
        assert "has 0 bytes" in client.fails("push", tiny_copy, self.PUSHED, HF_TOKEN=TOKEN)
        assert self.PUSHED not in hub.repos
