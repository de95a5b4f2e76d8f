"""A question to a port of a pod through the API server and the pod's kubelet.

It arrives at the pod's own loopback, so that no NetworkPolicy stands in its way. The account needs `get`, and from
Kubernetes 1.35 on `create`, of pods/portforward.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException
from kubernetes.stream import portforward

from fairlead.cluster.api_server import ApiServer
from fairlead.errors import ClusterError

# A model server says what it serves without waiting for a batch.
SECONDS_TO_ANSWER = 5.0


def ask_pod(server: ApiServer, pod: str, port: int, path: str) -> Any:
    """The JSON at `path` of a pod's HTTP port. Raises ClusterError where the way or the answer is none."""
    with _connected(server, pod, port) as socket:
        connection = HTTPConnection("localhost")
        connection.sock = socket
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            raise ClusterError(f"port {port} of pod {pod} does not answer ({type(error).__name__})") from error
    if response.status != 200:
        raise ClusterError(f"port {port} of pod {pod} answers {response.status} at {path}")
    try:
        return json.loads(content)
    except ValueError as error:
        raise ClusterError(f"port {port} of pod {pod} answers no JSON at {path}") from error


def open_forward(server: ApiServer, pod: str, port: int) -> Any:
    """The library's forward to a port of a pod. Raises ApiException where there is no way."""
    # A client of its own: while it connects, the library puts another method into it.
    api = client.CoreV1Api(client.ApiClient(server.configuration))
    return portforward(api.connect_get_namespaced_pod_portforward, pod, server.namespace, ports=str(port))


@contextmanager
def _connected(server: ApiServer, pod: str, port: int) -> Iterator[Any]:
    """A socket that leads there."""
    try:
        forward = open_forward(server, pod, port)
    except ApiException as error:
        if isinstance(error.__context__, KeyboardInterrupt | SystemExit):
            # The library takes being told to end for a failure.
            raise error.__context__ from None
        # "Handshake status 403 Forbidden -+-+- {headers} -+-+- body"
        raise ClusterError(f"port {port} of pod {pod}: {str(error.reason).partition(' -+-+-')[0]}") from error
    try:
        found = forward.socket(port)
        found.settimeout(SECONDS_TO_ANSWER)
        yield found
    finally:
        forward.close()
