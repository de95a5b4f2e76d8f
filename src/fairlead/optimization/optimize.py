"""Measure the variants of a trained model, pick the one to serve, and calibrate its probabilities.

build ──► answer the validation split ──► time, in rounds ──► load in processes of their own ──► choose ──► calibrate
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairlead.errors import ConfigError
from fairlead.events import Progress
from fairlead.formats.variants import (
    REFERENCE,
    VARIANTS,
    OptimizationRecord,
    RejectionRecord,
    TargetName,
    VariantRecord,
)
from fairlead.names import CLASSIFICATION
from fairlead.optimization import calibration, timing
from fairlead.optimization.building import Built, build, one_line, size_of
from fairlead.optimization.choice import choose
from fairlead.optimization.comparison import RULES, compare
from fairlead.optimization.config import CANDIDATES, OptimizationConfig
from fairlead.optimization.material import Material
from fairlead.optimization.probe import Request, by_runtime, probe
from fairlead.optimization.significance import rows_needed
from fairlead.training.checkpoints.finished import hardware
from fairlead.variants.availability import has_gpu
from fairlead.variants.contract import Logits, Runner
from fairlead.variants.opening import open_variant

RUNTIMES = ("torch", "transformers", "onnx", "onnxruntime", "openvino")
PROBED_TEXTS = 8


def optimize(material: Material, config: OptimizationConfig, output: Path) -> OptimizationRecord:
    """Build variants under `output`, measure them and choose; files that the version does not keep are removed."""
    target = resolve_target(config)
    measuring = _Measuring(material, config, output, device_of(target))
    with ThreadPoolExecutor(1) as beside:
        built = build(material, _worth_trying(material, config, target), output, config.weight_bits)
        measured = measuring.measure(built, beside)
    chosen, reason = choose(measured.variants, config, target)
    reason = too_few_rows(material, config) or reason
    variants = _keep(measured.variants, chosen, config, output)
    probabilities = _calibrate(material, config, measured.runners[chosen], measured.outputs[chosen])
    return OptimizationRecord(
        target=target,
        chosen=chosen,
        reason=reason,
        variants=variants,
        refused=built.refused,
        metric=RULES[material.record.task].metric,
        test=RULES[material.record.task].test,
        num_rows=len(material.validation.token_ids),
        max_export_difference=built.max_export_difference,
        **surroundings(config, target),
        **probabilities,
    )


def surroundings(config: OptimizationConfig, target: TargetName) -> dict[str, Any]:
    """What the result depends on besides the model: settings, machine and runtimes."""
    return {
        "config": config.to_dict(),
        "hardware": hardware(torch.device(device_of(target))),
        "runtimes": {name: version for name in RUNTIMES if (version := _version(name))},
    }


def resolve_target(config: OptimizationConfig) -> TargetName:
    """The target, `auto` resolved by what there is here. Raises ConfigError for a GPU where there is none."""
    if config.target == "auto":
        return "gpu" if has_gpu() else "cpu"
    if config.target == "gpu" and not has_gpu():
        raise ConfigError(
            "optimization.target: gpu, but torch sees no GPU here; measure where there is one, or take cpu"
        )
    return config.target


def device_of(target: TargetName) -> str:
    """Where torch computes for a target."""
    return "cuda" if target == "gpu" else "cpu"


def _worth_trying(material: Material, config: OptimizationConfig, target: TargetName) -> list[str]:
    """The candidates; none where the rows are too few to show anything of accuracy, whatever the variants answer."""
    return [] if too_few_rows(material, config) else list(config.candidates or CANDIDATES[target])


def too_few_rows(material: Material, config: OptimizationConfig) -> str:
    """Why not even a variant that answers all rows alike could serve; empty where one could.

    The bound is accuracy's. The bootstrap of the other metrics gives 0 for equal answers on however few rows, and is
    held to the same number of them.
    """
    rows, needed = len(material.validation.token_ids), rows_needed(config.max_drop, config.confidence)
    if rows >= needed:
        return ""
    metric = RULES[material.record.task].metric.replace("_", " ")
    return (
        f"{rows} rows of validation cannot show that {metric} drops by at most {config.max_drop:g} at confidence "
        f"{config.confidence:g}; {needed} can, so raise data.validation_fraction or optimization.max_drop"
    )


@dataclass(frozen=True)
class _Measured:
    variants: list[VariantRecord]
    runners: dict[str, Runner]
    outputs: dict[str, Logits]


class _Measuring:
    """The steps of measuring what was built."""

    def __init__(self, material: Material, config: OptimizationConfig, output: Path, device: str) -> None:
        self.material, self.config, self.output, self.device = material, config, output, device

    def measure(self, built: Built, beside: ThreadPoolExecutor) -> _Measured:
        # While this process answers, which no clock watches; timing begins when both have ended.
        loading = beside.submit(self._loads, [*built.variants])
        runners, outputs = self._answers(built)
        found = {name: self._compared(outputs[name], outputs[REFERENCE]) for name in runners}
        loads = loading.result()
        speeds = self._speeds(runners)
        variants = [
            record.model_copy(
                update=found[record.name]
                | speeds[record.name]
                | loads.get(record.name, {})
                | {"size_bytes": size_of(record, self.material, self.output)}
            )
            for record in built.variants
        ]
        return _Measured(variants, runners, outputs)

    def _answers(self, built: Built) -> tuple[dict[str, Runner], dict[str, Logits]]:
        """What each variant says of the validation split; one that cannot be loaded, or fails, is refused."""
        texts, runners, outputs = self.material.validation.token_ids, {}, {}
        progress = Progress("optimize", "answering the validation split", len(built.variants) * len(texts), "texts")
        for record in list(built.variants):
            try:
                runner = self._open(record)
                logits = timing.outputs(runner, texts, progress.advance)
                if not np.isfinite(logits).all():
                    raise ConfigError("its outputs are no finite numbers")
            # Runtimes raise what they like for what they cannot do; without the weights there is nothing to serve.
            except Exception as error:
                if record.name == REFERENCE:
                    raise
                built.refused[record.name] = one_line(f"it does not run: {error}")
                built.variants.remove(record)
                continue
            runners[record.name], outputs[record.name] = runner, logits
        return runners, outputs

    def _open(self, record: VariantRecord) -> Runner:
        runner = open_variant(
            self._folder(record), record, self.material.pad_token_id, self.config.threads, self.device
        )
        runner.set_threads(self.config.threads)
        return runner

    def _folder(self, record: VariantRecord) -> Path:
        return self.output if record.files else self.material.folder

    def _compared(self, ours: Logits, theirs: Logits) -> dict[str, Any]:
        terms, targets = self.material.terms, self.material.validation.targets
        comparison = compare(self.material.record.task, terms, targets, ours, theirs, self.config.confidence)
        values = {**vars(comparison), "qualifies": comparison.worst_drop <= self.config.max_drop}
        # The reference is what the others are held against.
        own = ("metrics", "changed_share", "max_difference", "drop") if ours is theirs else tuple(values)
        return {name: values[name] for name in own}

    def _speeds(self, runners: dict[str, Runner]) -> dict[str, dict[str, Any]]:
        texts, rounds = self.material.validation.token_ids, self.config.rounds
        lengths = timing.usual_lengths(texts)
        steps = len(runners) * (1 + rounds * (1 + len(lengths) * len(timing.BATCH_SIZES)))
        progress = Progress("optimize", "timing variants", steps, "calls")
        first = timing.enough_texts(texts, 0.0)
        # Once for nothing: what is allocated and compiled at the first call is no part of a text's time.
        warm = timing.throughput(runners, first, 1, progress)
        some = timing.enough_texts(texts, warm[REFERENCE])
        rates = timing.throughput(runners, some, rounds, progress)
        shapes = timing.by_shape(runners, lengths, texts[0][0], rounds, progress)
        return {name: {"texts_per_second": rates[name], "speeds": shapes[name]} for name in runners}

    def _loads(self, records: list[VariantRecord]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        progress = Progress("optimize", "loading each variant in a process of its own", len(records), "variants")
        for group in by_runtime(records):
            request = Request(
                folder=str(self._folder(group[0])),
                pad_token_id=self.material.pad_token_id,
                variants=group,
                batch=self.material.validation.token_ids[:PROBED_TEXTS],
                threads=self.config.threads,
                device=self.device,
            )
            found |= probe(request)
            progress.advance(len(group))
        return found


def _keep(records: list[VariantRecord], chosen: str, config: OptimizationConfig, output: Path) -> list[VariantRecord]:
    """Say which variants the version can run, and remove the files of the others."""
    needed = {file for record in records if record.name == chosen or config.keep == "all" for file in record.files}
    kept = [record.model_copy(update={"kept": set(record.files) <= needed}) for record in records]
    # The float32 file is written for the others too, wanted or not.
    for path in list((output / VARIANTS).rglob("*.onnx")):
        if path.relative_to(output).as_posix() not in needed:
            path.unlink()
            path.parent.rmdir()
    return kept


def _calibrate(material: Material, config: OptimizationConfig, runner: Runner, logits_NC: Logits) -> dict[str, Any]:
    """Fields of the record about probabilities, for one label a text: fitted on validation, judged on test."""
    rows = len(logits_NC)
    if material.record.task != CLASSIFICATION or rows < calibration.LEAST_ROWS:
        return {}
    true_N, test = material.validation.targets, material.test
    temperature = calibration.best_temperature(logits_NC, true_N) if config.calibrate else 1.0
    found: dict[str, Any] = {"temperature": temperature}
    judged_NC = timing.outputs(runner, test.token_ids) if test.token_ids else logits_NC[:0]
    if config.calibrate and len(judged_NC):
        found["calibration"] = calibration.describe_calibration("test", judged_NC, test.targets, temperature)
    if config.reject:
        threshold = calibration.threshold_that_keeps(config.in_scope_share, logits_NC, temperature)
        found["rejection_threshold"] = threshold
        if len(judged_NC):
            found["rejection"] = _rejection(material, config, runner, (judged_NC, temperature, threshold))
    return found


def _rejection(
    material: Material, config: OptimizationConfig, runner: Runner, judged: tuple[Logits, float, float]
) -> RejectionRecord:
    logits_NC, temperature, threshold = judged
    share, targets = config.in_scope_share, material.test.targets
    record = calibration.describe_rejection(share, threshold, logits_NC, targets, temperature)
    if not material.out_of_scope:
        return record
    confidence_N = calibration.confidences(timing.outputs(runner, material.out_of_scope), temperature)
    rejected = float((confidence_N < threshold).mean())
    return record.model_copy(update={"out_of_scope": config.out_of_scope, "rejected_share": rejected})


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
