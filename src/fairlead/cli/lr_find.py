"""`fairlead lr-find`: which learning rate to begin with."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli import project as options
from fairlead.cli.output import JsonOption, heading, print_json, print_pairs
from fairlead.errors import ConfigError

if TYPE_CHECKING:
    from fairlead.project import ProjectConfig

PICTURES = (".png", ".svg", ".pdf")


def lr_find(
    config: options.ConfigOption = None,
    data: options.DataOption = None,
    text: options.TextOption = None,
    label: options.LabelOption = None,
    task: options.TaskOption = None,
    project: options.ProjectOption = None,
    test: options.TestOption = None,
    overrides: options.SetOption = None,
    steps: Annotated[int, typer.Option("--steps", min=20, max=2_000, help="Steps of the sweep.")] = 100,
    lowest: Annotated[float, typer.Option("--from", help="Lowest learning rate.")] = 1e-6,
    highest: Annotated[float, typer.Option("--to", help="Highest learning rate.")] = 1.0,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Where to draw the curve: .png, .svg or .pdf. [default: in the home]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sweep the learning rate on the project's data and model, draw the loss, and suggest a rate."""
    if not 0 < lowest < highest <= 10:
        raise ConfigError(f"--from, --to: {lowest:g} to {highest:g} is no range of rates; take two of 0 to 10, rising")
    if plot and plot.suffix not in PICTURES:
        raise ConfigError(f"--plot {plot}: nothing draws such a file; end its name in {', '.join(PICTURES)}")
    values = options.project_values(config, data, text, label, project, test, overrides, task)
    settings = options.resolve(values)
    picture = _picture(settings.project, plot)
    curve = _sweep(settings, steps, lowest, highest, picture)
    if as_json:
        print_json(curve | {"plot": str(picture)})
    else:
        _print(curve, picture)


def _picture(project: str, plot: Path | None) -> Path:
    from fairlead import places

    return (plot or places.home() / "lr-find" / f"{project}.png").absolute()


def _sweep(settings: "ProjectConfig", steps: int, lowest: float, highest: float, picture: Path) -> dict[str, Any]:
    """Prepare the tokens as a run does, from its cache where they are there, and sweep in a process of its own."""
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.cluster.arguments import STAGES, base_address
    from fairlead.cluster.local import run_local

    until = STAGES.index("tokenize") + 1
    with Display(STAGES[:until], sys.stderr) as display:
        tokens = run_local(settings, until="tokenize", on_event=display.on_event).stages["tokenize"].folder
    job = {
        "tokens": str(tokens),
        # A version that is continued stands for the base.
        "model": settings.model.to_dict() | {"base": base_address(settings)},
        "training": settings.training.to_dict(),
        "steps": steps,
        "lowest": lowest,
        "highest": highest,
        "picture": str(picture),
    }
    with Display([], sys.stderr) as display, relayed(display.on_event):
        return _run(job)


def _run(job: dict[str, Any]) -> dict[str, Any]:
    from fairlead import errors
    from fairlead.formats.atomic import write_json

    with tempfile.TemporaryDirectory(prefix="fairlead-range-") as folder:
        source, target = Path(folder, "job.json"), Path(folder, "result.json")
        write_json(source, job)
        command = [sys.executable, "-m", "fairlead.training.sweep.range_test", str(source), str(target)]
        # Ended with this process: an exception on the way out kills it.
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        if done.returncode != 0 or not target.is_file():
            raise errors.TrainingError(f"lr-find: the sweep ended with exit code {done.returncode}; see the log above")
        written: dict[str, Any] = json.loads(target.read_text("utf-8"))
    if "curve" not in written:
        raise getattr(errors, written["kind"])(written["message"])
    found: dict[str, Any] = written["curve"]
    return found


def _print(curve: dict[str, Any], picture: Path) -> None:
    heading("learning-rate range test")
    rates = {name: _rate(curve[name]) for name in ("suggested", "edge", "steepest", "diverged_at")}
    print_pairs({name.replace("_", " "): rate for name, rate in rates.items()} | {"picture": str(picture)})
    heading("next")
    if curve["suggested"] is None:
        print_pairs({"the loss never fell": "try a higher --to, or look at the data and the picture"})
    else:
        print_pairs({"train with it": f"fairlead run ... --set training.learning_rate={_rate(curve['suggested'])}"})


def _rate(value: float | None) -> str | None:
    return None if value is None else f"{value:.1e}"
