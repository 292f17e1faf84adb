"""A cluster of several nodes on this machine, started by the commands in cluster.yaml.

Each node is what `ray start` makes of the command, the environment, the resources and the labels
that the cluster launcher would have given it, but for what one machine cannot have twice: ports,
folders, cores. It listens on loopback, and there is no autoscaler.
"""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysynth.remote import Client
from raysynth.serving.tokens import Token, add
from tests.conftest import Ended
from tests.server import free, until

REPOSITORY = Path(__file__).parents[2]
CONFIG: dict[str, Any] = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
# A driver looks for the raylet of its machine among all processes it sees: so that a node's own
# see that node alone, and end with it, each has a process namespace, as a machine would.
APART = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
if os.getuid():
    APART[1:1] = ["--user", "--map-root-user"]
# Of one machine: every node has its own.
ALTERED = {
    "port", "dashboard-port", "metrics-export-port", "object-spilling-directory",
    "autoscaling-config",
}  # fmt: skip


@dataclass
class Cluster:
    """The nodes, and the commands of somebody who has the token."""

    home: Path
    gcs: int
    dashboard: int
    client: int
    environment: dict[str, str]
    head: dict[str, Any]  # more options of its
    nodes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"

    @property
    def token(self) -> str:
        return (self.home / "token").read_text()

    def start(self, kind: str, cpus: int, again: int | None = None) -> None:
        """Start a node of a type that cluster.yaml has, with so many cores.

        `again` is the number of one that has ended, whose place it takes.
        """
        head, number = kind == CONFIG["head_node_type"], len(self.nodes)
        number = number if again is None else again
        command = CONFIG["head_start_ray_commands" if head else "worker_start_ray_commands"][-1]
        command = re.sub(r" --([a-z-]+)=\S+", self._kept, command)
        options = {
            "block": None,
            "node-ip-address": f"127.0.0.{2 + number}",  # 127.0.0.1 is every node's
            "metrics-export-port": free(),
            "dashboard-agent-listen-port": free(),  # what takes jobs; else one a machine
            "object-spilling-directory": self.home / "spill",
            "object-store-memory": 120_000_000,
            "temp-dir": self.home / f"{number}",
        }
        if head:
            options |= {"port": self.gcs, "dashboard-port": self.dashboard}
            options |= {"ray-client-server-port": self.client} | self.head
        command = command.replace("$RAY_HEAD_IP:6379", f"127.0.0.2:{self.gcs}")
        for name, value in options.items():
            command += f" --{name}" + ("" if value is None else f"={value}")
        about = CONFIG["available_node_types"][kind]
        given = {
            "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": cpus}),
            "RAY_OVERRIDE_LABELS": json.dumps(about["labels"]),
        }
        with (self.home / f"{number}.log").open("ab") as log:
            node = subprocess.Popen(
                # The shell stays, the first of its namespace, which buries orphans: Ray takes a
                # process that nobody has waited for to be running still.
                [*APART, "bash", "-c", f"{command}; exit $?"],
                env=self.environment | given,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes[number:] = [node, *self.nodes[number + 1 :]]

    def wait(self) -> None:
        """Until all nodes that were started and have not ended are known."""
        count = sum(node.poll() is None for node in self.nodes)
        until(lambda: sum(one["state"] == "ALIVE" for one in self.listed("nodes")) == count, 60)

    def _kept(self, option: "re.Match[str]") -> str:
        return "" if option[1] in ALTERED else option[0]

    def run(self, *words: object) -> Ended:
        """`raysynth` with these words, in this process, as somebody with a tunnel to the head."""
        from raysynth.cli import main

        out, err, asked = io.StringIO(), io.StringIO(), sys.argv
        handler = signal.getsignal(signal.SIGTERM)
        sys.argv = ["raysynth", *map(str, words), "--address", self.address]
        try:
            with chdir(self.home), redirect_stdout(out), redirect_stderr(err):
                main()
        except SystemExit as end:
            return Ended(int(end.code or 0), out.getvalue(), err.getvalue())
        finally:
            sys.argv = asked
            signal.signal(signal.SIGTERM, handler)
        raise AssertionError("a command ends with its code")

    def told(self, *words: object) -> Any:
        end = self.run(*words, "--json")
        assert end.code == 0, end.err
        return json.loads(end.out.splitlines()[-1])

    def ask(
        self, path: str, data: Any = None, address: str = "", **headers: str
    ) -> tuple[int, bytes]:
        """What the dashboard, or what is at `address`, answers to who has no token."""
        body = None if data is None else json.dumps(data).encode()
        sent = {"Content-Type": "application/json", **headers}
        asked = urllib.request.Request(f"{address or self.address}{path}", body, sent)
        if data is not None:
            asked.method = "PUT" if "serve" in path else "POST"
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def get(self, path: str, data: Any = None) -> bytes:
        """What it answers to who has the token."""
        status, found = self.ask(path, data, Authorization=f"Bearer {self.token}")
        assert status == 200, (path, status, found[:500])
        return found

    def listed(self, what: str) -> list[dict[str, Any]]:
        """All nodes, actors or tasks there are or were."""
        found = json.loads(self.get(f"/api/v0/{what}?detail=1&limit=10000"))
        rows: list[dict[str, Any]] = found["data"]["result"]["result"]
        return rows

    def serve(self) -> tuple[str, Client]:
        """The application of infra/serve.yaml, on runs/: a token of it, and a client who has it."""
        told = yaml.safe_load((REPOSITORY / "infra" / "serve.yaml").read_text())
        port, file = free(), self.home / "tokens.json"
        secret = add(file, Token("somebody", ""))
        told["http_options"]["port"] = port
        (application,) = told["applications"]
        application["args"] |= {
            "runs": str(self.home / "runs"),
            "tokens": str(file),
            "state": str(self.home / "state"),
        }
        self.get("/api/serve/applications/", told)

        def running() -> bool:
            found = json.loads(self.get("/api/serve/applications/"))["applications"]
            state = found.get("raysynth", {}).get("status")
            assert state not in ("DEPLOY_FAILED", "UNHEALTHY"), found
            return bool(state == "RUNNING")

        until(running, 120)
        return secret, Client(f"http://127.0.0.1:{port}", secret)

    def said(self, job: str) -> list[str]:
        """The messages that a job logged."""
        lines = self.run("logs", job).out.splitlines()
        return [str(json.loads(line)["message"]) for line in lines if line.startswith("{")]

    def kill(self, number: int) -> None:
        """Kill a node, and with it all of its processes."""
        self.nodes[number].kill()
        self.nodes[number].wait(30)

    def drain(self, number: int, seconds: int) -> None:
        """Tell the cluster that a node will be taken away in so many seconds."""
        (node,) = (
            one["node_id"]
            for one in self.listed("nodes")
            if one["node_ip"] == f"127.0.0.{2 + number}" and one["state"] == "ALIVE"
        )
        words = ["drain-node", f"--address=127.0.0.2:{self.gcs}", f"--node-id={node}"]
        words += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
        words += [f"--deadline-remaining-seconds={seconds}"]
        ray = Path(sys.executable).parent / "ray"
        subprocess.run([ray, *words], env=self.environment, capture_output=True, check=True)

    def processes(self, title: str) -> dict[int, int]:
        """Processes whose title has `title` in it, and the number of the node that each is of."""
        homes = {number: _space(node.pid, "pid_for_children") for number, node in self.alive()}
        found: dict[int, int] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
            except OSError:  # it has ended
                continue
            space = _space(int(entry.name)) if title in words else ""
            mine = (number for number, home in homes.items() if space and space == home)
            found |= {int(entry.name): number for number in mine}
        return found

    def alive(self) -> "list[tuple[int, subprocess.Popen[bytes]]]":
        """The nodes that have not ended, each with its number."""
        return [(number, node) for number, node in enumerate(self.nodes) if node.poll() is None]

    def end(self) -> None:
        """Kill every node, and with it all of its processes."""
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.wait(30)


def _space(pid: int, name: str = "pid") -> str:
    """The process namespace of a process, or none of one that has ended."""
    try:
        return str(Path(f"/proc/{pid}/ns/{name}").readlink())
    except OSError:
        return ""


@contextmanager
def cluster(
    kinds: Mapping[str, tuple[int, ...]], head: Mapping[str, Any] | None = None, **more: str
) -> Iterator[Cluster]:
    """A head, and a node for each number of cores of each kind.

    `head` are options of the head's, `more` is for everyone's environment.
    """
    if shutil.which(APART[0]) is None or subprocess.run([*APART, "true"], check=False).returncode:
        pytest.skip("no process namespaces here; needs Linux, and the right to make them")
    home = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))  # socket names end at 107 bytes
    (home / "token").touch(0o600)
    # This process's own: Ray reads it once.
    (home / "token").write_text(Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text())
    options = [one.partition("=")[2] for one in CONFIG["docker"]["run_options"] if "--env=" in one]
    environment = {
        **os.environ,
        **dict(one.split("=", 1) for one in options),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "RAY_AUTH_TOKEN_PATH": str(home / "token"),
        "RAY_memory_usage_threshold": "0.98",
        **more,
    }
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        environment.pop(name, None)
    found = Cluster(home, free(), free(), free(), environment, dict(head or {}))
    try:
        found.start("head", 0)
        until(lambda: found.run("jobs").code == 0, 90)
        for kind, nodes in kinds.items():
            for cpus in nodes:
                found.start(kind, cpus)
        found.wait()
        yield found
    finally:
        found.end()
        shutil.rmtree(home, ignore_errors=True)
