"""The kinds that every Kubernetes has, as far as the manifests and the suite for real clusters use them."""

# By group and version: plural, kind, whether it stands in a namespace.
KINDS: dict[str, list[tuple[str, str, bool]]] = {
    "v1": [
        ("namespaces", "Namespace", False),
        ("nodes", "Node", False),
        ("configmaps", "ConfigMap", True),
        ("events", "Event", True),
        ("limitranges", "LimitRange", True),
        ("pods", "Pod", True),
        ("pods/log", "Pod", True),
        ("pods/portforward", "PodPortForwardOptions", True),
        ("resourcequotas", "ResourceQuota", True),
        ("secrets", "Secret", True),
        ("serviceaccounts", "ServiceAccount", True),
        ("services", "Service", True),
    ],
    "apps/v1": [("deployments", "Deployment", True), ("statefulsets", "StatefulSet", True)],
    "batch/v1": [("cronjobs", "CronJob", True), ("jobs", "Job", True)],
    "networking.k8s.io/v1": [("networkpolicies", "NetworkPolicy", True)],
    "rbac.authorization.k8s.io/v1": [
        ("clusterroles", "ClusterRole", False),
        ("clusterrolebindings", "ClusterRoleBinding", False),
        ("roles", "Role", True),
        ("rolebindings", "RoleBinding", True),
    ],
    "scheduling.k8s.io/v1": [("priorityclasses", "PriorityClass", False)],
    "storage.k8s.io/v1": [("storageclasses", "StorageClass", False)],
}


def is_served(api_version: str, plural: str) -> bool:
    """Whether there is such a kind."""
    return any(plural == name for name, _, _ in KINDS.get(api_version, []))


def resources(api_version: str) -> list[dict[str, object]]:
    """As discovery lists them."""
    return [{"name": name, "kind": kind, "namespaced": scope} for name, kind, scope in KINDS.get(api_version, [])]
