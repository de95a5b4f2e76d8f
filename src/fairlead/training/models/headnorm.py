"""Batch normalisation of what the classifier reads, in a form that neither depends on how a batch is cut nor stays.

Ioffe and Szegedy's (2015) normalises by the mean and variance of the rows at hand. Here these are rows of one
micro-batch on one process, so the result would depend on both. Instead a row is normalised, in training as in use,
by the running statistics of the global batches before it, which all processes sum up once a step:

    y = gamma * (x - mean) / sqrt(var + 1e-5) + beta
    mean, var  <-  (1 - m) (mean, var) + m (those of the step's global batch),   m = max(0.1, 1 / step)

The same statistics in training and use is what Ioffe (2017), "Batch Renormalization", aims at; unlike there, no
gradient goes through the batch's own moments. Sums are in float64, so that their order does not show.

Dropout between the two would make the rows' variance in training another one than in use (Li et al., 2019,
"Understanding the Disharmony between Dropout and Batch Normalization"), so the classifier's is off by default.

As an affine map of the features it goes into the linear layer behind it: the saved model is the plain
architecture, and gives the same answers.

Shapes: B rows, D features, C classes.
"""

from collections.abc import Iterator

import torch
from torch import nn

from fairlead.errors import ConfigError
from fairlead.training.launching.distributed import Group

MOMENTUM, EPSILON = 0.1, 1e-5


class FeatureNorm(nn.Module):
    """Normalises features by running statistics; counts those of the step while `counting`."""

    running_mean: torch.Tensor
    running_var: torch.Tensor
    average_mean: torch.Tensor
    average_var: torch.Tensor
    num_updates: torch.Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        # The second pair follows the first as an average of the weights follows the weights.
        for name, value in (("mean", 0.0), ("var", 1.0)):
            self.register_buffer(f"running_{name}", torch.full((num_features,), value))
            self.register_buffer(f"average_{name}", torch.full((num_features,), value))
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        self.counting = False
        self.sums: torch.Tensor | None = None

    def forward(self, features_BD: torch.Tensor) -> torch.Tensor:
        """Features of shape (B, D), normalised."""
        if features_BD.ndim != 2:
            raise ConfigError("model.classifier_norm: the head of this model reads every token; set it to none")
        features_BD = features_BD.float()
        if self.training and self.counting:
            self._count(features_BD.detach())
        scale_D, shift_D = self.affine()
        return features_BD * scale_D + shift_D

    def affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The map as y = scale * x + shift, each of shape (D,)."""
        scale_D = self.weight * torch.rsqrt(self.running_var + EPSILON)
        return scale_D, self.bias - self.running_mean * scale_D

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _count(self, features_BD: torch.Tensor) -> None:
        rows = torch.full((1,), len(features_BD), dtype=torch.float64, device=features_BD.device)
        exact_BD = features_BD.double()
        sums = torch.cat([rows, exact_BD.sum(dim=0), exact_BD.square().sum(dim=0)])
        self.sums = sums if self.sums is None else self.sums + sums

    @torch.no_grad()
    def update(self, group: Group) -> None:
        """Take the step's rows on all processes into the running statistics, and forget them."""
        width = len(self.running_mean)
        sums = torch.zeros(1 + 2 * width, dtype=torch.float64, device=self.running_mean.device)
        if self.sums is not None:
            sums += self.sums
        group.sum(sums)
        rows, mean_D = sums[0], sums[1 : width + 1] / sums[0]
        var_D = (sums[width + 1 :] / rows - mean_D.square()).clamp_min(0) * rows / (rows - 1).clamp_min(1)
        self.num_updates += 1
        momentum = max(MOMENTUM, 1 / int(self.num_updates))
        self.running_mean += momentum * (mean_D - self.running_mean).float()
        self.running_var += momentum * (var_D - self.running_var).float()
        self.sums = None


class NormedLinear(nn.Linear):
    """A linear layer that normalises what it reads."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.norm = FeatureNorm(linear.in_features)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C) from features of shape (B, D)."""
        return super().forward(self.norm(input).to(self.weight.dtype))

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The same map as one plain linear layer."""
        scale_D, shift_D = (part.double() for part in self.norm.affine())
        linear = nn.Linear(self.in_features, self.out_features).to(self.weight)
        linear.weight.copy_(self.weight.double() * scale_D)
        linear.bias.copy_(self.bias.double() + self.weight.double() @ shift_D)
        return linear


class HeadNorms:
    """The normalised layers of a model, mostly none; what a training loop tells them."""

    def __init__(self, model: nn.Module) -> None:
        self._norms = [module for module in model.modules() if isinstance(module, FeatureNorm)]

    def begin(self) -> None:
        """Forget rows counted so far: a step begins, or begins again."""
        for norm in self._norms:
            norm.sums = None

    def count(self, counting: bool) -> None:
        """Whether the rows that come now belong to the step."""
        for norm in self._norms:
            norm.counting = counting

    def update(self, group: Group) -> None:
        """End a step on all processes."""
        for norm in self._norms:
            norm.counting = False
            norm.update(group)

    def averaged(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each running statistic with its average."""
        for norm in self._norms:
            yield norm.running_mean, norm.average_mean
            yield norm.running_var, norm.average_var


def add_head_norm(model: nn.Module) -> None:
    """Normalise what the last linear layer of a classifier reads.

    Raises ConfigError where there is none that the normalisation could be folded into.
    """
    path = _last_linear(model)
    linear = model.get_submodule(path) if path else None
    if path is None or not isinstance(linear, nn.Linear) or linear.bias is None:
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        raise ConfigError(
            f"model.classifier_norm: the head of {kind} ends in no linear layer with a bias; set it to none"
        )
    _replace(model, path, NormedLinear(linear))


def fold_head_norm(model: nn.Module) -> None:
    """Put the normalisation into the linear layer behind it, so that the model is of its plain architecture again."""
    for path, module in list(model.named_modules()):
        if isinstance(module, NormedLinear):
            _replace(model, path, module.folded())


def _last_linear(model: nn.Module) -> str | None:
    """The name of the last linear layer outside of the base model."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return next((name for name in reversed(names) if not name.startswith(prefix)), None)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module.to(next(model.parameters()).device))
