"""Profiles: YAML to a frozen, validated record. Errors name the file, the line, the key and the nearest good name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_config_path
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from assistant.errors import UserError
from assistant.keys import known_action, refuse_clashes, usable
from salmonn_core.yamlfile import Key, Origins, explain, nearest, read_yaml

ActionName = Annotated[str, AfterValidator(known_action)]
KeyName = Annotated[str, AfterValidator(usable)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Releases(_Strict):
    """The published files of a SALMONN, each local or on the Hugging Face Hub."""

    checkpoint: str = Field(description="salmonn_v1.pth: a file, or owner/name:file")
    beats: str = Field(description="BEATs' .pt: a file, or owner/name:file")
    whisper: str = Field(description="a transformers folder, or owner/name")
    llm: str = Field(description="a transformers folder, or owner/name")
    qformer_heads: int | None = Field(None, gt=0, description="hidden size / 64 unless given")


class CoreSettings(_Strict):
    """Which model answers, and where it runs."""

    model: str = "salmonn-tiny"
    releases: Releases | None = Field(None, description="loaded where no converted model of that name is here")
    device: str = "cpu"
    precision: Literal["auto", "fp32", "bf16", "int8", "int4"] = "auto"
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves it to torch")
    vocabulary: tuple[str, ...] = Field((), description="names and other words to expect, as they are to be written")


# The numbers that a preset stands for; whatever a profile sets itself wins over them.
PRESETS: dict[str, dict[str, float]] = {
    "relaxed": {"start_voiced_s": 0.2, "end_silence_s": 1.25, "patience_s": 1.5},
    "normal": {"start_voiced_s": 0.2, "end_silence_s": 0.8, "patience_s": 1.0},
    "quick": {"start_voiced_s": 0.15, "end_silence_s": 0.4, "patience_s": 0.6},
}


class HearingSettings(_Strict):
    """Turn-taking. Times in seconds, levels in dB. docs/turn-taking.md has what the presets cost and give."""

    input: str | None = Field(None, description="input device, by number or part of its name; empty is the default")
    mode: Literal["open", "push_to_talk"] = Field(
        "open", description="push_to_talk: nothing is heard until the talk key is pressed"
    )
    preset: Literal["relaxed", "normal", "quick"] = "normal"
    detector: Literal["webrtc", "silero"] = "webrtc"
    aggressiveness: int = Field(2, ge=0, le=3, description="of webrtcvad")
    silero_threshold: float = Field(0.5, gt=0, lt=1, description="a frame is voiced from this probability on")
    start_voiced_s: float = Field(0.2, gt=0, description="so much voice opens a window")
    end_silence_s: float = Field(0.8, gt=0, description="so much silence ends it")
    patience_s: float = Field(1.0, ge=0, description="and so much, if it is more, once the talker paused and went on")
    speculate_after_s: float = Field(
        0.2, ge=0, description="so much silence lets an answer begin, in case it is over; 0 never"
    )
    barge_in_s: float = Field(0.5, ge=0, description="so much voice cancels the running answer; 0 never does")
    pre_roll_s: float = Field(0.6, ge=0)
    speech_margin_db: float = Field(10.0, ge=0, description="a voiced frame less above the floor is background")
    speech_drop_db: float = Field(20.0, gt=0, description="and one so far below the talker")
    speech_over_db: float = Field(4.0, description="and one less above the louder moments of what goes on behind them")
    min_active_s: float = Field(0.12, gt=0, description="less voice or sound than this is thrown away")
    max_window_s: float = Field(28.0, gt=1, le=30)
    overlap_s: float = Field(1.0, ge=0, description="what a window after a full one begins with once more")
    sounds: bool = Field(True, description="open windows for sounds that are not speech")
    sound_margin_db: float = Field(15.0, gt=0, description="above the noise floor")
    sound_start_s: float = Field(0.15, gt=0)
    sound_min_dbfs: float = Field(-50.0, lt=0)
    steady_after_s: float = Field(8.0, gt=1, description="a sound that goes on for so long ends its window")
    steady_update_s: float = Field(60.0, gt=1, description="while it goes on, one more window each so often")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_preset(cls, values: Any) -> Any:
        numbers = PRESETS.get(str(values.get("preset", "normal"))) if isinstance(values, Mapping) else None
        return {**numbers, **values} if numbers else values

    @model_validator(mode="after")
    def _windows_make_sense(self) -> HearingSettings:
        if self.max_window_s <= self.pre_roll_s + max(self.end_silence_s, self.patience_s):
            raise ValueError("max_window_s must be longer than pre_roll_s + end_silence_s, or patience_s")
        if self.overlap_s > self.max_window_s / 2:
            raise ValueError("overlap_s must be at most half of max_window_s")
        return self


class AnswerSettings(_Strict):
    """Which skill answers which kind of window, unless a plugin claims it."""

    speech: str = "spoken-qa"
    sound: str = "describe"
    pin: str | None = Field(None, description="this skill answers every window of a kind that it accepts")
    order: tuple[str, ...] = Field((), description="skills that win over better claims, the first one first")


class HookSettings(_Strict):
    """How long a plugin may take, and how often it may fail."""

    audio_ms: float = Field(50.0, gt=0, description="for hooks between a window and its answer, each call")
    response_s: float = Field(2.0, gt=0, description="for hooks after the answer")
    setup_s: float = Field(5.0, gt=0, description="for import, registration, start")
    hung_s: float = Field(3.0, gt=0, description="a call that is still running after so long switches the plugin off")
    strikes: int = Field(3, ge=1, description="failures that switch a plugin off for the session")


class GenerationProfile(_Strict):
    """What is set here wins over the skill's own defaults."""

    max_new_tokens: int | None = Field(None, ge=1, le=2048)
    min_new_tokens: int | None = Field(None, ge=0, le=2048)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = None
    lora_scale: float | None = Field(None, ge=0, le=4)
    repetition_penalty: float | None = Field(None, ge=1, le=2)
    reading_weight: float | None = Field(None, ge=0, le=1, description="of the audio tokens' own reading: transcripts")
    words_first: bool | None = Field(None, description="write a transcript first and show it to the model as text")
    names_first: bool | None = Field(None, description="show the model as text what its namer takes the sounds for")
    heard_first: bool | None = Field(None, description="begin answers with a sentence of what sounds")


