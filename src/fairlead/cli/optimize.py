"""What is printed of an optimization."""

from fairlead.cli.output import heading, print_pairs, print_table
from fairlead.formats.variants import OptimizationRecord


def print_optimization(record: OptimizationRecord) -> None:
    """The precision table, which variant serves and why, and how probabilities are read."""
    from fairlead.optimization.table import rows, summary

    heading("variants")
    print_table(rows(record), "none")
    print_pairs(summary(record) | {f"no {name}": reason for name, reason in sorted(record.refused.items())})
