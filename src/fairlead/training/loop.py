"""The training loop of one process: step, validate, keep.

step        gradient of a global batch (fairlead.training.gradient), clipped, taken into the weights
validate    score the validation split (fairlead.training.validation), judge whether it is the best so far
keep        a checkpoint beside training (fairlead.training.checkpoints.keeping)
"""

import contextlib
import time
from collections.abc import Callable

import torch
from safetensors.torch import load
from torch import nn

from fairlead.errors import FairleadError, IntegrityError
from fairlead.events import Progress
from fairlead.training.batching import vocabulary
from fairlead.training.batching.batches import Rows, make_plan
from fairlead.training.batching.passes import Pass, Passes
from fairlead.training.checkpoints.format import SKIPPED, Best, Checkpoints, State
from fairlead.training.checkpoints.keeping import Keeper
from fairlead.training.checkpoints.parts import ModelPart, OptimizerPart, Part
from fairlead.training.config import TrainConfig
from fairlead.training.gradient import Gradient, Losses
from fairlead.training.launching.distributed import Group
from fairlead.training.models.compiling import compile_layers
from fairlead.training.models.headnorm import HeadNorms, fold_head_norm
from fairlead.training.objective.scores import is_better
from fairlead.training.objective.tasks import Splits, Task, make_task
from fairlead.training.updates.averaging import WeightAverage
from fairlead.training.updates.layers import freeze
from fairlead.training.updates.optimizers import build_optimizer, clip_gradient, set_learning_rate
from fairlead.training.updates.scaling import LossScale
from fairlead.training.updates.schedules import learning_rate
from fairlead.training.updates.sharding import Shards
from fairlead.training.validation import validate
from fairlead.training.watch import heartbeat
from fairlead.training.watch.figures import Figures
from fairlead.training.watch.heartbeat import Phase
from fairlead.training.watch.metrics import MetricLog, from_rows, to_rows
from fairlead.training.watch.trouble import Trouble, error_of


