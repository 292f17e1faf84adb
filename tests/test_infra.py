"""Images, manifests and policies: what they must hold to, without a cluster, a store or a network.

Manifests are held to the schemas of Kubernetes and of KubeRay (`kuberay`), and to what must never
be: a public port, a pod of root's, a secret's value, an image without a release.
"""

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase, translate
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests import kuberay

pytestmark = [  # of Ray's and pydantic's own doing, where they are imported
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*"),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:pydantic\..*"),
]

ROOT = Path(__file__).parents[1]
INFRA = ROOT / "infra"
DOCKERFILE = (INFRA / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = INFRA / "requirements.txt"

# -- manifests ------------------------------------------------------------------------------------

FOLDERS = ("base", "cluster", "serving", "training", "monitoring")


def manifests(folder: str) -> list[dict[str, Any]]:
    """What a folder's kustomization names."""
    path = INFRA / "kuberay" / folder
    listed = yaml.safe_load((path / "kustomization.yaml").read_text())["resources"]
    return [one for name in listed for one in yaml.safe_load_all((path / name).read_text())]


ALL = {f"{one['kind']}/{one['metadata']['name']}": one for at in FOLDERS for one in manifests(at)}
CLUSTER = ALL["RayCluster/training"]["spec"]
JOB, SERVICE = ALL["RayJob/train-customers"]["spec"], ALL["RayService/serving"]["spec"]
CLUSTERS = (CLUSTER, JOB["rayClusterSpec"], SERVICE["rayClusterConfig"])


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a manifest."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from nodes(inner)


def pods(value: Any) -> list[dict[str, Any]]:
    """The templates of pods in a manifest."""
    found = [one for one in nodes(value) if "containers" in one.get("spec", {})]
    assert found or "containers" not in str(value)
    return found


PODS = [pod for one in ALL.values() for pod in pods(one)]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]


