"""Which examples a step sees, in which order, and how they are cut into passes."""
