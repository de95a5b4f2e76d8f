"""Which networks train: built, loaded, pooled, grown, and run on packed texts."""