def check(manifest: dict[str, Any]) -> None:
    """Raise `AssertionError` for what the API would refuse, or drop."""
    if (manifest["apiVersion"], manifest["kind"]) in kuberay.KINDS:
        assert not list(kuberay.faults(manifest))
        return
    try:
        kubernetes_validate.validate(manifest, kuberay.KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise AssertionError(error.message) from None


@pytest.mark.parametrize("name", ALL)
def test_manifests_are_as_their_schemas_have_them(name: str) -> None:
    check(ALL[name])


def altered(value: Any) -> Iterator[tuple[str, Any]]:
    """A manifest with each of its settings' names misspelt in turn, and which it was.

    Names that are the user's own are left: labels, start parameters, resources, and so on.
    """
    free = {
        *("labels", "matchLabels", "annotations", "rayStartParams", "requests", "limits"),
        *("selector", "nodeSelector", "stringData"),
    }
    found = list(nodes(value))
    own = [id(one[name]) for one in found for name in free if isinstance(one.get(name), dict)]
    for at, one in enumerate(found):
        for name in [] if id(one) in own else one:
            wrong = copy.deepcopy(value)
            place = list(nodes(wrong))[at]
            place[f"{name}s"] = place.pop(name)
            yield name, wrong


@pytest.mark.parametrize(
    "name", ["RayCluster/training", "RayJob/train-customers", "RayService/serving"]
)
def test_a_misspelt_field_of_a_custom_resource_is_refused(name: str) -> None:
    manifest = ALL[name]
    seen = set()
    for field, wrong in altered(_shared_once(manifest)):
        if field in ("apiVersion", "kind"):
            continue
        seen.add(field)
        assert list(kuberay.faults(wrong)), f"{name}: {field} misspelt is taken"
    assert {"authOptions", "minReplicas", "runAsNonRoot", "containerPort"} <= seen


def _shared_once(value: Any) -> Any:
    """The manifest with nothing in two places at once, as YAML's anchors would have it."""
    return json.loads(json.dumps(value))


def test_a_misspelt_field_of_kubernetes_itself_is_refused() -> None:
    wrong = copy.deepcopy(ALL["StatefulSet/raysynth-redis"])
    wrong["spec"]["template"]["spec"]["securityContext"]["runAsNonroot"] = True
    with pytest.raises(AssertionError, match="runAsNonroot"):
        check(wrong)


def test_start_parameters_are_options_of_ray_start() -> None:
    from ray.scripts.scripts import start

    options = {name for parameter in start.params for name in parameter.opts}
    for one in (group for spec in CLUSTERS for group in nodes(spec) if "rayStartParams" in group):
        assert {f"--{name}" for name in one["rayStartParams"]} <= options


def test_kustomizations_name_every_file_and_one_place_for_images() -> None:
    for at in FOLDERS:
        folder = INFRA / "kuberay" / at
        found = yaml.safe_load((folder / "kustomization.yaml").read_text())
        assert {path.name for path in folder.iterdir()} == {
            "kustomization.yaml",
            *found["resources"],
        }
        assert found["namespace"] == ALL["Namespace/raysynth"]["metadata"]["name"]
        ours = [box for one in manifests(at) for pod in pods(one) for box in containers(pod)]
        uses = any(box["image"].startswith("raysynth") for box in ours)
        assert found.get("components", []) == (["../images"] if uses else [])
    images = yaml.safe_load((INFRA / "kuberay/images/kustomization.yaml").read_text())["images"]
    assert {f"{one['name']}:{one['newTag']}" for one in images} == {
        box["image"] for pod in PODS for box in containers(pod) if "raysynth" in box["image"]
    }


def test_a_job_has_the_cluster_that_stays_but_for_what_a_head_survives_by() -> None:
    apart = {"gcsFaultToleranceOptions", "upgradeStrategy"}
    kept = {name: value for name, value in CLUSTER.items() if name not in apart}
    assert kept == JOB["rayClusterSpec"]


# -- what must never be ---------------------------------------------------------------------------


def test_no_port_is_public() -> None:
    for manifest in ALL.values():
        assert manifest["kind"] != "Ingress"
        for one in nodes(manifest):
            assert one.get("type") not in ("LoadBalancer", "NodePort", "ExternalName")
            assert one.get("serviceType", "ClusterIP") == "ClusterIP"
            assert not one.keys() & {"hostPort", "nodePort", "externalIPs", "hostNetwork"}
            assert not one.get("enableIngress")
            assert one.get("containerPort") != 10001  # Ray's client


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["spec"]["containers"][0]["name"])
def test_pods_may_do_nothing_they_need_not(pod: dict[str, Any]) -> None:
    user = pod["spec"]["securityContext"]
    assert user["runAsNonRoot"] is True
    assert user["runAsUser"] == user["fsGroup"] > 0
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    for box in containers(pod):
        _hardened(box["securityContext"])
        memory = box["resources"]
        assert memory["requests"]["memory"] == memory["limits"]["memory"]
    assert not [one for one in pod["spec"].get("volumes", []) if "hostPath" in one]
    head = pod["spec"]["containers"][0]["name"] == "ray-head"
    assert pod["spec"].get("automountServiceAccountToken", True) is head


def _hardened(context: dict[str, Any]) -> None:
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_autoscaler_is_held_to_the_same() -> None:
    for spec in CLUSTERS:
        _hardened(spec["autoscalerOptions"]["securityContext"])
    assert ALL["Namespace/raysynth"]["metadata"]["labels"][
        "pod-security.kubernetes.io/enforce"
    ] == ("restricted")


def test_what_is_mounted_is_there_and_has_a_bound() -> None:
    for pod in PODS:
        claims = {"data"} if pod["spec"]["containers"][0]["name"] == "redis" else set()
        volumes = {one["name"]: one for one in pod["spec"].get("volumes", [])}
        for box in containers(pod):
            assert {one["name"] for one in box["volumeMounts"]} <= volumes.keys() | claims
        for one in volumes.values():
            assert "secret" in one or one["emptyDir"]["sizeLimit"]
    for spec in CLUSTERS:
        mounts = spec["autoscalerOptions"]["volumeMounts"]
        volumes = spec["headGroupSpec"]["template"]["spec"]["volumes"]
        assert {one["name"] for one in mounts} <= {one["name"] for one in volumes}
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        for group in groups:
            spill = group["rayStartParams"]["object-spilling-directory"]
            box = group["template"]["spec"]["containers"][0]
            assert spill in [one["mountPath"] for one in box["volumeMounts"]]


