"""The training loop of one process: step, validate, keep.

The loss of a step is the sum of its global batch's losses (a row's or a predicted token's, as the task has
it) divided by their number, whatever the number of processes W: each process sums over its own passes, and
DDP averages over processes, so every term is multiplied by W.
"""

import contextlib
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from safetensors.torch import load
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fairlead.errors import FairleadError, IntegrityError
from fairlead.events import Progress
from fairlead.formats.tokens import TokenArrays
from fairlead.training.batching import vocabulary
from fairlead.training.batching.batches import MicroBatch, Rows, make_plan
from fairlead.training.batching.passes import Pass, Passes
from fairlead.training.checkpoints.format import AGE, BLOCKED, SKIPPED, Best, Checkpoints, State
from fairlead.training.checkpoints.parts import ModelPart, OptimizerPart, Part
from fairlead.training.checkpoints.saving import Saver
from fairlead.training.checkpoints.tensor_file import take_part
from fairlead.training.config import TrainConfig
from fairlead.training.launching.distributed import Group
from fairlead.training.models.compiling import compile_layers
from fairlead.training.models.headnorm import HeadNorms, fold_head_norm
from fairlead.training.objective.scores import is_better
from fairlead.training.objective.tasks import Splits, make_task
from fairlead.training.updates.averaging import WeightAverage
from fairlead.training.updates.gradients import GradientExchange
from fairlead.training.updates.layers import freeze
from fairlead.training.updates.optimizers import build_optimizer, clip_gradient, set_learning_rate
from fairlead.training.updates.scaling import LossScale
from fairlead.training.updates.schedules import learning_rate
from fairlead.training.updates.sharding import Shards
from fairlead.training.validation import validate
from fairlead.training.watch import heartbeat
from fairlead.training.watch.figures import Figures
from fairlead.training.watch.heartbeat import Phase
from fairlead.training.watch.memory import MicroBatchBudget, release
from fairlead.training.watch.metrics import MetricLog, from_rows, to_rows
from fairlead.training.watch.trouble import Trouble, error_of

