"""Fairlead: from raw text to a versioned, provable, autoscaled model endpoint."""

__version__ = "0.1.0"
