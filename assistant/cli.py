"""The command line. Each command imports what it needs, so that `--help` costs no torch."""

from __future__ import annotations

from pathlib import Path
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
history = typer.Typer(help="What was heard and answered: search, export, forget.", no_args_is_help=True)
app.add_typer(history, name="history")

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
    keep: Annotated[bool, typer.Option("--keep", help="Keep the answers in the history.")] = False,
    as_json: JsonOption = False,
    safe: SafeOption = False,
) -> None:
    """Answer about sound files, several side by side."""
    from assistant.commands.ask import run

    run(files, skill, prompt, profile, as_json, safe, keep)


@app.command(epilog='Example: assistant listen --input talk.wav --json | jq -r "select(.text and .prompt).text"')
def listen(
    input_: InputOption = None,
    profile: ProfileOption = "default",
    seconds: Annotated[Optional[float], typer.Option("--for", help="Stop after so many seconds.", min=0.1)] = None,  # noqa: UP045
    record: Annotated[Optional[Path], typer.Option(help="Record the session, sound too, in this new folder.")] = None,  # noqa: UP045
    as_json: JsonOption = False,
    safe: SafeOption = False,
) -> None:
    """Listen without a screen: to the microphone, a file or standard input."""
    from assistant.commands.listen import run

    run(input_, profile, seconds, as_json, safe, record)


