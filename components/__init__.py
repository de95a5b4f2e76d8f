"""The stages as Kubeflow Pipelines components: one file a stage, each an address (image, inputs, outputs)."""