class HistorySettings(_Strict):
    """What is kept of a session, and for how long."""

    keep_text: bool = Field(True, description="prompts, answers and records")
    keep_audio: bool = Field(False, description="the sound of each window that was answered")
    days: int | None = Field(30, ge=1, description="older turns are removed; empty keeps them")
    path: str | None = Field(None, description="the file; empty is history.db in the platform's data folder")


class ScreenSettings(_Strict):
    """How the live screen starts."""

    theme: str | None = Field(None, description="a theme of the command palette; empty is the usual one")
    captions: bool = Field(False, description="large captions, to be read across the room")
    plain: bool = Field(False, description="words instead of drawings, for screen readers")


class Profile(_Strict):
    """One way for the assistant to behave."""

    name: str
    description: str = ""
    core: CoreSettings = CoreSettings()
    hearing: HearingSettings = HearingSettings()
    answer: AnswerSettings = AnswerSettings()
    generation: GenerationProfile = GenerationProfile()
    history: HistorySettings = HistorySettings()
    hooks: HookSettings = HookSettings()
    language: str = Field("en", pattern="^[a-z]{2}$", description="of the skills' prompts, where they have it")
    screen: ScreenSettings = ScreenSettings()
    keys: Mapping[ActionName, KeyName] = {}
    plugins: Mapping[str, Mapping[str, Any]] = {}
    plugin_folders: tuple[Path, ...] = Field((), description="folders of single-file plugins, read again when saved")
    safe: bool = False
    _origins: Origins = PrivateAttr(default_factory=dict)

    def explain(self, error: ValidationError, at: Key, model: type[BaseModel]) -> str:
        """A mistake in a part of this profile that a plugin's own model checks, with file, line and key."""
        return explain(error, self._origins, model, "plugins", at)

    @field_validator("keys")
    @classmethod
    def _one_action_a_key(cls, chosen: Mapping[str, str]) -> Mapping[str, str]:
        refuse_clashes(chosen)
        return chosen


@dataclass(frozen=True)
class ProfileFile:
    """Where a profile is and who put it there."""

    name: str
    path: Path
    origin: Literal["bundled", "user", "path"]


def user_folder() -> Path:
    """Where a user's own profiles live; `ASSISTANT_CONFIG` overrides the platform's place."""
    root = os.environ.get("ASSISTANT_CONFIG")
    return (Path(root) if root else user_config_path("listening-assistant")) / "profiles"


def bundled_folder() -> Path:
    return Path(str(resources.files("assistant_profiles")))


def available() -> dict[str, ProfileFile]:
    """All profiles by name; a user's file wins over a bundled one of the same name."""
    found: dict[str, ProfileFile] = {}
    for origin, folder in (("bundled", bundled_folder()), ("user", user_folder())):
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            found[path.stem] = ProfileFile(path.stem, path, origin)  # type: ignore[arg-type]
    return found


def find(name: str) -> ProfileFile:
    """A profile's file by name, or the file itself if `name` is a path.

    Raises:
        UserError: there is none, with the nearest name.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.exists():
            raise UserError(f"no such profile file: {name}")
        return ProfileFile(path.stem, path, "path")
    profiles = available()
    if name not in profiles:
        raise UserError(f"no profile {name!r}{nearest(name, profiles)}; there are: {', '.join(sorted(profiles))}")
    return profiles[name]


def load(name: str) -> Profile:
    """Read, extend and validate a profile.

    Raises:
        UserError: no such profile, or a mistake in it with file, line and key.
    """
    values, origins = _merged(find(name), ())
    values.setdefault("name", Path(name).stem)
    try:
        profile = Profile.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error, origins, Profile, "profile")) from error
    profile._origins = origins
    return profile


def _merged(file: ProfileFile, seen: tuple[Path, ...]) -> tuple[dict[str, Any], Origins]:
    """The file's values over those of the profile that it extends, with each key's file and line."""
    if file.path in seen:
        chain = " -> ".join(path.stem for path in (*seen, file.path))
        raise UserError(f"{file.path}: profiles extend each other in a circle: {chain}")
    values, origins = read_yaml(file.path, "a profile")
    parent = values.pop("extends", None)
    if parent is None:
        return values, origins
    try:
        below = _parent(str(parent), file)
    except UserError as error:
        raise UserError(f"{file.path}, line {origins[('extends',)][1]}, extends: {error}") from error
    base, base_origins = _merged(below, (*seen, file.path))
    base.pop("name", None)
    return _over(base, values), base_origins | origins


def _parent(name: str, child: ProfileFile) -> ProfileFile:
    """Bundled profiles extend bundled ones, and a user's own `default` may extend the bundled `default`."""
    bundled = bundled_folder() / f"{name}.yaml"
    if bundled.exists() and (child.origin == "bundled" or child.name == name):
        return ProfileFile(name, bundled, "bundled")
    return find(name)


def _over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(merged[key], value) if both else value
    return merged