def test_clusters_ask_for_a_token_and_have_a_limit() -> None:
    for spec in CLUSTERS:
        assert spec["authOptions"] == {"mode": "token", "secretName": "raysynth-ray"}
        assert spec["enableInTreeAutoscaling"] is True
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in spec["workerGroupSpecs"]:
            assert group["minReplicas"] < group["maxReplicas"] <= 16


def test_nodes_carry_the_pool_that_stages_are_pinned_to() -> None:
    pools = [
        {group["labels"]["raysynth/pool"] for group in spec["workerGroupSpecs"]}
        for spec in CLUSTERS
    ]
    assert pools == [{"data", "train"}, {"data", "train"}, {"serve"}]
    assert {spec["headGroupSpec"]["labels"]["raysynth/pool"] for spec in CLUSTERS} == {"head"}


SECRETS = {
    "raysynth-ray": {"auth_token"},
    "raysynth-redis": {"password"},
    "raysynth-tokens": {"tokens.json"},
    "raysynth-store-training": set(),
    "raysynth-store-serving": set(),
}


def test_secrets_are_referred_to_and_never_written_down() -> None:
    assert not [name for name in ALL if name.startswith("Secret/")]
    secret = re.compile(r"pass|token|secret|key$", re.IGNORECASE)
    referred = set()
    for one in (inner for manifest in ALL.values() for inner in nodes(manifest)):
        if "name" in one and secret.search(str(one["name"])):
            assert "value" not in one, one["name"]
        if "secretKeyRef" in one:
            referred.add(one["secretKeyRef"]["name"])
            assert one["secretKeyRef"]["key"] in SECRETS[one["secretKeyRef"]["name"]]
        for name in ("secretRef", "secret"):
            if isinstance(one.get(name), dict):
                referred.add(one[name].get("name") or one[name]["secretName"])
        if "authOptions" in one:
            referred.add(one["authOptions"]["secretName"])
    assert referred == SECRETS.keys()
    text = (INFRA / "README.md").read_text()
    for name, keys in SECRETS.items():
        assert name in text
        assert all(f"--from-file={key}=" in text for key in keys)


def test_tokens_reach_the_server_as_a_file_of_its_users_alone() -> None:
    (pod,) = pods(SERVICE["rayClusterConfig"]["workerGroupSpecs"])
    given = next(one for one in pod["spec"]["volumes"] if one["name"] == "given")
    assert given["secret"] == {"secretName": "raysynth-tokens", "defaultMode": 0o400}
    served = yaml.safe_load(SERVICE["serveConfigV2"])["applications"][0]["args"]["tokens"]
    (copier,) = (box for box in containers(pod) if box["name"] == "tokens")
    assert served in copier["args"][0]
    assert "install -m 0400 /run/raysynth/tokens.json" in copier["args"][0]
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    assert {"name": "tokens", "mountPath": str(Path(served).parent), "readOnly": True} in mounts
    assert "given" not in [one["name"] for one in mounts]


def test_images_name_a_release() -> None:
    images = {box["image"] for pod in PODS for box in containers(pod)}
    assert images == {
        f"raysynth-cpu:{PROJECT['version']}",
        f"raysynth-cuda:{PROJECT['version']}",
        "redis:7.2.11-bookworm",
    }


# -- the network ----------------------------------------------------------------------------------