@app.command(epilog="Example: assistant replay talk --profile captions")
def replay(
    folder: Annotated[Path, typer.Argument(help="What `assistant listen --record FOLDER` wrote.")],
    profile: Annotated[Optional[str], typer.Option("--profile", "-p", help="Another profile than it had.")] = None,  # noqa: UP045
    live: Annotated[bool, typer.Option("--live", help="Ask the model again, not the recording.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a recorded session again and show what differs; exits with 1 if anything does."""
    from assistant.commands.replay import run

    run(folder, profile, live, as_json)


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


@app.command(epilog="Example: assistant devices --test headset --seconds 5")
def devices(
    input_: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[INPUT]", help="For --test and --watch: number or part of the name."),
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Hear one for some seconds and judge its level.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Print each change of its state until Ctrl-C.")] = False,
    seconds: Annotated[Optional[float], typer.Option(help="How long; 3 for --test.", min=0.5, max=86_400)] = None,  # noqa: UP045
    as_json: JsonOption = False,
) -> None:
    """List the microphones, test one, or watch it come and go."""
    from assistant.commands.devices import run

    run(input_, test, watch, seconds, as_json)


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


PluginArgument = Annotated[str, typer.Argument(help="Name of the plugin (assistant plugins list).")]


@plugins.command("list")
def plugins_list(profile: ProfileOption = "default", as_json: JsonOption = False) -> None:
    """Names, versions and whether they are on; nothing is imported for it."""
    from assistant.commands.plugins import list_all

    list_all(profile, as_json)


@plugins.command("show")
def plugins_show(name: PluginArgument, profile: ProfileOption = "default", as_json: JsonOption = False) -> None:
    """A plugin's hooks, skills and settings. Example: assistant plugins show slot-filling"""
    from assistant.commands.plugins import show

    show(name, profile, as_json)


@plugins.command("enable")
def plugins_enable(name: PluginArgument, profile: ProfileOption = "default") -> None:
    """Use a plugin again from the next start on."""
    from assistant.commands.plugins import set_state

    set_state(name, profile, on=True)


@plugins.command("disable")
def plugins_disable(name: PluginArgument, profile: ProfileOption = "default") -> None:
    """Leave a plugin out from the next start on."""
    from assistant.commands.plugins import set_state

    set_state(name, profile, on=False)


@plugins.command("new")
def plugins_new(
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    folder: Annotated[Path, typer.Option("--in", help="Where to put it.")] = Path(),
) -> None:
    """Write a new plugin, with tests that pass. Example: assistant plugins new my-skill"""
    from assistant.commands.scaffold import run

    run(name, folder)


@plugins.command("install")
def plugins_install(
    requirement: Annotated[str, typer.Argument(help="A folder, a wheel, or a name on the package index.")],
    upgrade: Annotated[bool, typer.Option("--upgrade", "-U", help="Take the newest version.")] = False,
    editable: Annotated[bool, typer.Option("--editable", "-e", help="The folder itself, to go on writing it.")] = False,
) -> None:
    """Install a plugin with pip, where the assistant is installed. Example: assistant plugins install ./kettle"""
    from assistant.commands.plugins import install

    install(requirement, upgrade, editable)


@plugins.command("uninstall")
def plugins_uninstall(name: PluginArgument) -> None:
    """Take a plugin's package out again."""
    from assistant.commands.plugins import uninstall

    uninstall(name)


@plugins.command("run")
def plugins_run(
    name: PluginArgument,
    command: Annotated[Optional[str], typer.Argument(help="The plugin's command; all are listed if none.")] = None,  # noqa: UP045
    words: Annotated[Optional[list[str]], typer.Argument(help="What the command takes.")] = None,  # noqa: UP045
    profile: ProfileOption = "default",
) -> None:
    """Run a command that a plugin brings."""
    from assistant.commands.plugins import run_command

    run_command(name, command, words or [], profile)


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


SinceOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--since", help="2026-05-01, 2026-05-01T14:30, or an age: 30m, 2h, 7d, 3w."),
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", help="At most so many.", min=1)]
TurnArgument = Annotated[int, typer.Argument(help="Number of the turn, from list or search.")]


@history.command("search", epilog='Example: assistant history search "door bell" --since 7d')
def history_search(
    query: Annotated[str, typer.Argument(help='Words that must all be there, "a phrase", or a beginning: kett*')],
    profile: ProfileOption = "default",
    since: SinceOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Find words in prompts, answers and records."""
    from assistant.commands.history import search

    search(query, profile, since, limit, as_json)


@history.command("list", epilog="Example: assistant history list --since 2h --json | jq .answer")
def history_list(
    profile: ProfileOption = "default",
    since: SinceOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """The last turns, oldest first."""
    from assistant.commands.history import list_turns

    list_turns(profile, since, limit, as_json)


@history.command("show", epilog="Example: assistant history show 12 --save-audio door.flac")
def history_show(
    turn: TurnArgument,
    profile: ProfileOption = "default",
    save_audio: Annotated[Optional[Path], typer.Option(help="Write the kept sound to this FLAC file.")] = None,  # noqa: UP045
    as_json: JsonOption = False,
) -> None:
    """All that is kept of a turn, and who saw it."""
    from assistant.commands.history import show

    show(turn, profile, save_audio, as_json)


@history.command("export", epilog="Example: assistant history export --format srt --since 1d --output talk.srt")
def history_export(
    profile: ProfileOption = "default",
    format_: Annotated[str, typer.Option("--format", "-f", help="markdown, json, srt or vtt.")] = "markdown",
    since: SinceOption = None,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="A file; standard output if none.")] = None,  # noqa: UP045
) -> None:
    """Write the history as a document or as subtitles (of the last session)."""
    from assistant.commands.history import export

    export(profile, format_, since, output)


@history.command("forget", epilog="Example: assistant history forget --before 7d")
def history_forget(
    turns: Annotated[Optional[list[int]], typer.Argument(help="Numbers of turns, from list or search.")] = None,  # noqa: UP045
    before: Annotated[Optional[str], typer.Option(help="Forget what is older than this time or age.")] = None,  # noqa: UP045
    everything: Annotated[bool, typer.Option("--all", help="Forget everything.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    profile: ProfileOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Remove turns for good, text and sound. There is no way back."""
    from assistant.commands.history import forget

    forget(turns or [], before, everything, yes, profile, as_json)


@history.command("path")
def history_path(profile: ProfileOption = "default") -> None:
    """Where the history is kept."""
    from assistant.commands.history import show_path

    show_path(profile)
