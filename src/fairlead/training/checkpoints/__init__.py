"""What is kept of a run: its state at a step, and the finished model."""
