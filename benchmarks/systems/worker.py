"""What every system is asked, in a process of its own; its answer is one line of JSON.

A system is a module `{name}_system` with

    RUNS_ON                                 distributions that running needs, the runtime first
    FOLDERS                                 folders it needs besides; may be missing
    prepare(checkpoint, folder, work)       converts once, by the system's own tool
    files(work, folder, kind)               what lies on disk of a converted model
    versions()                              where distributions do not say it all; may be missing
    open_engine(work, folder, kind, threads)

and what it opens has `batches`, false where it takes one text at a time, `pid`, where another
process computes, and

    run(texts, count) -> list of lists      `count` greedy tokens after each text, past any EOS
    logits(ids) -> [tokens, vocabulary]     float32; may be missing

Texts are token ids, those of one call of one length.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def footprint(system: Any, arguments: argparse.Namespace) -> dict[str, int]:
    """Return the bytes of the model, and of all that runs it."""
    from systems.footprint import installed_bytes, size_of

    paths = system.files(arguments.work, arguments.folder, arguments.kind)
    others = sum(map(size_of, getattr(system, "FOLDERS", ())))
    return {
        "disk": sum(map(size_of, paths)),
        "installed": installed_bytes(system.RUNS_ON) + others,
    }


def speed(system: Any, engine: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of everything in the plan, and the versions of what was measured."""
    from systems.footprint import versions
    from systems.measuring import ids_of, measure_speed

    engine.run([ids_of(32, arguments.vocab_size)], 1)
    to_first = time.time() - arguments.started
    found = measure_speed(engine, arguments.plan, arguments.vocab_size)
    found["seconds"]["start to first token"] = to_first
    others = getattr(system, "versions", dict)
    return {**found, "versions": {**versions(system.RUNS_ON), **others()}}


def memory(system: Any, engine: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the memory that the job took, and what lies on disk."""
    from systems.measuring import measure_memory

    found = measure_memory(engine, arguments.plan, arguments.vocab_size)
    return {**found, **footprint(system, arguments)}


def serve_logits(engine: Any) -> None:
    """Answer lines of JSON, `[ids, count]`, with float32 logits of the last `count` ids.

    Bytes go to where standard output was: what libraries print there must not mix with them.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        ids, count = json.loads(line)
        answers.write(engine.logits(ids)[-count:].astype("<f4").tobytes())
        answers.flush()


def parsed() -> argparse.Namespace:
    """Read the command line."""
    from systems.measuring import Plan

    parser = argparse.ArgumentParser()
    parser.add_argument("system")
    parser.add_argument("doing", choices=["prepare", "footprint", "speed", "memory", "logits"])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--kind")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--started", type=float)
    parser.add_argument("--plan", type=lambda text: Plan(**json.loads(text)), default=Plan())
    arguments = parser.parse_args()
    config = json.loads((arguments.checkpoint / "config.json").read_text("utf-8"))
    arguments.vocab_size = config["vocab_size"]
    return arguments


def main() -> None:
    arguments = parsed()
    system = importlib.import_module(f"systems.{arguments.system}_system")
    if arguments.doing == "prepare":
        arguments.work.mkdir(parents=True, exist_ok=True)
        system.prepare(arguments.checkpoint, arguments.folder, arguments.work)
        return
    if arguments.doing == "footprint":
        print(json.dumps(footprint(system, arguments)), flush=True)
        return
    engine = system.open_engine(arguments.work, arguments.folder, arguments.kind, arguments.threads)
    if arguments.doing == "logits":
        serve_logits(engine)
    else:
        ask = {"speed": speed, "memory": memory}[arguments.doing]
        print(json.dumps(ask(system, engine, arguments)), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
