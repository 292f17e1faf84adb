"""What KubeRay 1.7 takes, as JSON schemas that refuse a field there is not.

No package has the schemas of its custom resources. These list the fields of `ray.io/v1` as KubeRay
documents them (docs/reference/api.md of ray-project/kuberay: RayCluster, RayJob, RayService), but
for those that are deprecated or that a feature gate keeps off. Pod templates and other parts of
Kubernetes are held to Kubernetes' own schemas, which kubernetes-validate ships. The Kubernetes API
does not refuse an unknown field by itself, it drops it: what is misspelt is then just not there.

`PodMonitor` is of the Prometheus operator (`monitoring.coreos.com/v1`), and has what we use.
"""

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

KUBERNETES = "1.34"  # KubeRay 1.7 is for this one and some before and after it
_STRICT = f"kubernetes-json-schema/v{KUBERNETES}.0-local-strict/_definitions.json"


def _core(name: str) -> dict[str, Any]:
    return {"$ref": f"https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.api.{name}"}


def _meta(name: str) -> dict[str, Any]:
    kind = f"io.k8s.apimachinery.pkg.apis.meta.v1.{name}"
    return {"$ref": f"https://kubernetes.io/api/_definitions.json#/$defs/{kind}"}


def _object(required: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": fields,
    }


def _list(of: Any) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


TEXT, FLAG = {"type": "string"}, {"type": "boolean"}
COUNT, POSITIVE = {"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 1}
TEXTS = {"type": "object", "additionalProperties": TEXT}
POD = _core("core.v1.PodTemplateSpec")
META = _meta("ObjectMeta")
CREDENTIAL = _object(value=TEXT, valueFrom=_core("core.v1.EnvVarSource"))
GROUP = {"resources": TEXTS, "labels": TEXTS, "rayStartParams": TEXTS, "template": POD}

CLUSTER = _object(
    "headGroupSpec",
    upgradeStrategy=_object(type=_one_of("Recreate", "None")),
    authOptions=_object(
        enableK8sTokenAuth=FLAG, secretName=TEXT, mode=_one_of("disabled", "token")
    ),
    suspend=FLAG,
    managedBy=_one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    autoscalerOptions=_object(
        resources=_core("core.v1.ResourceRequirements"),
        image=TEXT,
        imagePullPolicy=_one_of("Always", "IfNotPresent", "Never"),
        securityContext=_core("core.v1.SecurityContext"),
        idleTimeoutSeconds=COUNT,
        upscalingMode=_one_of("Default", "Aggressive", "Conservative"),
        version=_one_of("v1", "v2"),
        env=_list(_core("core.v1.EnvVar")),
        envFrom=_list(_core("core.v1.EnvFromSource")),
        volumeMounts=_list(_core("core.v1.VolumeMount")),
        command=_list(TEXT),
        args=_list(TEXT),
    ),
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=FLAG,
    gcsFaultToleranceOptions=_object(
        redisUsername=CREDENTIAL,
        redisPassword=CREDENTIAL,
        externalStorageNamespace=TEXT,
        redisAddress=TEXT,
    ),
    headGroupSpec=_object(
        "template",
        **GROUP,
        headService=_core("core.v1.Service"),
        enableIngress=FLAG,
        serviceType=_one_of("ClusterIP", "NodePort", "LoadBalancer"),
    ),
    rayVersion=TEXT,
    workerGroupSpecs=_list(
        _object(
            "groupName minReplicas maxReplicas template",
            **GROUP,
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            idleTimeoutSeconds=COUNT,
            priority=COUNT,
            numOfHosts=POSITIVE,
            scaleStrategy=_object(workersToDelete=_list(TEXT)),
        )
    ),
)
JOB = _object(
    activeDeadlineSeconds=POSITIVE,
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=POD,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=_object(backoffLimit=COUNT),
    managedBy=CLUSTER["properties"]["managedBy"],
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode=_one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=TEXT,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    ttlSecondsAfterFinished=COUNT,
    preRunningDeadlineSeconds=POSITIVE,
    shutdownAfterJobFinishes=FLAG,
    suspend=FLAG,
)
SERVICE = _object(
    "rayClusterConfig",
    rayClusterDeletionDelaySeconds=COUNT,
    serveService=_core("core.v1.Service"),
    upgradeStrategy=_object(type=_one_of("NewCluster", "None")),
    managedBy=CLUSTER["properties"]["managedBy"],
    serveConfigV2=TEXT,
    rayClusterConfig=CLUSTER,
    excludeHeadPodFromServeSvc=FLAG,
    suspend=FLAG,
)
MONITOR = _object(
    "selector podMetricsEndpoints",
    selector=_meta("LabelSelector"),
    podTargetLabels=_list(TEXT),
    podMetricsEndpoints=_list(_object("port", port=TEXT, path=TEXT, interval=TEXT)),
)
KINDS = {
    ("ray.io/v1", "RayCluster"): CLUSTER,
    ("ray.io/v1", "RayJob"): JOB,
    ("ray.io/v1", "RayService"): SERVICE,
    ("monitoring.coreos.com/v1", "PodMonitor"): MONITOR,
}


@cache
def _kubernetes() -> Registry:
    text = files("kubernetes_validate").joinpath(_STRICT).read_text()
    return Resource.from_contents(json.loads(text)) @ Registry()


def faults(manifest: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a custom resource, each with its place."""
    spec = KINDS[manifest["apiVersion"], manifest["kind"]]
    whole = _object("apiVersion kind metadata spec", apiVersion=TEXT, kind=TEXT, spec=spec)
    whole["properties"]["metadata"] = META
    for fault in Draft202012Validator(whole, registry=_kubernetes()).iter_errors(manifest):
        yield f"{'.'.join(map(str, fault.absolute_path))}: {fault.message}"
