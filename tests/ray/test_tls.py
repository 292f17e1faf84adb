"""TLS between a cluster's processes, on loopback, set up by the very lines of infra/tls.md."""

import http.client
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import listening
from tests.server import end, free, until

pytestmark = pytest.mark.operate

ROOT = Path(__file__).parents[2]
AUTHORITY, NODE, EVERY, IMPATIENT = re.findall(
    r"^```bash\n(.*?)^```", (ROOT / "infra" / "tls.md").read_text(), re.MULTILINE | re.DOTALL
)
DRIVER = """
import ray
ray.init("127.0.0.1:{port}", logging_level="ERROR", log_to_driver=False)

@ray.remote
class Worker:
    def answer(self):
        return 42

worker = Worker.remote()
print("answer", ray.get(worker.answer.remote()), flush=True)
input()
"""
ASKS_H2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
REFUSED_S = 25  # 10 by the lines of the page; all of them at once here, on a busy machine


def shell(lines: str, folder: Path) -> dict[str, str]:
    """Run lines of the page in a folder, and give the environment that they leave."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["bash", "-euc", f"exec 3>&1 >&2\n{lines}\nenv -0 >&3"],
        env={"PATH": os.environ["PATH"], "NODE": "127.0.0.1", "TLS": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(one.split("=", 1) for one in done.stdout.split("\0") if one)


@dataclass
class Cluster:
    """A node with certificates, and what a driver of it has in its environment."""

    home: Path
    port: int
    environment: dict[str, str]
    process: "subprocess.Popen[bytes]"
    asking: set[int]
    metrics: set[int]

    def driver(self, **more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER.format(port=self.port)],
            env=self.environment | more,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hello(self, port: int, certified: bool) -> tuple[bytes, bytes]:
        """The certificate that a port shows who trusts our authority, and what it answers."""
        context = ssl.create_default_context(cafile=self.home / "tls" / "ca.crt")
        context.set_alpn_protocols(["h2"])
        if certified:
            context.load_cert_chain(self.home / "tls/node.crt", self.home / "tls/node.key")
        with (
            socket.create_connection(("127.0.0.1", port), 10) as line,
            context.wrap_socket(line, server_hostname="127.0.0.1") as encrypted,
        ):
            shown = encrypted.getpeercert(binary_form=True) or b""
            try:
                encrypted.sendall(ASKS_H2)
                return shown, encrypted.recv(100)
            except (ssl.SSLError, ConnectionError):
                return shown, b""

    def kind(self, port: int) -> str:
        """What a port asks for: "tls", the "token", or nothing as it has "metrics" alone."""
        try:
            if self.hello(port, certified=True)[1] and not self.hello(port, certified=False)[1]:
                return "tls"
        except ssl.SSLError as error:
            if error.reason == "WRONG_VERSION_NUMBER":
                return self.plain(port)
        except OSError:
            pass
        return ""

    def plain(self, port: int) -> str:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as line:
            line.request("GET", "/metrics")
            answer = line.getresponse()
            if answer.status == 401:
                return "token"
            return "metrics" if re.match(rb"(# |$)", answer.read()) else ""

    def ports(self) -> set[int]:
        return {port for _, port in listening.addresses(listening.family(self.process.pid))}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    home = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))  # socket names end at 107 bytes
    told = shell(AUTHORITY + NODE + EVERY, home / "tls")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        **{name: value for name, value in told.items() if name.startswith("RAY_")},
        "RAY_memory_usage_threshold": "0.98",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # all of it on loopback
    }
    port, client, *http = (free() for _ in range(8))
    dashboard, agent, runtime, node, other, autoscaler = map(str, http)
    own = {"DASHBOARD_METRIC_PORT": other, "AUTOSCALER_METRIC_PORT": autoscaler}
    options = ["--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}"]
    options += [f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"]
    options += [f"--runtime-env-agent-port={runtime}", f"--metrics-export-port={node}"]
    options += ["--num-cpus=2", f"--temp-dir={home / 'ray'}", "--disable-usage-stats"]
    with (home / "log").open("w") as log:
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
        process = subprocess.Popen(
            ray, env=environment | own, stdout=log, stderr=log, start_new_session=True
        )
    hurry = shell(IMPATIENT, home / "tls")
    environment |= {name: value for name, value in hurry.items() if name.startswith("RAY_")}
    found = Cluster(home, port, environment, process, set(http[:3]), set(http[3:]))
    try:
        until(lambda: {port, client, *http} <= found.ports(), 90)
        yield found
    finally:
        end(str(home))
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def test_keys_and_token_are_their_owners_alone(cluster: Cluster) -> None:
    for name in ("ca.key", "node.key", "token"):
        assert stat.S_IMODE((cluster.home / "tls" / name).stat().st_mode) == 0o600


def test_a_driver_with_certificate_and_token_runs_a_task(cluster: Cluster) -> None:
    out, err = cluster.driver().communicate("\n", timeout=60)
    assert out == "answer 42\n", err


def test_who_lacks_one_of_them_is_refused_and_not_left_waiting(cluster: Cluster) -> None:
    other = shell(AUTHORITY + NODE + EVERY, cluster.home / "other")
    paths = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY")
    lacking = {
        "TLS": {"RAY_USE_TLS": "0"},
        "our certificate": {name: other[name] for name in paths},
        "our authority": {"RAY_TLS_CA_CERT": other["RAY_TLS_CA_CERT"]},
        "a token": {"RAY_AUTH_MODE": "disabled"},
    }
    begun = time.monotonic()
    drivers = {lacks: cluster.driver(**more) for lacks, more in lacking.items()}
    for lacks, driver in drivers.items():
        with driver:
            try:
                out, err = driver.communicate("\n", begun + REFUSED_S - time.monotonic())
            finally:
                driver.kill()
        assert "ConnectionError: Failed to connect to Ray cluster" in err, (lacks, err)
        assert (driver.returncode, out) == (1, ""), lacks


def test_the_heads_port_shows_our_certificate_and_asks_for_one(cluster: Cluster) -> None:
    ours = ssl.PEM_cert_to_DER_cert((cluster.home / "tls" / "node.crt").read_text())
    shown, answer = cluster.hello(cluster.port, certified=True)
    assert shown == ours
    assert answer[3] == 4, "settings of HTTP/2, over which gRPC goes"
    assert cluster.hello(cluster.port, certified=False) == (ours, b"")


def test_a_port_without_tls_asks_for_the_token_or_has_metrics_alone(cluster: Cluster) -> None:
    found: dict[str, set[int]] = {"tls": set(), "token": set(), "metrics": set()}
    with cluster.driver() as driver:
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "answer 42\n"
            own = {port for _, port in listening.addresses({driver.pid})}
            for port in cluster.ports() | own:
                kind = cluster.kind(port)
                if port in cluster.ports() | own:  # no worker that has ended meanwhile
                    assert kind, port
                    found[kind].add(port)
        finally:
            driver.kill()
    assert own
    assert own | {cluster.port} <= found["tls"]
    # The driver's, the head's, two of the raylet, the agent's, Ray Client's and the worker's.
    assert len(found["tls"]) >= 7
    assert (found["token"], found["metrics"]) == (cluster.asking, cluster.metrics)
