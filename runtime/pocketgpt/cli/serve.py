"""`pocketgpt serve`: models over HTTP, in the form of OpenAI's API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OptionError
from ..extras import needs_extra
from .console import progress_console
from .loading import Loading, with_loading_flags
from .options import Folder

KEY_VARIABLE = "POCKETGPT_API_KEY"
MEGABYTE = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANYWHERE = ("0.0.0.0", "::", "")


@with_loading_flags("adapter")
def serve(
    folder: Folder,
    name: Annotated[
        str | None,
        typer.Option("--name", help="What requests call the model.  [default: the folder's name]"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME=FOLDER[@VARIANT]",
            help="One more model, or another variant of this one; may be given several times.",
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="NAME=FOLDER",
            help="A PEFT LoRA adapter of FOLDER's model, which requests call NAME; may be given "
            "several times.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", help="The port to listen on; 0 for any that is free.")
    ] = 8000,
    workers: Annotated[int, typer.Option("--workers", help="Processes that share the port.")] = 1,
    slots: Annotated[int, typer.Option("--slots", help="Texts that are computed at once.")] = 16,
    queue: Annotated[
        int, typer.Option("--queue", help="Texts that may wait for a slot; more are refused.")
    ] = 128,
    prefix_cache: Annotated[
        int,
        typer.Option(
            "--prefix-cache",
            metavar="MB",
            help="Memory for ended texts, so that a prompt which begins alike is not computed "
            "again; 0 for none.",
        ),
    ] = 256,
    max_time: Annotated[
        float, typer.Option("--max-time", help="Seconds that a request may take at most.")
    ] = 600.0,
    max_body: Annotated[
        int, typer.Option("--max-body", metavar="BYTES", help="The largest request.")
    ] = MEGABYTE,
    grace: Annotated[
        float, typer.Option("--grace", help="Seconds that requests have to end at a stop.")
    ] = 30.0,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            help=f"A file with API keys, one a line; requests have to bring one. {KEY_VARIABLE} "
            "in the environment is one more.",
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin",
            metavar="ORIGIN",
            help="A web page's origin that may ask from a browser, https://example.org; may be "
            "given several times.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="A further name of this server, where it listens to its own machine alone.",
        ),
    ] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Write a line for each request.")
    ] = False,
    *,
    loading: Loading,
) -> None:
    """Serve a model over HTTP, in the form of OpenAI's API, with a page to try it at /.

    Ctrl-C or SIGTERM ends it: requests that run may end, new ones are refused.
    """
    with needs_extra("server"):
        from ..server.running import address_of, listen
        from ..server.running import serve as serve_here
        from ..server.settings import Limits, ModelSpec, Settings
        from ..server.workers import check_workers, serve_by_workers
    first = ModelSpec(
        folder.resolve().name if name is None else name,
        folder,
        dict(loading.options),
        {key: Path(path) for key, path in map(_pair_of("--adapter"), adapter or [])},
    )
    others = [
        ModelSpec(key, *_folder_and_options(path, loading.options))
        for key, path in map(_pair_of("--model"), model or [])
    ]
    hosts = (*LOOPBACK, *(allow_host or []))
    settings = Settings(
        (first, *others),
        Limits(
            slots=slots,
            queue=queue,
            body=max_body,
            seconds=max_time,
            grace=grace,
            prefix_cache=prefix_cache * MEGABYTE,
        ),
        _read_keys(api_key_file),
        tuple(cors_origin or ()),
        hosts if host in LOOPBACK else None,
        host,
        port,
        workers,
        access_log,
    )
    check_workers(settings)
    _check_folders(settings)
    bound = listen(settings, share=workers > 1)
    address = address_of(bound)
    names = ", ".join(key for spec in settings.models for key in (spec.name, *spec.adapters))
    _say(f"loading {names}; {address}/health says when it is done")
    if host in ANYWHERE and not settings.keys:
        _say("warning: whoever reaches this machine may ask: there is no API key (--api-key-file)")

    def ready() -> None:
        _say(f"serving {names} at {address}/v1 and a page at {address}/")

    if workers > 1:
        serve_by_workers(settings, bound, ready)
    else:
        serve_here(settings, bound, ready)


def _pair_of(flag: str) -> Any:
    def split(text: str) -> tuple[str, str]:
        key, found, path = text.partition("=")
        if not found or not key or not path:
            raise OptionError(f"{flag} should be NAME=FOLDER, not {text!r}")
        return key, path

    return split


def _folder_and_options(path: str, options: Any) -> tuple[Path, dict[str, Any]]:
    """Return the folder and what to load it by: with the variant behind an @, or its default."""
    folder, found, variant = path.rpartition("@")
    if not found or "/" in variant or Path(path).exists():
        folder, variant = path, ""
    kept = {key: value for key, value in options.items() if key not in ("variant", "assistant")}
    return Path(folder), {**kept, "variant": variant or None}


def _read_keys(path: Path | None) -> tuple[str, ...]:
    """Return the API keys, of the file and of the environment."""
    found = [os.environ.get(KEY_VARIABLE, "")]
    if path is not None:
        try:
            found += path.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"--api-key-file cannot be read: {error}") from None
    keys = tuple(key.strip() for key in found if key.strip())
    if path is not None and not keys:
        raise OptionError(f"--api-key-file {path} holds no key: write one a line")
    return keys


def _check_folders(settings: Any) -> None:
    """Refuse a missing folder or variant before anything is begun."""
    from ..folder.opening import open_folder

    for spec in settings.models:
        open_folder(spec.folder, spec.options.get("variant"), adapters=bool(spec.adapters))


def _say(line: str) -> None:
    progress_console.print(line, highlight=False, soft_wrap=True)
