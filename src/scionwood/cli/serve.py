"""scion serve: a run's exported specialist as a server on this machine."""

from pathlib import Path
from typing import Optional

import typer


def serve(
    run: Path = typer.Argument(..., help="Run folder with an export, or the export folder alone, copied from elsewhere."),
    model: Optional[str] = typer.Option(None, "--model", "-m", help="Which GGUF file: f16, q8_0, ... (default: the one the export names)."),
    host: str = typer.Option("127.0.0.1", "--host", help="Address to listen on; other machines reach it only with an API key."),
    port: int = typer.Option(8765, "--port", "-p", min=0, max=65535, help="Port; 0 takes a free one."),
    api_key_file: Optional[Path] = typer.Option(None, "--api-key-file", help="File with the API key (or set SCION_API_KEY)."),
    deadline_ms: int = typer.Option(500, "--deadline-ms", min=1, max=600_000, help="Milliseconds until the safe default is answered."),
    state: Optional[Path] = typer.Option(None, "--state", help="Folder of late answers (default: STATE_DIRECTORY, else RUN/serving)."),
    max_waiting: int = typer.Option(32, "--max-waiting", min=1, help="Callers in line for the model; more are answered 429."),
    threads: Optional[int] = typer.Option(None, "--threads", min=1, help="Threads of the model (default: all cores)."),
    parallel: int = typer.Option(1, "--parallel", min=1, max=64, help="Requests that the model works on at once."),
    context: Optional[int] = typer.Option(None, "--context", min=256, help="Longest prompt in tokens (default: as in training)."),
    max_tokens: int = typer.Option(256, "--max-tokens", min=1, help="Most tokens of a chat completion."),
    drain_seconds: float = typer.Option(10.0, "--drain-seconds", min=0, help="How long SIGTERM waits for answers that are under way."),
) -> None:
    """Serve a run's exported specialist: typed routes, OpenAI's chat routes, /docs, /metrics. Ready when /readyz says so."""
    import os

    from scionwood.errors import UserError
    from scionwood.serving.artifact import read_artifact
    from scionwood.serving.settings import Serving, api_key
    from scionwood.settings import check
    from scionwood.task import load_task

    artifact = read_artifact(run, model)
    home = artifact.folder.parent if artifact.folder.name == "export" else artifact.folder
    folder = state or Path(os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or home / "serving")
    settings = check({"host": host, "port": port, "api_key": api_key(api_key_file), "deadline_ms": deadline_ms,
                      "longest_deadline_ms": max(60_000, deadline_ms), "state": folder, "max_waiting": max_waiting, "threads": threads,
                      "parallel": parallel,
                      "context": context, "max_tokens": max_tokens, "drain_seconds": drain_seconds}, Serving, "scion serve")
    task = load_task(artifact.task, **artifact.task_options)
    try:
        from scionwood.serving.server import serve_artifact
    except ImportError as e:
        raise UserError(f"scion serve needs a package that is not installed ({e.name}); pip install 'scionwood[serve]'") from None
    serve_artifact(artifact, task, settings)
