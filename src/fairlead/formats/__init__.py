"""The files that one stage leaves for the next: one module a format, reader and writer side by side."""
