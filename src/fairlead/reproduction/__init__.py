"""A registered version, run again from what is recorded of it: is it the same, and if not, what differs."""
