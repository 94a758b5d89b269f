"""The command line. Each command imports what it needs, so that `--help` costs no torch."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

app = typer.Typer(
    name="assistant",
    help="A desktop assistant that hears: speech, sounds and music. Without a command it opens the screen.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
profiles = typer.Typer(help="List, show and check profiles.", no_args_is_help=True)
plugins = typer.Typer(help="The plugins that are installed.", no_args_is_help=True)
weights = typer.Typer(help="The base models: fetch, list, locate.", no_args_is_help=True)
app.add_typer(profiles, name="profiles")
app.add_typer(plugins, name="plugins")
app.add_typer(weights, name="weights")

ProfileOption = Annotated[str, typer.Option("--profile", "-p", help="Profile name or YAML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")]
SafeOption = Annotated[bool, typer.Option("--safe", help="Leave out every plugin that is not bundled.")]
InputOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads the annotation at run time on 3.11 too
    typer.Option("--input", "-i", help="Microphone (number or part of its name), sound file, or - for stdin."),
]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"assistant {version('listening-assistant')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def screen(
    context: typer.Context,
    profile: ProfileOption = "default",
    input_: InputOption = None,
    safe: SafeOption = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Open the live screen, unless a command is given."""
    if context.invoked_subcommand is None:
        from assistant.commands.screen import run

        run(profile, input_, safe)


@app.command(epilog="Example: assistant ask door.wav talk.ogg --skill describe --json")
def ask(
    files: Annotated[list[str], typer.Argument(help="Sound files of any common format.")],
    skill: Annotated[Optional[str], typer.Option("--skill", "-s", help="Skill that answers.")] = None,  # noqa: UP045
    prompt: Annotated[Optional[str], typer.Option("--prompt", help="Your own question.")] = None,  # noqa: UP045
    profile: ProfileOption = "default",
    as_json: JsonOption = False,
    safe: SafeOption = False,
) -> None:
    """Answer about sound files, one after the other."""
    from assistant.commands.ask import run

    run(files, skill, prompt, profile, as_json, safe)


@app.command(epilog="Example: assistant listen --input interview.wav --json | jq .text")
def listen(
    input_: InputOption = None,
    profile: ProfileOption = "default",
    seconds: Annotated[Optional[float], typer.Option("--for", help="Stop after so many seconds.", min=0.1)] = None,  # noqa: UP045
    as_json: JsonOption = False,
    safe: SafeOption = False,
) -> None:
    """Listen without a screen: to the microphone, a file or standard input."""
    from assistant.commands.listen import run

    run(input_, profile, seconds, as_json, safe)


@app.command("eval", epilog="Example: assistant eval my-recordings.jsonl --limit 50 --json")
def evaluate(
    manifest: Annotated[str, typer.Argument(help="JSON lines or the official annotation format; docs/training.md.")],
    profile: ProfileOption = "default",
    limit: Annotated[Optional[int], typer.Option("--limit", "-n", help="Measure so many clips only.", min=1)] = None,  # noqa: UP045
    as_json: JsonOption = False,
) -> None:
    """Measure a profile's model on recordings whose truth is known, with 95 % intervals."""
    from assistant.commands.eval import run

    run(manifest, profile, limit, as_json)


@app.command()
def demo(
    profile: ProfileOption = "default",
    open_screen: Annotated[bool, typer.Option("--screen/--no-screen", help="Open the live screen after it.")] = True,
) -> None:
    """Fetch the weights, answer about the example recordings, then open the live screen."""
    from assistant.commands.demo import run

    run(profile, open_screen)


@app.command()
def devices(as_json: JsonOption = False) -> None:
    """List the microphones."""
    from assistant.commands.devices import run

    run(as_json)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check everything that the assistant needs and say what is missing."""
    from assistant.commands.doctor import run

    run(as_json)


@profiles.command("list")
def profiles_list(as_json: JsonOption = False) -> None:
    """All profiles, and which file wins."""
    from assistant.commands.profiles import list_all

    list_all(as_json)


@profiles.command("show")
def profiles_show(name: Annotated[str, typer.Argument(help="Profile name or YAML file.")] = "default") -> None:
    """A profile with everything that it extends, as YAML."""
    from assistant.commands.profiles import show

    show(name)


@profiles.command("check")
def profiles_check(name: Annotated[str, typer.Argument(help="Profile name or YAML file.")]) -> None:
    """Validate a profile and the settings of its plugins."""
    from assistant.commands.profiles import check

    check(name)


@plugins.command("list")
def plugins_list(as_json: JsonOption = False) -> None:
    """Names and versions, from metadata alone."""
    from assistant.commands.plugins import list_all

    list_all(as_json)


@weights.command("pull")
def weights_pull(
    names: Annotated[Optional[list[str]], typer.Argument(help="Parts; all that salmonn-tiny needs if none.")] = None,  # noqa: UP045
) -> None:
    """Fetch, check and convert the base models."""
    from assistant.commands.weights import pull_all

    pull_all(names or [])


@weights.command("convert")
def weights_convert(
    checkpoint: Annotated[str, typer.Option(help="salmonn_v1.pth, or owner/name:file on the Hub.")],
    beats: Annotated[str, typer.Option(help="BEATs' .pt, or owner/name:file on the Hub.")],
    whisper: Annotated[str, typer.Option(help="Folder or Hub id.")] = "openai/whisper-large-v2",
    llm: Annotated[str, typer.Option(help="Folder or Hub id; Vicuna-13B v1.1 or 7B v1.5.")] = "lmsys/vicuna-13b-v1.1",
    out: Annotated[str, typer.Option(help="Name of the model, or a folder.")] = "salmonn-13b",
) -> None:
    """Make a published SALMONN checkpoint into a model that profiles can name.

    Example: assistant weights convert --checkpoint salmonn_v1.pth --beats BEATs.pt --out salmonn-13b
    """
    from assistant.commands.weights import convert_official

    convert_official(checkpoint, beats, whisper, llm, out)


@weights.command("list")
def weights_list(as_json: JsonOption = False) -> None:
    """What is here, from where, under which licence."""
    from assistant.commands.weights import list_all

    list_all(as_json)


@weights.command("path")
def weights_path(name: Annotated[Optional[str], typer.Argument(help="Part; the whole folder if none.")] = None) -> None:  # noqa: UP045
    """Where the base models are kept."""
    from assistant.commands.weights import show_path

    show_path(name)
