"""The road of one model: ingest, tokenize, train, evaluate, gate, optimize, register, and if wanted deploy.

One parameter a section of the project file, and each stage is given only the sections that decide its result: a changed
setting runs exactly those again that depend on it. Here (`kfp.local`) and on Kubeflow only what `settle` adds differs.
"""

from collections.abc import Callable

from kfp import dsl
from kfp.dsl import PipelineTask
from kfp.dsl.base_component import BaseComponent

from components.deploy import deploy as put
from components.evaluate import evaluate
from components.gate import gate as judge
from components.ingest import ingest
from components.optimize import optimize
from components.register import register
from components.tokenize import tokenize
from components.train import train

NAME = "fairlead-training"


def leave_as_is(task: PipelineTask) -> PipelineTask:
    """Add nothing to a task: what a laptop needs."""
    return task


def training_pipeline(settle: Callable[[PipelineTask], PipelineTask] = leave_as_is) -> BaseComponent:
    """The pipeline, with `settle` applied to each task (image, resources, environment)."""

    @dsl.pipeline(name=NAME, description="From labelled text to a registered model version.")
    def training_dag(
        project: str,
        data: dict,
        incremental: dict = {},  # noqa: B006
        source_digest: str = "",
        base: str = "scratch",
        base_digest: str = "",
        tokenization: dict = {},  # noqa: B006
        model: dict = {},  # noqa: B006
        training: dict = {},  # noqa: B006
        evaluation: dict = {},  # noqa: B006
        gate: dict = {},  # noqa: B006
        optimization: dict = {},  # noqa: B006
        deploy: dict = {},  # noqa: B006
        deploy_mode: str = "none",
    ):
        ingested = settle(ingest(config=data, incremental=incremental, source_digest=source_digest))
        rows = ingested.outputs["output"]
        tokens = settle(tokenize(data=rows, config=tokenization, base=base, base_digest=base_digest)).outputs["output"]
        trained = settle(train(project=project, data=rows, tokens=tokens, model=model, training=training))
        weights = trained.outputs["output"]
        scored = settle(evaluate(project=project, data=rows, tokens=tokens, model=weights, config=evaluation))
        report = scored.outputs["output"]
        judged = settle(judge(evaluation=report, config=gate))
        trained_model = {"project": project, "tokens": tokens, "model": weights}
        # After the gate, as a refused model needs no variants; another bound changes none of them.
        variants = settle(optimize(**trained_model, config=optimization).after(judged)).outputs["output"]
        outcome = {"evaluation": report, "verdict": judged.outputs["output"], "optimization": variants}
        version = settle(register(**trained_model, **outcome, data=rows)).outputs["output"]
        with dsl.If(deploy_mode != "none"):
            # What it changes lies outside of the run: no cached result stands for it.
            settle(put(version=version, mode=deploy_mode, config=deploy)).set_caching_options(False)

    return training_dag


training = training_pipeline()
