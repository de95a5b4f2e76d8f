"""The pipelines: each a DAG of components that can be read on one screen."""
