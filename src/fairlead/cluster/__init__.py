"""Where pipelines run: `kfp.local` on this machine, or Kubeflow Pipelines on a cluster."""
