"""What the screen says about turns, levels and windows. Pure functions from records to text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from assistant.events import LevelMeasured
from assistant.lines import action_lines, panel_lines, record_lines
from assistant.profile import HearingSettings
from assistant.records import BROKEN_OFF, OWN_QUESTION, Timings, WindowEnd
from assistant.tui.trail import TurnStory, WindowStory

Shown = tuple[str, str, tuple[tuple[str, ...], ...]]  # a panel: plugin, title, rows
SLOW_MS, SHORT_MS = 1000.0, 1.0
NEVER_SLOW = ("end", "total")  # as the profile wants it; as long as the answer
MARKS = {"speech": "» speech", "sound": "♪ sound"}  # a sign and a word: never colour alone
ENDED: Mapping[WindowEnd, str] = {
    "silence": "it was quiet for {silence_s:.2g} s",
    "max_window": "it had become {max_window_s:g} s long; the model hears at most 30 s",
    "steady": "the sound went on as it was for {steady_after_s:g} s",
    "speech": "somebody began to speak, in a window of its own",
    "manual": "a key was pressed",
    "device_lost": "the microphone was lost",
    "end_of_file": "the recording ended",
}


def stages(timings: Timings) -> list[tuple[str, float]]:
    """The stages of a turn that took any time, in ms; all but `end` and `hooks` count from the window's end."""
    named = [
        ("end", timings.end_delay),
        ("encode", timings.encode),
        ("first token", timings.first_token),
        ("hooks", timings.hooks),
        ("total", timings.total),
    ]
    return [(name, ms) for name, ms in named if ms or name not in ("end", "hooks")]


def latency(timings: Timings) -> Text:
    """The stages in one line; what takes more than a second is red, and says `slow` for who sees no red."""
    line = Text()
    for name, ms in stages(timings):
        line.append(" · " if line else "")
        slow = ms > SLOW_MS and name not in NEVER_SLOW
        line.append(f"{name} {ms:.0f} ms{' !slow' if slow else ''}", style="bold red" if slow else "")
    return line


def latency_forms(timings: Timings) -> tuple[str, ...]:
    """The same for the status line, from long to short."""
    slow = " !slow" if timings.first_token > SLOW_MS else ""
    return latency(timings).plain, f"first token {timings.first_token:.0f} ms{slow}", ""


def turn_text(turn: TurnStory) -> Text:
    """One turn as the conversation shows it."""
    text = Text(f"{heading(turn)}\n", style="dim")
    if turn.words:
        text.append(f"heard: {turn.words}\n", style="italic")
    text.append(answer(turn).strip() or _no_text(turn), style="not dim")
    slots = turn.responded.response.slots if turn.responded else None
    for action in turn.actions:
        text.append("".join(f"\n  {line}" for line in action_lines(action, slots)), style="not dim")
    if turn.dropped:
        text.append(("\n" if answer(turn) else "") + f"not answered: {turn.dropped}", style="italic")
    if turn.responded:
        text.append("\n")
        text.append(latency(turn.responded.response.timings_ms))
        if broken := BROKEN_OFF.get(turn.responded.response.end):
            text.append(f"  {broken}", style="bold not dim")
    return text


def _no_text(turn: TurnStory) -> str:
    """What stands where an answer's text would."""
    if turn.dropped:
        return ""
    if turn.responded is None:
        return "..."
    return "(nothing yet)" if turn.responded.response.end in BROKEN_OFF else "(an empty answer)"


def heading(turn: TurnStory) -> str:
    story, closed = turn.window, turn.window.closed
    kind = turn.started.kind if turn.started else story.kind
    parts = [f"{story.id}", MARKS[kind] if kind else ""]
    if closed:
        parts.append(f"{closed.duration_s:.1f} s, ended by {closed.reason.replace('_', ' ')}")
    if turn.number > 1:
        parts.append("asked again")
    if turn.started:
        own = turn.started.skill == OWN_QUESTION
        parts.append(f'-> "{turn.started.prompt}"' if own else f"-> {turn.started.skill}")
    return "  ".join(part for part in parts if part)


def answer(turn: TurnStory) -> str:
    """The answer so far: the record if the skill fills one, otherwise the text."""
    if turn.responded is None:
        return turn.text
    response = turn.responded.response
    if response.slots is None:
        return response.text
    return "\n".join(record_lines(response.slots))


