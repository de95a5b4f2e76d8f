"""What a small Kubernetes says that it serves: kinds by group and version, and their schemas."""

from tests.cluster import built_in
from tests.cluster.kubernetes_objects import Cluster, Object, Refusal


def serves(cluster: Cluster, api_version: str, plural: str) -> bool:
    crd = cluster.crds.get(plural)
    if crd is None or crd["spec"]["group"] != api_version.partition("/")[0]:
        return built_in.is_served(api_version, plural)
    named = [v for v in crd["spec"]["versions"] if v["name"] == api_version.partition("/")[2]]
    # What is deprecated is gone in the next release: nothing of ours may ask for it.
    return any(version["served"] and not version.get("deprecated") for version in named)


def discovery(cluster: Cluster, api_version: str) -> Object:
    group, _, name = api_version.partition("/")
    served = [
        {
            "name": plural,
            "kind": crd["spec"]["names"]["kind"],
            "namespaced": crd["spec"]["scope"] == "Namespaced",
        }
        for plural, crd in cluster.crds.items()
        if crd["spec"]["group"] == group and any(v["name"] == name for v in crd["spec"]["versions"])
    ] + built_in.resources(api_version)
    if not served:
        raise Refusal(404, "NotFound", "the server could not find the requested resource")
    return {"kind": "APIResourceList", "groupVersion": api_version, "resources": served}


def openapi(cluster: Cluster, parts: list[str]) -> Object:
    crds = list(cluster.crds.values())
    if len(parts) == 2:
        paths = {f"apis/{c['spec']['group']}/{v['name']}": {} for c in crds for v in c["spec"]["versions"]}
        return {"paths": paths}
    schemas = {}
    for crd in crds:
        for version in crd["spec"]["versions"]:
            if parts[3:5] == [crd["spec"]["group"], version["name"]]:
                kind = crd["spec"]["names"]["kind"]
                mark = [{"group": parts[3], "version": parts[4], "kind": kind}]
                schema = version["schema"]["openAPIV3Schema"] | {"x-kubernetes-group-version-kind": mark}
                schemas[f"dev.{kind}"] = schema
    return {"components": {"schemas": schemas}}
