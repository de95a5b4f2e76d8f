"""The registry's tables, as the newest migration leaves them."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

# The newest revision under migrations/versions; compared on every open, so that Alembic is imported only when
# there is something to migrate.
HEAD = "0002"

PENDING, COMMITTED, ABANDONED = "pending", "committed", "abandoned"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# One row a project: the counter that every allocation locks. It only grows, so no number is used twice.
projects = Table(
    "projects",
    metadata,
    Column("name", String, primary_key=True),
    Column("last_version", Integer, nullable=False),
    Column("created", String, nullable=False),
)

data_versions = Table(
    "data_versions",
    metadata,
    Column("digest", String, primary_key=True),
    Column("prefix", String, nullable=False),
    Column("created", String, nullable=False),
    Column("num_rows", Integer, nullable=False),
    Column("manifest", JSON, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("project", String, nullable=False, index=True),
    Column("data_digest", String, nullable=False),
    Column("tokens_digest", String, nullable=False),
    Column("config", JSON, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("environment", JSON, nullable=False),
    Column("code", JSON, nullable=False),
    Column("status", String, nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False),
    Column("started", String, nullable=False),
    Column("finished", String),
    Column("weights_digest", String),
    Column("metrics", JSON, nullable=False),
)

# The leaves of a run's config by dotted name, so that SQL can ask which runs used a value.
parameters = Table(
    "parameters",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", JSON, nullable=False),
)

metric_points = Table(
    "metric_points",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("step", Integer, primary_key=True),
    # NULL stands for NaN and infinity: SQLite cannot hold a NaN.
    Column("value", Double),
    Column("time", Double, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("project", ForeignKey("projects.name"), primary_key=True),
    Column("number", Integer, primary_key=True),
    # NULL once abandoned, so that the same closure may be registered again under a new number.
    Column("closure", String),
    Column("state", String, nullable=False),
    Column("created", String, nullable=False),
    Column("committed", String),
    Column("digest", String, index=True),
    Column("prefix", String),
    Column("run_id", ForeignKey("runs.run_id")),
    Column("data_digest", ForeignKey("data_versions.digest")),
    Column("weights_digest", String),
    Column("manifest", JSON),
    UniqueConstraint("project", "closure"),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("project", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("dataset", String, primary_key=True),
    Column("dataset_digest", String, primary_key=True),
    Column("weights_digest", String, nullable=False),
    Column("num_rows", Integer),
    Column("metrics", JSON, nullable=False),
    Column("summary", JSON(none_as_null=True)),
    Column("created", String, nullable=False),
    ForeignKeyConstraint(["project", "number"], ["versions.project", "versions.number"]),
    Index("ix_evaluations_weights_digest_dataset_digest", "weights_digest", "dataset_digest"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("project", String, primary_key=True),
    Column("alias", String, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("changed", String, nullable=False),
    ForeignKeyConstraint(["project", "number"], ["versions.project", "versions.number"]),
)

# True labels of predictions. No foreign key: a server may serve a version that another registry knows.
feedback = Table(
    "feedback",
    metadata,
    Column("prediction_id", String, primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("label", JSON, nullable=False),
    # NULL until the prediction's record is found.
    Column("project", String),
    Column("number", Integer),
    Column("answer", JSON(none_as_null=True)),
    Column("first_received", String, nullable=False),
    Column("received", String, nullable=False),
    Column("revisions", Integer, nullable=False),
    Index("ix_feedback_project_number", "project", "number"),
)
