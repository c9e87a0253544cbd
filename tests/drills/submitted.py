"""The whole system at once: `python -m tests.drills.submitted`.

30 trials are sent to two nodes on loopback addresses as a Ray job, with the study in PostgreSQL and
the files on an S3 server; during the sweep a raylet is killed, and its node joins again. The last
line of standard output is JSON with the result.
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pyarrow.fs import S3FileSystem
from sqlalchemy import create_engine, text

from distributed.study.trials_table import read_trials
from tests.drills.process import ROOT, end, members, name_of
from tests.drills.servers import Server, answers, free_port
from tests.postgres import started_postgres

HEAD, SECOND = "127.0.0.2", "127.0.0.3"
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
TRAINABLE = "ray::Resource"  # beginning of the name of a process that runs a trial


class Watch(threading.Thread):
    """While it runs, records how many trials run on which node."""

    def __init__(self, nodes: dict[str, Server]) -> None:
        super().__init__(daemon=True)
        self.nodes, self.busy, self.done = nodes, Counter[str](), threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.5):
            busy = [name for name, node in self.nodes.items() if _trials(node)]
            self.busy[" and ".join(busy) or "none"] += 1


def _trials(node: Server) -> int:
    process = node.process
    names = [name_of(pid) for pid in members(process.pid)] if process else []
    return sum(name.startswith(TRAINABLE) for name in names)


def node(
    words: list[str], host: str, port: int, folder: Path, environment: dict[str, str]
) -> Server:
    """Return a node of Ray, with one processor and a folder of its own."""
    common = ["--num-cpus=1", "--disable-usage-stats", "--block", f"--temp-dir={folder}"]
    common += [f"--object-store-memory={80 * 2**20}", f"--node-ip-address={host}"]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", *common, *words]
    return Server(ray, port, folder.with_suffix(".log"), host=HEAD, env=environment)


@contextmanager
def storage(folder: Path) -> Iterator[tuple[str, str]]:
    """Run PostgreSQL and an S3 server; yield the addresses of a database and of a folder."""
    port = free_port()
    moto = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = Server(moto, port, folder / "s3.log")
    own = Path(tempfile.mkdtemp(prefix="postgres-"))
    with started_postgres(own) as database:
        server.start()
        try:
            endpoint = f"127.0.0.1:{port}"
            bucket = S3FileSystem(
                endpoint_override=endpoint, scheme="http", allow_bucket_creation=True
            )
            bucket.create_dir("team")
            yield database, f"s3://team/mixunlearn?endpoint_override={endpoint}&scheme=http"
        finally:
            server.stop(signal.SIGTERM)


def main() -> int:
    """Run the drill; return 0 if all results are right."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.submitted", description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    trials: int = parser.parse_args().trials
    os.environ.update(KEYS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ws-")))
        found = drive(folder, trials, stack)
    sys.stdout.write(json.dumps(found) + "\n")
    good = found["exit_code"] == 0 and found["trials"] == trials and not found["running"]
    return 0 if good and len(found["nodes"]) == 2 else 1


def drive(folder: Path, trials: int, stack: ExitStack) -> dict[str, Any]:
    """Send the sweep, kill a raylet when a third is done, and return the study's content."""
    database, files = stack.enter_context(storage(folder))
    address, password = database.replace(":secret@", "@"), "secret"
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, **token, "PATH": binaries, "PGPASSWORD": password}
    gcs, dashboard = free_port(HEAD), free_port(HEAD)
    head = ["--head", f"--port={gcs}", f"--dashboard-host={HEAD}", f"--dashboard-port={dashboard}"]
    head += [f"--dashboard-agent-listen-port={free_port()}"]
    head += [f"--ray-client-server-port={free_port()}"]
    joined = [f"--address={HEAD}:{gcs}", f"--dashboard-agent-listen-port={free_port()}"]
    nodes = {
        "head": node(head, HEAD, gcs, folder / "a", environment),
        "second": node(joined, SECOND, gcs, folder / "b", environment),
    }
    for each in nodes.values():
        each.start()
        stack.callback(each.stop, signal.SIGTERM)
    while not answers(dashboard, HEAD):  # it comes up later than the rest
        time.sleep(0.2)
    watch = Watch(nodes)
    watch.start()
    begin = time.monotonic()
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "mixunlearn", "submit", "experiments/digits_class.yaml"),
            *("--address", f"http://{HEAD}:{dashboard}", "--home", str(folder / "home")),
            *("--trials", str(trials), "--set", "references.seeds=2"),
            *("--set", f"storage.study={address}", "--set", f"storage.files={files}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment,
    ) as command:
        killed = follow(command, nodes["second"], trials // 3, joined)
    watch.done.set()
    return {
        "exit_code": command.returncode,
        "seconds": round(time.monotonic() - begin),
        "killed": killed,
        "nodes": [name for name in nodes if any(name in busy for busy in watch.busy)],
        "half_seconds_busy": dict(watch.busy),
        **look(folder / "home", database),
    }


def follow(command: subprocess.Popen[str], second: Server, after: int, joined: list[str]) -> int:
    """Show the job's output; kill the second node's raylet after a number of trials."""
    killed = 0
    assert command.stdout
    for line in command.stdout:
        sys.stderr.write(line)
        if not killed and line.startswith(f"trials: {after} of"):
            for pid in second.pids("raylet"):
                end(pid)
                killed += 1
            second.stop(signal.SIGKILL)
            second.start()
    return killed


def look(home: Path, database: str) -> dict[str, Any]:
    """Return the content of the study at the end."""
    (table,) = home.glob("studies/*/trials.parquet")
    rows = read_trials(table)
    with create_engine(database).connect() as connection:
        running = connection.execute(
            text("SELECT count(*) FROM trials WHERE state = 'RUNNING'")
        ).scalar()
    return {
        "trials": len({row["trial"] for row in rows}),
        "states": Counter(str(row["state"]) for row in rows),
        "running": running,
    }


if __name__ == "__main__":
    sys.exit(main())
