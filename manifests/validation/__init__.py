"""Whether a cluster would take the manifests: what validate.sh runs, and the tests plant faults into."""
