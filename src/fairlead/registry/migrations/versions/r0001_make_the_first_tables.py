"""Make the first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table of the first release."""
    op.create_table(
        "data_versions",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("num_rows", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_data_versions")),
    )
    op.create_table(
        "projects",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_projects")),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("data_digest", sa.String(), nullable=False),
        sa.Column("tokens_digest", sa.String(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("code", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("started", sa.String(), nullable=False),
        sa.Column("finished", sa.String(), nullable=True),
        sa.Column("weights_digest", sa.String(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_project"), "runs", ["project"])

    op.create_table(
        "metric_points",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("time", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_metric_points_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "name", "step", name=op.f("pk_metric_points")),
    )
    op.create_table(
        "parameters",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_parameters_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_parameters")),
    )
    op.create_table(
        "versions",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("closure", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("committed", sa.String(), nullable=True),
        sa.Column("digest", sa.String(), nullable=True),
        sa.Column("prefix", sa.String(), nullable=True),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("data_digest", sa.String(), nullable=True),
        sa.Column("weights_digest", sa.String(), nullable=True),
        sa.Column("manifest", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["data_digest"], ["data_versions.digest"], name=op.f("fk_versions_data_digest")),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_versions_project")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_versions_run_id")),
        sa.PrimaryKeyConstraint("project", "number", name=op.f("pk_versions")),
        sa.UniqueConstraint("project", "closure", name=op.f("uq_versions_project_closure")),
    )
    op.create_index(op.f("ix_versions_digest"), "versions", ["digest"])

    op.create_table(
        "aliases",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("changed", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "number"], ["versions.project", "versions.number"], name=op.f("fk_aliases_project_number")
        ),
        sa.PrimaryKeyConstraint("project", "alias", name=op.f("pk_aliases")),
    )
    op.create_table(
        "evaluations",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("dataset_digest", sa.String(), nullable=False),
        sa.Column("weights_digest", sa.String(), nullable=False),
        sa.Column("num_rows", sa.Integer(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("summary", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "number"], ["versions.project", "versions.number"], name=op.f("fk_evaluations_project_number")
        ),
        sa.PrimaryKeyConstraint("project", "number", "dataset", "dataset_digest", name=op.f("pk_evaluations")),
    )
    op.create_index(
        op.f("ix_evaluations_weights_digest_dataset_digest"), "evaluations", ["weights_digest", "dataset_digest"]
    )
