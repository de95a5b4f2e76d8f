"""How gradients become weights: update rules, rates by step and layer, averages, shards."""