# Below it a wait is the price of asking.
NOTICEABLE_SECONDS = 1e-4


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
        self.task = make_task(config, self.model, self.splits, group.device)
        longest = max(int(split.lengths.max()) for split in (splits.train, splits.validation))
        self._passes = Passes(config, self.model, self.splits.train, self.splits.pad_token_id, longest)
        self._pieces = self._passes.pieces(splits.validation)
        self.figures = Figures(self.task.metric, group, self.plan.num_steps, self._validate_every)
        freeze(self.model, config)
        self._shards = Shards(self._passes.network, group) if config.parallel == "fsdp" else None
        if config.compile == "on":
            compile_layers(self._passes.network)
        if self._shards and self._vocabulary:
            self._vocabulary = self._vocabulary.of(self.model)
        _freeze_unreached(self.model, self._loss(self._passes.computing, 0, _smallest(splits.train)))
        self._assemble()
        self._saver = Saver(checkpoints, self.parts, config.keep_checkpoints)
        # The step of the last checkpoint, and how long it held training up.
        self._saved = (0, 0.0)
        self.state = self._resume()
        # Of the last step, over the global batch.
        self.loss = float("nan")
        self._num_computed = 0
        self._put_off = False
        self._exchange = None if self._shards else GradientExchange(group.world_size)
        self.budget = MicroBatchBudget(self.state.micro_batch_tokens or config.micro_batch_tokens, self._exchange)
        self._passes.budget = self.budget.tokens
        self._parallel = self._wrap()

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
        with self._saver:
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
            self._save_if_due()

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
        loss_sum, fits = self.budget.attempt(partial(self._backward, step, rows))
        # One exchange carries the loss, whether SIGTERM came to any process, and whether memory ran out in any.
        own = [loss_sum, float(self.stop_requested()), float(not fits)]
        sums = self.group.sum(torch.tensor(own, dtype=torch.float64, device=self.group.device))
        heartbeat.mark(Phase.COMPUTING)
        if sums[2] > 0:
            self._shrink(step, rows)
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
            rates = self.figures.step(seconds, num_tokens, self._num_computed)
            if self.log:
                # A gradient that overflowed has no norm.
                gradient = {} if overflowed else {"gradient_norm": norm}
                self.log.add(step, {"loss": loss, "learning_rate": rate, **gradient, **rates, **self._found()})
            left = self.figures.seconds_left(step)
            progress.advance(note=lambda: self.figures.note(loss), seconds_left=left)
        return bool(sums[1] > 0)

    def _update(self, step: int) -> None:
        """Take the step's gradient into the weights."""
        self._wait_for_copy()
        self.optimizer.step()
        self._norms.update(self.group)
        self.average.update(step)

    def _sample(self) -> dict[str, float]:
        """Metrics of every few seconds, whether steps end or not."""
        return self.figures.sample() | {AGE: self._saver.age}

    def _found(self) -> dict[str, float]:
        """Metrics of what was not set but found by the run, where there is any."""
        found = {"micro_batch_tokens": float(self.budget.tokens)} if self.state.micro_batch_tokens else {}
        if self.scaling.enabled:
            found |= {"loss_scale": self.scaling.value, SKIPPED: float(self.state.skipped_steps)}
        return found

    def _rate(self, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(self.config, step, self.plan.num_steps)

    def _shrink(self, step: int, rows: Rows) -> None:
        """Make ready to compute a step again, which did not fit into memory, in smaller micro-batches."""
        self.optimizer.zero_grad(set_to_none=True)
        # DDP cannot go on after a backward pass that failed.
        del self._parallel
        release()
        self.budget.halve(step, rows, self._passes.lengths, self.group.is_first)
        self._passes.budget = self.budget.tokens
        self._advance(micro_batch_tokens=self.budget.tokens)
        self._parallel = self._wrap()

    def _check_finite(self, trouble: Trouble) -> None:
        """Raise NumericalError before anything that is not a number reaches the weights."""
        if trouble.is_real:
            network = self._passes.computing

            def row_loss(rows: Rows) -> torch.Tensor:
                return self._loss(network, trouble.step, Pass([(0, rows)]))

            with contextlib.suppress(FairleadError, OSError):
                # The last good one may be on its way.
                self._saver.wait()
            raise error_of(trouble, self.model, row_loss, self.checkpoints, self.splits.data, self.group.is_first)

    def _backward(self, step: int, rows: Rows) -> float:
        """Add this process's share of the gradient; the sum of its losses."""
        with self.figures.waiting():
            plan = self._passes.plan(rows, self.group.world_size)
        self._num_computed = self._passes.computed_tokens(plan)
        own, num_rounds, total = plan[self.group.rank], max(map(len, plan)), 0.0
        num_terms = self.task.num_terms(rows)
        self._norms.begin()
        for turn in range(num_rounds):
            heartbeat.mark(Phase.COMPUTING)
            with self._without_exchange(turn < num_rounds - 1):
                self._norms.count(turn < len(own))
                if turn < len(own):
                    loss = self._loss(self._parallel, step, own[turn])
                    total += float(loss.detach())
                else:
                    # Every process is waited for: one without a pass adds a gradient of zero.
                    loss = self._loss(self._parallel, step, _smallest(self.splits.train)) * 0.0
                torch.autograd.backward(self.scaling.scale(loss * (self.group.world_size / num_terms)))
        return total

    def _without_exchange(self, wanted: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients are exchanged once, in the backward pass of the last round; of sharded ones no sum can be kept."""
        if wanted and isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()
        return contextlib.nullcontext()

    def _loss(self, network: nn.Module, step: int, of: Pass) -> torch.Tensor:
        """The summed loss of the texts of a pass."""
        with self.figures.waiting():
            batch = self._passes.batch(step, of)
        logits = self._passes.logits(network, batch)
        # Only tasks of whole texts have models that take a pack, and they read its labels alone.
        return self.task.losses(logits, cast(MicroBatch, batch)).sum()

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

    def _save_if_due(self) -> None:
        """Save at every so many steps; a step that is due for a validation is saved there."""
        if not self.state.validated:
            return
        due, ready = self.state.step % self.config.checkpoint_every_steps == 0, False
        if self.group.is_first:
            self._saver.prepare()
            ready = self._saver.is_due(due)
        if self._shards:
            ready = self._agree(due, ready)
        if ready:
            self._save()

    def _agree(self, due: bool, ready: bool) -> bool:
        """Whether the first process is ready to save: all have to know, to bring their shards."""
        self._put_off = self._put_off or due
        if not self._put_off:
            return False
        found = self.group.sum(torch.tensor(float(ready and self.group.is_first), device=self.group.device))
        self._put_off = not found
        return bool(found)

    def _save(self) -> None:
        """Begin the checkpoint of this step; waits for the one before."""
        self._put_off = False
        if not self.group.is_first:
            if self._shards:
                self._bring_shards()
            return
        self._count_seconds()
        self._advance(points=to_rows(self.log.pending()) if self.log else [])
        with heartbeat.marked(Phase.SAVING):
            blocked = self._saver.save(self.state)
        self._saved = (self.state.step, blocked)
        if self.log:
            self.log.add(self.state.step, {BLOCKED: blocked})

    def _wait_for_copy(self) -> None:
        """Leave the weights as they are until the checkpoint has them."""
        waited = self._saver.wait_for_copy()
        step, blocked = self._saved
        if self.log and waited > NOTICEABLE_SECONDS:
            self.log.add(step, {BLOCKED: blocked + waited})

    def _bring_shards(self) -> None:
        """Do this process's share of a checkpoint that the first one fills (see Saver.save)."""
        with heartbeat.marked(Phase.SAVING):
            for part in self.parts.values():
                take_part(part.tensors())

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

    def _wrap(self) -> nn.Module:
        """The network as processes compute it together: cut up already, or in DDP, with its buckets settled.

        DDP orders its buckets anew after the first backward pass, and with three processes or more
        the order decides how sums are rounded. Passes of zero settle the order, so that a
        resumed run sums as one that was never interrupted.
        """
        if self._exchange is None:
            return self._passes.computing
        device_ids = [self.group.device.index] if self.group.device.type == "cuda" else None
        with warnings.catch_warnings():
            # Newer torch would have it named forward_sync_buffers, which older torch does not know.
            warnings.simplefilter("ignore", FutureWarning)
            ddp = DistributedDataParallel(
                self._passes.computing, device_ids=device_ids, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        one = _smallest(self.splits.train)
        self._exchange.attach(ddp, lambda: torch.autograd.backward(self._loss(ddp, 0, one) * 0.0))
        return ddp


def _freeze_unreached(model: nn.Module, loss: torch.Tensor) -> None:
    """Freeze weights that the loss does not depend on (a pooler that the head ignores): DDP would wait for them."""
    torch.autograd.backward(loss)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    model.zero_grad(set_to_none=True)


def _smallest(arrays: TokenArrays) -> Pass:
    """A pass of one text, for what needs a gradient but not its value."""
    return Pass([(0, _all_rows(arrays)[:1])])


def _all_rows(arrays: TokenArrays) -> Rows:
    return torch.arange(arrays.num_rows).numpy()