class Loop:
    """One process of a run, from its newest checkpoint to its end."""

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        splits: Splits,
        group: Group,
        checkpoints: Checkpoints,
        log: MetricLog | None = None,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        """`log` is given to the first process only; `stop_requested` says that SIGTERM came to this one."""
        self.config, self.group, self.checkpoints = config, group, checkpoints
        self.log, self.stop_requested = log, stop_requested
        self.plan = make_plan(config, splits.train)
        # A model that is to be sharded may not fit on a device: its shards go there.
        self.model = (model if config.parallel == "fsdp" else model.to(group.device)).train()
        self._vocabulary = vocabulary.reduce(self.model, (splits.train, splits.validation), splits.pad_token_id)
        self.splits = splits if self._vocabulary is None else self._vocabulary.translate(splits)
        task = make_task(config, self.model, self.splits, group.device)
        longest = max(int(split.lengths.max()) for split in (splits.train, splits.validation))
        self._passes = Passes(config, self.model, self.splits.train, self.splits.pad_token_id, longest)
        self._pieces = self._passes.pieces(splits.validation)
        self.figures = Figures(task.metric, group, self.plan.num_steps, self._validate_every)
        freeze(self.model, config)
        sharded = config.parallel == "fsdp"
        self._shards = Shards(self._passes.network, group, self._passes.copy_type) if sharded else None
        if config.compile == "on":
            compile_layers(self._passes.network)
        if self._shards and self._vocabulary:
            self._vocabulary = self._vocabulary.of(self.model)
        self.losses = Losses(self._passes, task, self.figures)
        self.losses.freeze_unreached(self.model)
        self._assemble()
        self._keeper = Keeper(config, checkpoints, self.parts, group, log)
        self.state = self._resume()
        # Of the last step, over the global batch.
        self.loss = float("nan")
        tokens = self.state.micro_batch_tokens or config.micro_batch_tokens
        self.gradient = Gradient(self.losses, self.scaling, self._norms, group, tokens, sharded)

    @property
    def task(self) -> Task:
        """What the run minimises and reports."""
        return self.losses.task

    def _assemble(self) -> None:
        """Make what learns and remembers beside the model, and the parts of a checkpoint."""
        self.optimizer = build_optimizer(self.model, self.config)
        self._norms = HeadNorms(self.model)
        self.average = WeightAverage(self.optimizer, self._norms, self.config.ema_decay)
        self.scaling = LossScale(self.optimizer, self.group.device, self.config.precision)
        self.parts: dict[str, Part] = {"model": ModelPart(self.model), "optimizer": OptimizerPart(self.optimizer)}
        if self.scaling.enabled:
            self.parts["scaling"] = self.scaling

    def run(self) -> bool:
        """Train to the end. Returns False when told to stop before; its checkpoint is durable then."""
        self._clock = time.monotonic()
        with self._keeper:
            done = self._run()
        self._count_seconds()
        return done

    def _run(self) -> bool:
        progress = Progress("train", "training", self.plan.num_steps, "steps")
        progress.done = self.state.step
        if self.log:
            pending = from_rows(self.state.points)
            self.log.begin(self.state.step, self.plan.num_steps, pending, self._sample)
        while True:
            if not self.state.validated and not self._validate():
                return False
            if self.state.stopped_early or self.state.step >= self.plan.num_steps:
                return True
            told_to_stop = self._step(self.state.step + 1, progress)
            if told_to_stop:
                self._save()
                return False
            # A step that is due for a validation is saved there.
            if self.state.validated and self._keeper.is_due(self.state.step):
                self._save()

    def load_best(self) -> None:
        """Put the weights of the best step into `model`, ready to be saved; no step can follow."""
        assert self.state.best is not None
        found = self.checkpoints.read(self.state.best.step)
        if self._shards:
            # The others need not take part: a checkpoint holds whole tensors.
            self.model = self._shards.whole_model()
            self._vocabulary = self._vocabulary and self._vocabulary.of(self.model)
            self._assemble()
        if self._vocabulary:
            self._vocabulary.shrink(self.model)
        for name, part in self.parts.items():
            part.load(load(found.contents[name]))
        self.average.exchange()
        fold_head_norm(self.model)
        # The task knows the splits in the rows of the small embedding.
        self.task.finish(self.model)
        if self._vocabulary:
            self._vocabulary.restore(self.model)

    def _step(self, step: int, progress: Progress) -> bool:
        """One update of the weights; whether any process was told to stop."""
        started = time.monotonic()
        heartbeat.mark(Phase.COMPUTING, step)
        rate = self._rate(step)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        self.figures.begin_step()
        with self.figures.waiting():
            rows = self.plan.rows(step)
        loss_sum, fits = self.gradient.attempt(step, rows)
        # One exchange carries the loss, whether SIGTERM came to any process, and whether memory ran out in any.
        own = [loss_sum, float(self.stop_requested()), float(not fits)]
        sums = self.group.sum(torch.tensor(own, dtype=torch.float64, device=self.group.device))
        heartbeat.mark(Phase.COMPUTING)
        if sums[2] > 0:
            self.optimizer.zero_grad(set_to_none=True)
            self.gradient.shrink(step, rows)
            self._advance(micro_batch_tokens=self.gradient.budget.tokens)
            return self._step(step, progress)
        loss = float(sums[0]) / self.task.num_terms(rows)
        self.scaling.unscale()
        norm = clip_gradient(self.model, self.config)
        overflowed = self.scaling.update()
        self._check_finite(Trouble(step, rows, loss, 0.0 if overflowed else norm))
        self.loss = loss
        if overflowed:
            self._advance(skipped_steps=self.state.skipped_steps + 1)
        else:
            self._update(step)
        self._advance(step=step, validated=not self._is_due(step))
        if self.group.is_first:
            seconds, num_tokens = time.monotonic() - started, int(self._passes.lengths[rows].sum())
            rates = self.figures.step(seconds, num_tokens, self.gradient.num_computed)
            if self.log:
                # A gradient that overflowed has no norm.
                gradient = {} if overflowed else {"gradient_norm": norm}
                self.log.add(step, {"loss": loss, "learning_rate": rate, **gradient, **rates, **self._found()})
            left = self.figures.seconds_left(step)
            progress.advance(note=lambda: self.figures.note(loss), seconds_left=left)
        return bool(sums[1] > 0)

    def _update(self, step: int) -> None:
        """Take the step's gradient into the weights."""
        self._keeper.wait_for_copy()
        self.optimizer.step()
        self._norms.update(self.group)
        self.average.update(step)

    def _sample(self) -> dict[str, float]:
        """Metrics of every few seconds, whether steps end or not."""
        return self.figures.sample() | self._keeper.sample()

    def _found(self) -> dict[str, float]:
        """Metrics of what was not set but found by the run, where there is any."""
        found = {"micro_batch_tokens": float(self.gradient.budget.tokens)} if self.state.micro_batch_tokens else {}
        if self.scaling.enabled:
            found |= {"loss_scale": self.scaling.value, SKIPPED: float(self.state.skipped_steps)}
        return found

    def _rate(self, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(self.config, step, self.plan.num_steps)

    def _check_finite(self, trouble: Trouble) -> None:
        """Raise NumericalError before anything that is not a number reaches the weights."""
        if trouble.is_real:
            network = self._passes.computing

            def row_loss(rows: Rows) -> torch.Tensor:
                return self.losses.of(network, trouble.step, Pass([(0, rows)]))

            with contextlib.suppress(FairleadError, OSError):
                # The last good one may be on its way.
                self._keeper.wait()
            raise error_of(trouble, self.model, row_loss, self.checkpoints, self.splits.data, self.group.is_first)

    def _validate(self) -> bool:
        """Score the current step and keep its checkpoint; False when told to stop meanwhile."""
        splits, began = self.splits, time.monotonic()
        with self.average.applied():
            metrics = validate(
                *(self._passes, self.task, splits.validation, self._pieces),
                *(self.group, self.stop_requested, self._shards is not None),
            )
        if metrics is None:
            self._save()
            return False
        self._judge(metrics)
        self.figures.validated(metrics, self.state.best, time.monotonic() - began)
        if self.log:
            self.log.add(self.state.step, {f"validation/{name}": value for name, value in metrics.items()})
        self._save()
        return True

    def _judge(self, metrics: dict[str, float]) -> None:
        """Note whether this step's weights are the ones to keep, and whether patience has run out."""
        name, best = self.task.metric, self.state.best
        if self.config.keep == "last" or is_better(name, metrics[name], best.metrics[name] if best else None):
            self._advance(validated=True, best=Best(step=self.state.step, metrics=metrics), validations_without_gain=0)
            return
        without_gain = self.state.validations_without_gain + 1
        patience = self.config.patience
        stopped = patience is not None and without_gain >= patience
        self._advance(validated=True, validations_without_gain=without_gain, stopped_early=stopped)

    def _save(self) -> None:
        """Begin the checkpoint of this step."""
        if self.group.is_first:
            self._count_seconds()
            self._advance(points=to_rows(self.log.pending()) if self.log else [])
        self._keeper.save(self.state)

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self._advance(seconds=self.state.seconds + now - self._clock)
        self._clock = now

    def _is_due(self, step: int) -> bool:
        return step % self._validate_every == 0 or step == self.plan.num_steps

    @property
    def _validate_every(self) -> int:
        """Steps between validations."""
        return self.config.eval_every_steps or self.plan.steps_per_epoch

    def _advance(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)

    def _resume(self) -> State:
        """Load the newest intact checkpoint. The first process reads it, the others have it from there."""
        found = self.checkpoints.newest() if self.group.is_first else None
        text = self.group.broadcast(found.state.model_dump_json().encode() if found else b"")
        if not text:
            return State()
        state = State.model_validate_json(text)
        if state.files.keys() != self.parts.keys():
            raise IntegrityError(f"{self.checkpoints.url}: its checkpoint has other parts; remove it and train again")
        for name, part in self.parts.items():
            part.load(load(self.group.broadcast(found.contents[name] if found else b"")))
        return state
