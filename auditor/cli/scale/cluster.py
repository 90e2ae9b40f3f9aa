"""Shards of a scan on a Ray cluster, started here or at an address."""

import ipaddress
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from auditor.cli.scale.shard import plain_options
from auditor.errors import AuditError, UsageError
from auditor.options import ScanOptions
from auditor.text import printable

_LOCAL = "ray"
# A worker that is killed is started again so often; what it would still not make is made where the scan was started.
_RETRIES = 2
_MODE, _TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


def check_engine(engine: str) -> None:
    """Raise UsageError for an address that is none, or that is on another machine and asks nobody who they are."""
    if engine == _LOCAL:
        return
    address = urlsplit(engine)
    if address.scheme != _LOCAL or not address.hostname:
        raise UsageError(f"--engine {printable(engine)} is no engine", "give ray, or ray://HOST:PORT")
    if not _is_here(address.hostname) and os.environ.get(_MODE) != "token":
        raise UsageError(
            f"--engine {printable(engine)} is another machine, and whoever reaches it could run programs there",
            "start the cluster with RAY_AUTH_MODE=token, and set RAY_AUTH_MODE=token and the token here too",
        )


def make_on_cluster(
    options: ScanOptions, engine: str, shards: int | None, folder: Path, tell: Callable[[str], None]
) -> None:
    """Let the workers of a cluster make shards, and leave their parts in a folder.

    A shard that fails is told: what it would have made is made afterwards, by the scan itself.

    Parameters
    ----------
    shards
        How many; None is one a processor of the cluster.

    Raises
    ------
    UsageError
        The engine is none, or Ray is not installed.
    AuditError
        The cluster does not answer.
    """
    check_engine(engine)
    if engine == _LOCAL:
        # A cluster of this machine alone still asks for a token: others may share the machine. Ray reads these when it
        # is imported.
        os.environ.setdefault(_MODE, "token")
        os.environ.setdefault(_TOKEN, secrets.token_hex(32))
    ray = _ray()
    try:
        if engine == _LOCAL:
            ray.init(num_cpus=shards, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        else:
            ray.init(engine, logging_level="ERROR")
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AuditError(
            f"no Ray cluster answers at {printable(engine)}: {reason}", "start it, or leave --engine out"
        ) from error
    try:
        count = shards or max(1, int(ray.cluster_resources().get("CPU", 1)))
        _collect(ray, options, count, folder, tell)
    finally:
        ray.shutdown()


def _collect(ray: Any, options: ScanOptions, count: int, folder: Path, tell: Callable[[str], None]) -> None:
    from auditor.content_key import program_key

    run = ray.remote(num_cpus=1, max_retries=_RETRIES)(make_parts)
    given, here = plain_options(options), os.getcwd()
    running = {run.remote(given, index, count, program_key(), here): index for index in range(1, count + 1)}
    tell(f"{count} shards on the cluster")
    while running:
        (done, *_), _ = ray.wait(list(running), num_returns=1)
        index = running.pop(done)
        try:
            parts = ray.get(done)
        except Exception as error:  # noqa: BLE001 - whatever ends a worker, the scan makes its parts itself
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            tell(f"shard {index} of {count} failed, and its parts are made here: {printable(reason, 200)}")
            continue
        _leave(parts, folder)
        tell(f"shard {index} of {count} is there")


def _leave(parts: Mapping[str, bytes], folder: Path) -> None:
    from auditor.report.atomic import replace_file

    # The JSON of a part makes it whole.
    for name in sorted(parts, key=lambda name: name.endswith(".json")):
        if name == Path(name).name and name.endswith((".json", ".safetensors")):
            replace_file(folder / name, parts[name])


def make_parts(options: Mapping[str, Any], index: int, count: int, program: str, where: str) -> dict[str, bytes]:
    """Make a shard on the machine that this runs on, and return its files; `where` is the folder that paths start from.

    Raises
    ------
    AuditError
        The program here is another version, or the shard failed.
    """
    from auditor.content_key import program_key

    if program_key() != program:
        raise AuditError("a worker has another version of fl-audit or of its libraries", "install the same everywhere")
    with tempfile.TemporaryDirectory() as folder:
        told = {"options": dict(options), "shard": [index, count], "out": folder, "copies": True}
        done = subprocess.run(
            [sys.executable, "-m", "auditor.cli.scale.shard_process"],
            input=json.dumps(told),
            cwd=where,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AuditError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        parts = Path(folder) / "unfinished"
        return {path.name: path.read_bytes() for path in parts.iterdir() if path.suffix in (".json", ".safetensors")}


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("Ray is not installed", "pip install 'fl-audit[ray]', or leave --engine out") from error
    return ray
