"""Add the table of feedback."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of true labels."""
    op.create_table(
        "feedback",
        sa.Column("prediction_id", sa.String(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("label", sa.JSON(), nullable=False),
        sa.Column("project", sa.String(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("first_received", sa.String(), nullable=False),
        sa.Column("received", sa.String(), nullable=False),
        sa.Column("revisions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("prediction_id", "index", name=op.f("pk_feedback")),
    )
    op.create_index(op.f("ix_feedback_project_number"), "feedback", ["project", "number"])