POLICIES = {name: one["spec"] for name, one in ALL.items() if one["kind"] == "NetworkPolicy"}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector takes a pod of these labels."""
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


HEAD, WORKER = {"ray.io/node-type": "head"}, {"ray.io/node-type": "worker"}


def labelled(component: str, kind: dict[str, str] | None = None) -> dict[str, str]:
    mine = {"app.kubernetes.io/part-of": "raysynth", "app.kubernetes.io/component": component}
    return mine | (kind or {})


def space(name: str) -> dict[str, str]:
    return {"kubernetes.io/metadata.name": name}


OURS = space("raysynth")
ENDS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "training head": (OURS, labelled("training", HEAD)),
    "training worker": (OURS, labelled("training", WORKER)),
    "serving head": (OURS, labelled("serving", HEAD)),
    "serving worker": (OURS, labelled("serving", WORKER)),
    "redis": (OURS, labelled("redis")),
    "cleanup": (OURS, labelled("serving", {"ray.io/node-type": "redis-cleanup"})),
    "submitter": (OURS, labelled("submitter")),
    "stranger": (OURS, {}),
    "operator": (space("kuberay-operator"), {"app.kubernetes.io/name": "kuberay-operator"}),
    "prometheus": (space("monitoring"), {"app.kubernetes.io/name": "prometheus"}),
    "ingress": (space("ingress-nginx"), {}),
    "other": (space("other"), {"app.kubernetes.io/name": "kuberay-operator"}),
}


def passes(way: str, mine: str, other: str, port: int) -> bool:
    """Whether policies let `mine` send to `other`, or be sent to by it."""
    where, labels = ENDS[mine]
    if where != OURS:
        return True  # not ours to say
    asked = [
        spec
        for spec in POLICIES.values()
        if way.title() in spec["policyTypes"] and selects(spec["podSelector"], labels)
    ]
    assert asked, "a pod that no policy is for may do anything"
    side = "from" if way == "ingress" else "to"
    for rule in (rule for spec in asked for rule in spec.get(way, [])):
        ports = rule.get("ports")
        if ports and port not in [one["port"] for one in ports]:
            continue
        for peer in rule[side]:
            space_of, pod_of = peer.get("namespaceSelector"), peer.get("podSelector", {})
            there, found = ENDS[other]
            if "ipBlock" in peer:
                continue  # addresses outside
            if there != OURS and space_of is None:
                continue
            if selects(space_of or {}, there) and selects(pod_of, found):
                return True
    return False


def reaches(sender: str, receiver: str, port: int) -> bool:
    return passes("egress", sender, receiver, port) and passes("ingress", receiver, sender, port)


@pytest.mark.parametrize(
    ("sender", "receiver", "port"),
    [
        ("training worker", "training head", 6379),
        ("training head", "training worker", 35_001),
        ("training worker", "training worker", 35_001),
        ("serving head", "serving worker", 8100),
        ("serving worker", "serving head", 6379),
        ("training head", "redis", 6379),
        ("serving head", "redis", 6379),
        ("cleanup", "redis", 6379),
        ("submitter", "training head", 8265),
        ("operator", "training head", 8265),
        ("operator", "serving head", 8265),
        ("prometheus", "training worker", 8080),
        ("prometheus", "serving head", 8080),
        ("ingress", "serving worker", 8100),
    ],
)
def test_what_has_to_be_reached_is(sender: str, receiver: str, port: int) -> None:
    assert reaches(sender, receiver, port)


ALLOWED = {
    *(("operator", f"{one} head", 8265) for one in ("training", "serving")),
    *(("submitter", "training head", port) for port in (6379, 8265)),
    *((one, "redis", 6379) for one in ("training head", "serving head", "cleanup")),
    *(
        ("prometheus", f"{one} {kind}", 8080)
        for one in ("training", "serving")
        for kind in ("head", "worker")
    ),
    ("ingress", "serving worker", 8100),
}


def test_nothing_else_is_reached() -> None:
    alike = {"training head", "training worker"}, {"serving head", "serving worker", "cleanup"}
    for receiver in (name for name, (where, _) in ENDS.items() if where == OURS):
        for sender in ENDS:
            if sender == receiver or any({sender, receiver} <= one for one in alike):
                continue
            for port in (53, 443, 6379, 8080, 8100, 8265, 10001, 35_001):
                asked = (sender, receiver, port)
                assert reaches(*asked) == (asked in ALLOWED), asked


def test_outside_only_a_store_and_the_api_are_reached() -> None:
    for name, spec in POLICIES.items():
        for rule in spec.get("egress", []):
            for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
                ports = {one["port"] for one in rule["ports"]}
                if block["cidr"] == "0.0.0.0/0":
                    assert ports <= {443, 6443}, name
                    assert block["except"] == ["169.254.0.0/16"]
                else:
                    known = {"169.254.170.23/32": {80}, "169.254.20.10/32": {53}}
                    assert known[block["cidr"]] == ports, name


# -- releases -------------------------------------------------------------------------------------


def ray_minor() -> str:
    """The minor release of Ray that pyproject.toml holds to."""
    (pin,) = (one for one in PROJECT["dependencies"] if one.startswith("ray["))
    found = re.fullmatch(r"ray\[.*\]>=(\d+\.\d+),<(\d+\.\d+)", pin)
    assert found, pin
    return found[1]


def test_manifests_and_image_are_of_one_ray_and_python() -> None:
    from importlib.metadata import version

    releases = {spec["rayVersion"] for spec in CLUSTERS}
    assert len(releases) == 1
    assert releases.pop() == version("ray")
    assert version("ray").startswith(f"{ray_minor()}.")
    (python,) = set(re.findall(r"^FROM python:(\d+\.\d+)-slim-bookworm$", DOCKERFILE, re.MULTILINE))
    assert PROJECT["requires-python"] == f">={python}"
    major, small = python.split(".")
    assert f"sys.version_info[:2] == ({major}, {small})" in DOCKERFILE


def test_locked_packages_are_of_the_same_ray_and_have_hashes() -> None:
    lock = LOCK.read_text()
    (release,) = re.findall(r"^ray==([\d.]+) ", lock, re.MULTILINE)
    assert {spec["rayVersion"] for spec in CLUSTERS} == {release}
    pinned = re.findall(r"^[A-Za-z0-9._-]+(?:\[.*\])?==\S+ \\$", lock, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^[A-Za-z0-9]", lock, re.MULTILINE)) > 50
    assert not re.findall(r"^torch==", lock, re.MULTILINE)  # comes by the image's build argument


def test_torch_of_the_image_is_in_the_range_that_is_asked_for() -> None:
    from packaging.requirements import Requirement

    (asked,) = (one for one in PROJECT["dependencies"] if one.startswith("torch"))
    (torch,) = re.findall(r"^ARG TORCH=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert torch in Requirement(asked).specifier


# -- the image ------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with what follows."""
    lines = [one for one in DOCKERFILE.splitlines() if not one.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in whole.split("\n") if line
    ]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the build: the last pattern that fits decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").rstrip("/")
        parts = path.split("/")
        upwards = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        names = [pattern] if not pattern.startswith("**/") else [pattern, pattern[3:]]
        if any(re.match(translate(one), at) for at in upwards for one in names):
            out = not line.startswith("!")
    return out


