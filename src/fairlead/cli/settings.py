"""`fairlead config`: what the settings are and what they come to."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from fairlead.cli import output
from fairlead.cli import project as options
from fairlead.cli.output import JsonOption, print_json

app = typer.Typer(help="Settings: what there are, and what a project's come to.", no_args_is_help=True)


@app.command()
def show(
    config: options.ConfigOption = None,
    data: options.DataOption = None,
    text: options.TextOption = None,
    label: options.LabelOption = None,
    task: options.TaskOption = None,
    project: options.ProjectOption = None,
    test: options.TestOption = None,
    overrides: options.SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the resolved settings of a project: file, options, --set and defaults together."""
    import yaml

    values = options.project_values(config, data, text, label, project, test, overrides, task)
    resolved = _redacted(options.resolve(values).to_dict())
    if as_json:
        print_json(resolved)
    else:
        print(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), end="")


@app.command()
def explain(
    setting: Annotated[str | None, typer.Argument(help="A section or a setting: training.learning_rate.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page, docs/settings.md.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print every setting with its type, range, default and meaning."""
    from fairlead.cli import explain as reference

    if markdown:
        print(reference.to_markdown(), end="")
        return
    found = reference.select(setting)
    if as_json:
        print_json([asdict(s) for s in found])
        return
    for item in found:
        _show_setting(item.name, _facts(item.kind, item.range, item.default), item.text)


def _redacted(value: Any) -> Any:
    """The settings with every address as it may be printed."""
    from fairlead.storage.redaction import redact

    if isinstance(value, dict):
        return {name: _redacted(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return redact(value) if isinstance(value, str) else value


def _facts(kind: str, bounds: str, default: str) -> str:
    facts = [kind, bounds] if kind == "section" else [kind, bounds, f"default {default}" if default else "no default"]
    return "; ".join(fact for fact in facts if fact)


def _show_setting(name: str, facts: str, text: str) -> None:
    from rich.padding import Padding
    from rich.text import Text

    output.show(Text.assemble((name, "bold"), "  ", (facts, "dim")), Padding(Text(text), (0, 0, 0, 4)))
