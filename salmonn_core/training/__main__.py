"""`python -m salmonn_core.training prepare|train|evaluate|export --config FILE`."""

from __future__ import annotations

import sys
from typing import Annotated, Optional

import typer

from salmonn_core.errors import UserError

app = typer.Typer(
    name="python -m salmonn_core.training",
    help="Prepare data, train the stages, measure, export. Configs: docs/training.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ConfigOption = Annotated[str, typer.Option("--config", "-c", help="YAML file, or the name of a bundled one.")]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads the annotation at run time on 3.11 too
    typer.Option("--set", help="key=value over the file's, as often as you like."),
]


@app.command(epilog="Example: python -m salmonn_core.training prepare --config prepare --set 'music={count: 20}'")
def prepare(config: ConfigOption = "prepare", settings: SetOption = None) -> None:
    """Build a training set from its sources; what is there already is kept."""
    from salmonn_core.training.config import PrepareConfig, load_config
    from salmonn_core.training.prepare import prepare as run

    run(load_config(PrepareConfig, config, settings))


@app.command(epilog="Example: accelerate launch -m salmonn_core.training train --config align --set steps=500")
def train(config: ConfigOption, settings: SetOption = None) -> None:
    """Train one stage, or go on where its run stopped."""
    from salmonn_core.training.config import NameConfig, TagConfig, TrainConfig, load_config, stage_of

    stage = stage_of(config)
    if stage == "beats":
        from salmonn_core.training.classify import train as train_tagger

        train_tagger(load_config(TagConfig, config, settings))
        return
    if stage == "name":
        from salmonn_core.training.renaming import rename

        typer.echo(rename(load_config(NameConfig, config, settings)))
        return
    from salmonn_core.training.trainer import train as run

    typer.echo(run(load_config(TrainConfig, config, settings)))


@app.command(epilog="Example: python -m salmonn_core.training evaluate --config evaluate --set limit=20")
def evaluate(config: ConfigOption = "evaluate", settings: SetOption = None) -> None:
    """Measure a model and its peer on sets that it never saw; writes Markdown and JSON."""
    from salmonn_core.training.config import EvaluateConfig, load_config
    from salmonn_core.training.evaluate import evaluate as run

    typer.echo(run(load_config(EvaluateConfig, config, settings)))


@app.command(epilog="Example: python -m salmonn_core.training export --config export")
def export(config: ConfigOption = "export", settings: SetOption = None) -> None:
    """Make a checkpoint into a model folder that profiles can name."""
    from salmonn_core.training.config import ExportConfig, load_config
    from salmonn_core.training.export import export as run

    weights = run(load_config(ExportConfig, config, settings))
    typer.echo(f"{weights.parent}: {weights.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    try:
        app()
    except UserError as error:
        print(f"training: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("training: interrupted; the same command goes on from the newest checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