def panels_text(panels: Sequence[Shown], owners: bool = False) -> Text:
    """The panels of the plugins below each other, with the names of their plugins if wanted."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for plugin, title, rows in panels:
        first, *rest = panel_lines(title, rows)
        text.append("\n" if text else "")
        text.append(first, style="bold")
        text.append(f"  of {plugin}\n" if owners else "\n", style="dim")
        for at, line in enumerate(rest):
            text.append(f"{line}\n", style="underline" if at == 0 and len(rows[0]) > 1 else "")
    text.rstrip()
    return text


def gate(event: LevelMeasured) -> str:
    """What the gate thinks of this moment, in words."""
    if event.open_kind:
        return f"hearing {event.open_kind}{', voice' if event.voiced else ''}"
    if event.level_dbfs <= event.threshold_dbfs:
        return "quiet"
    return "a voice?" if event.voiced else "a sound?"


def why(story: WindowStory) -> Iterator[tuple[str, str]]:
    """Everything that is known about a window and its turns, as (what, words)."""
    yield "profile", story.profile
    yield from _why_opened(story)
    if story.closed:
        closed = story.closed
        ended = ENDED[closed.reason].format(**story.hearing.model_dump(), silence_s=closed.silence_s)
        yield "ended", f"after {closed.duration_s:.2f} s by {closed.reason.replace('_', ' ')}: {ended}"
        yield "level", f"{closed.level_dbfs:.1f} dBFS over the whole window; the gate took it for {closed.kind}"
    for turn in story.turns:
        yield from _why_answered(turn)


def _why_opened(story: WindowStory) -> Iterator[tuple[str, str]]:
    if story.opened is None:
        return
    yield "opened", f"at {story.opened.start_s:.2f} s as {story.opened.kind}: {_gate_rule(story)}"
    if story.level:
        level = story.level
        yield (
            "at that moment",
            f"level {level.level_dbfs:.1f} dBFS, noise floor {level.noise_floor_dbfs:.1f}, "
            f"threshold {level.threshold_dbfs:.1f}, {'voiced' if level.voiced else 'not voiced'}",
        )


def _gate_rule(story: WindowStory) -> str:
    hearing: HearingSettings = story.hearing
    if story.opened and story.opened.kind == "speech":
        return f"at least {hearing.start_voiced_s:g} s of voice"
    return f"{hearing.sound_margin_db:g} dB above the noise floor for {hearing.sound_start_s:g} s"


def _why_answered(turn: TurnStory) -> Iterator[tuple[str, str]]:
    yield f"turn {turn.number}", "asked again" if turn.number > 1 else "first answer"
    if turn.dropped:
        yield "not answered", turn.dropped
    if turn.started:
        started = turn.started
        claims = ", ".join(f"{skill} by {plugin} with {score:.2f}" for plugin, skill, score in started.claims)
        yield "heard as", f"{started.kind}, by the model"
        yield "claimed", claims or f"by nobody; the profile or you chose {started.skill}"
        yield "skill", started.skill
        yield "prompt", started.prompt
    if turn.responded:
        yield from _why_so_long(turn)


def _why_so_long(turn: TurnStory) -> Iterator[tuple[str, str]]:
    assert turn.responded
    response, hooks = turn.responded.response, turn.responded.hook_ms
    timings, settings = response.timings_ms, response.prompt.settings
    yield "LoRA scale", f"{settings.lora_scale:g}"
    if settings.words_first:
        yield "words", f"{turn.words or '(none)'} - written down first, they stood before the question"
    if settings.spot:
        yield "listened for", "; ".join(f"{name}: {', '.join(phrases)}" for name, phrases in settings.spot.items())
    if settings.names_first:
        yield "sounds", "what the bridge's namer may have heard stood before the question"
    if settings.heard_first:
        yield "beginning", "a sentence of what sounds, written first"
    if settings.reading_weight:
        yield "reading", f"the audio tokens' own reading counted {settings.reading_weight:g}"
    yield "times", latency(timings).plain
    seconds = (timings.total - timings.first_token) / 1000.0
    if response.tokens > 1 and seconds > 0:
        yield "speed", f"{(response.tokens - 1) / seconds:.1f} tokens a second ({response.tokens} tokens)"
    if hooks:
        yield "hooks", _hook_times(hooks)
    yield "answer", f"{answer(turn) or '(empty)'}  ({response.end})"


def _hook_times(hooks: Mapping[str, float]) -> str:
    """The slowest first; those that took next to nothing are only counted."""
    slowest = sorted(hooks.items(), key=lambda hook: -hook[1])
    named = [f"{name} {ms:.1f} ms" for name, ms in slowest if ms >= SHORT_MS]
    rest = len(hooks) - len(named)
    return ", ".join((*named, *([f"{rest} more below {SHORT_MS:g} ms"] if rest else [])))
