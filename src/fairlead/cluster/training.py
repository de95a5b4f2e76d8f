"""What the train component hands to its stage: training on the cluster, for when one machine is not enough."""

from fairlead.training.launching.job import Job


def on_cluster(job: Job) -> None:
    """Have a job of the store trained on `training.nodes` machines (fairlead.cluster.nodes)."""
    # The kubernetes client costs a second to import, which a run on one machine must not pay.
    from fairlead.cluster.nodes import train_on_nodes

    train_on_nodes(job)
