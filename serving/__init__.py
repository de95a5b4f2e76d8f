"""The KServe door: a model version behind KServe's V1, V2 REST and V2 gRPC protocols."""