def test_the_image_does_not_run_as_root() -> None:
    users = [what for word, what in instructions() if word == "USER"]
    assert users == ["1000:1000"]
    last = [word for word, _ in instructions()]
    assert last.index("USER") < last.index("ENTRYPOINT")
    assert "useradd --uid 1000" in DOCKERFILE
    for spec in CLUSTERS:
        user = spec["headGroupSpec"]["template"]["spec"]["securityContext"]
        assert user["runAsUser"] == user["runAsGroup"] == 1000


def test_the_image_is_pinned_and_checks_itself() -> None:
    (base,) = (what for word, what in instructions() if word == "FROM")
    assert re.fullmatch(r"python:\d+\.\d+-slim-[a-z]+", base)
    assert "latest" not in DOCKERFILE
    runs = [what for word, what in instructions() if word == "RUN"]
    assert any(
        "--require-hashes --only-binary :all: -r infra/requirements.txt" in what for what in runs
    )
    assert "pip check" in runs[-1]
    assert "import ray, torch, raysynth.cli" in runs[-1]
    for word, what in instructions():
        if word in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(what), list)


def test_the_image_has_no_secret_and_asks_for_tokens() -> None:
    given = [what for word, what in instructions() if word in ("ENV", "ARG")]
    found = dict(pair.split("=", 1) for what in given for pair in what.split())
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["RAY_USAGE_STATS_ENABLED"] == "0"
    assert found["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == "raysynth.stages.serve:pacing"
    for name in found.keys() - {"RAY_AUTH_MODE"}:
        assert not re.search(r"pass|token|secret|key|auth", name, re.IGNORECASE)


def test_variables_of_the_image_are_ones_that_ray_reads() -> None:
    import ray._private.ray_constants as known
    from ray.serve._private import constants

    assert hasattr(known, "RAY_LOGGING_CONFIG_ENCODING")
    assert hasattr(constants, "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH")


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    for word, what in instructions():
        if word != "COPY":
            continue
        *sources, _ = what.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert not ignored(source), source
            inside = [path for path in (ROOT / source).rglob("*.*") if path.is_file()]
            for path in (path for path in inside if path.suffix != ".pyc"):
                assert not ignored(path.relative_to(ROOT).as_posix()), path


def test_nothing_private_is_sent_to_the_build() -> None:
    for path in (
        *(".git/HEAD", "runs/customers/work/codes/0.bin", "jobs/data/adult_train.parquet"),
        *("infra/kuberay/base/redis.yaml", "tests/conftest.py", "infra/objectstore", ".env"),
        *("raysynth/__pycache__/run.cpython-311.pyc", "customers.parquet"),
    ):
        assert ignored(path), path


# -- Serve ----------------------------------------------------------------------------------------


def serve_configs() -> list[dict[str, Any]]:
    here = yaml.safe_load((INFRA / "serve.yaml").read_text())
    return [here, yaml.safe_load(SERVICE["serveConfigV2"])]


@pytest.mark.parametrize("config", serve_configs(), ids=["serve.yaml", "RayService"])
def test_serve_takes_the_configuration(config: dict[str, Any]) -> None:
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import ServeDeploySchema

    from raysynth.stages.serve import application

    taken = ServeDeploySchema.model_validate(config)
    (one,) = taken.applications
    assert one.import_path == "raysynth.stages.serve:application"
    assert set(config) <= set(ServeDeploySchema.model_fields)
    bound = application(dict(one.args))
    scaling = bound._bound_deployment._deployment_config.autoscaling_config
    asked = AutoscalingConfig(**one.args["autoscaling"])
    assert (scaling.min_replicas, scaling.max_replicas) == (asked.min_replicas, asked.max_replicas)


def test_the_service_serves_as_serve_yaml_does() -> None:
    here, there = serve_configs()
    alike = ("import_path", "route_prefix", "name")
    (mine,), (its,) = here["applications"], there["applications"]
    assert [mine[name] for name in alike] == [its[name] for name in alike]
    for name in ("runs", "tokens", "state", "most_rows", "at_once", "threads"):
        assert mine["args"][name] == its["args"][name]
    assert here["http_options"]["port"] == there["http_options"]["port"]
    port = there["http_options"]["port"]
    cluster = SERVICE["rayClusterConfig"]
    for pod in pods(cluster):
        ports = {one["name"]: one["containerPort"] for one in pod["spec"]["containers"][0]["ports"]}
        assert ports["serve"] == port
        assert ports["metrics"] == 8080


def test_as_many_replicas_fit_as_may_be_asked_for() -> None:
    args = yaml.safe_load(SERVICE["serveConfigV2"])["applications"][0]["args"]
    (group,) = SERVICE["rayClusterConfig"]["workerGroupSpecs"]
    asked = group["template"]["spec"]["containers"][0]["resources"]["requests"]
    a_pod = int(asked["cpu"]) // args["threads"]
    assert args["autoscaling"]["max_replicas"] <= group["maxReplicas"] * a_pod
    # Models, the 400 MiB of Python and its libraries, and the object store beside them.
    memory = int(asked["memory"].removesuffix("Gi")) * 1_024
    assert a_pod * (args["memory_mib"] + 400) <= 0.7 * memory


def test_the_job_is_a_command_of_ours() -> None:
    import shlex

    from typer.main import get_command

    from raysynth.cli import app
    from raysynth.config import TrainConfig

    words = shlex.split(JOB["entrypoint"])
    assert words[:4] == ["python", "-m", "raysynth", "train"]
    train = get_command(app).commands["train"]
    options = {name for parameter in train.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    name, storage = (words[words.index(one) + 1] for one in ("--name", "--storage"))
    assert TrainConfig(table=words[4], name=name, storage=storage).place.bucket


# -- policies of the bucket -----------------------------------------------------------------------

# Each call of boto3's that `raysynth` makes, and the action it needs. HeadObject is GetObject's; an
# absent object is told from a forbidden one to those only who may list.
CALLS = {
    "head_object": "s3:GetObject",
    "get_object": "s3:GetObject",
    "list_objects_v2": "s3:ListBucket",
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "delete_object": "s3:DeleteObject",
}
BUCKET = "arn:aws:s3:::bucket"


def policy(name: str) -> list[dict[str, Any]]:
    found = json.loads((INFRA / "policies" / f"{name}.json").read_text())
    assert found["Version"] == "2012-10-17"
    return found["Statement"]


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def may(name: str, call: str, key: str = "", prefix: str | None = None) -> bool:
    """Whether a role with this policy may make the call."""
    answer = False
    resource = BUCKET if call == "list_objects_v2" else f"{BUCKET}/{key}"
    for one in policy(name):
        if CALLS[call] not in listed(one["Action"]):
            continue
        if not any(fnmatchcase(resource, at) for at in listed(one["Resource"])):
            continue
        condition = one.get("Condition", {})
        assert condition.keys() <= {"StringLikeIfExists"}
        wanted = condition.get("StringLikeIfExists", {}).get("s3:prefix")
        if wanted and prefix is not None and not any(fnmatchcase(prefix, at) for at in wanted):
            continue
        if one["Effect"] == "Deny":
            return False
        answer = True
    return answer


def test_the_calls_are_those_that_the_code_makes() -> None:
    text = "".join((ROOT / "raysynth" / name).read_text() for name in ("client.py", "s3.py"))
    assert set(re.findall(r"client\(\)\.(\w+)", text)) == CALLS.keys()
    table = (INFRA / "README.md").read_text()
    for call, action in CALLS.items():
        assert re.search(rf"^\|.*`{call}`.*\| `{action}`", table, re.MULTILINE), call


@pytest.mark.parametrize("name", ["training", "serving", "samples"])
def test_policies_have_those_actions_alone_and_no_wildcard(name: str) -> None:
    for one in policy(name):
        assert set(listed(one["Action"])) <= set(CALLS.values())
        assert one.keys() <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        for resource in listed(one["Resource"]):
            assert resource.startswith(BUCKET)
            assert resource != f"{BUCKET}/*"


TABLE, MANIFEST, CODES, SAMPLE = (
    *("data/customers.parquet", "runs/customers/manifest.json", "runs/customers/work/codes/0"),
    "samples/a.parquet",
)
WRITES = (
    *("put_object", "create_multipart_upload", "upload_part", "complete_multipart_upload"),
    "abort_multipart_upload",
)


def test_a_training_may_read_tables_and_write_runs() -> None:
    assert all(may("training", "get_object", key) for key in (TABLE, "data", MANIFEST, CODES))
    for call in (*WRITES, "delete_object"):
        assert may("training", call, MANIFEST)
        assert may("training", call, CODES)
        assert not may("training", call, TABLE)
        assert not may("training", call, SAMPLE)
    for prefix in ("data/", "data/customers.parquet/", "runs/customers/"):
        assert may("training", "list_objects_v2", prefix=prefix)
    for prefix in ("samples/", ""):
        assert not may("training", "list_objects_v2", prefix=prefix)


def test_a_server_may_read_runs_and_nothing_else() -> None:
    assert may("serving", "get_object", MANIFEST)
    assert may("serving", "list_objects_v2", prefix="runs/")
    for key in (TABLE, CODES, SAMPLE):
        assert not may("serving", "get_object", key)
    for call in (*WRITES, "delete_object"):
        assert not may("serving", call, MANIFEST)
        assert not may("serving", call, SAMPLE)
    assert not may("serving", "list_objects_v2", prefix="data/")


def test_samples_are_written_and_nothing_is_deleted() -> None:
    for call in (*WRITES, "head_object"):
        assert may("samples", call, SAMPLE)
        assert not may("samples", call, MANIFEST)
    assert not may("samples", "delete_object", SAMPLE)
    assert may("samples", "list_objects_v2", prefix="samples/a.parquet/")


def test_the_bucket_takes_nothing_in_clear_text_and_shows_nothing() -> None:
    denied = {one["Sid"]: one for one in policy("bucket")}
    assert {one["Effect"] for one in denied.values()} == {"Deny"}
    assert {one["Principal"] for one in denied.values()} == {"*"}
    clear = denied["NothingInClearText"]
    assert clear["Action"] == "s3:*"
    assert clear["Resource"] == [BUCKET, f"{BUCKET}/*"]
    assert clear["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    access = json.loads((INFRA / "policies/access.json").read_text())
    assert len(access) == 4
    assert set(access.values()) == {True}
    encryption = json.loads((INFRA / "policies/encryption.json").read_text())
    kept = encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"]
    condition = denied["NoOtherEncryptionThanTheBuckets"]["Condition"]
    # A put that names no encryption gets the bucket's own, and ours name none.
    assert condition == {"StringNotEqualsIfExists": {"s3:x-amz-server-side-encryption": kept}}
    assert condition.keys() == {"StringNotEqualsIfExists"}


@pytest.mark.parametrize(
    ("name", "operation", "member"),
    [
        ("access", "PutPublicAccessBlock", "PublicAccessBlockConfiguration"),
        ("encryption", "PutBucketEncryption", "ServerSideEncryptionConfiguration"),
        ("lifecycle", "PutBucketLifecycleConfiguration", "LifecycleConfiguration"),
    ],
)
def test_settings_of_the_bucket_are_as_s3_has_them(name: str, operation: str, member: str) -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    model = botocore.session.get_session().get_service_model("s3")
    shape = model.operation_model(operation).input_shape.members[member]
    value = json.loads((INFRA / "policies" / f"{name}.json").read_text())
    assert not ParamValidator().validate(value, shape).generate_report()


def test_what_is_left_of_uploads_and_of_former_versions_goes_in_a_day() -> None:
    rules = json.loads((INFRA / "policies/lifecycle.json").read_text())["Rules"]
    assert {one["Status"] for one in rules} == {"Enabled"}
    whole = {name: value for one in rules for name, value in one.items()}
    assert whole["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert whole["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}


# -- the guide ------------------------------------------------------------------------------------


def test_files_that_the_guide_names_are_there_and_all_are_named() -> None:
    text = (INFRA / "README.md").read_text()
    named = set(re.findall(r"(?:infra/|`)((?:kuberay|policies)/[a-z./]*[a-z])", text))
    assert len(named) > 15
    for name in named:
        assert (INFRA / name).exists(), name
    for path in (INFRA / "policies").iterdir():
        assert path.name in text
    for path in (INFRA / "kuberay").iterdir():
        assert f"kuberay/{path.name}" in text


def test_commands_of_the_guide_parse() -> None:
    from tests import test_readme

    found = test_readme.blocks((INFRA / "README.md").read_text())
    assert len(found) > 5
    for block in found:
        test_readme.check(block)
