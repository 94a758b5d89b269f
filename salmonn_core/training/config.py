"""What the YAML files of `python -m salmonn_core.training` may say; mistakes are told with file, line and key."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from salmonn_core.errors import UserError
from salmonn_core.prompts import ALIASES
from salmonn_core.training.manifests import TASKS
from salmonn_core.yamlfile import explain, nearest, read_yaml


def _expanded(value: Any) -> Any:
    """`$NAME` and `~` in a path; a variable that is not set is an error, never an empty folder name."""
    if not isinstance(value, str):
        return value
    text = os.path.expanduser(os.path.expandvars(value))  # noqa: PTH111 - a path may still hold a pattern
    if missing := re.search(r"\$\{?(\w+)", text):
        raise ValueError(
            f"the environment variable {missing[1]} is not set; for example: export {missing[1]}=/a/folder"
        )
    return text


Place = Annotated[Path, BeforeValidator(_expanded)]
Pattern = Annotated[str, BeforeValidator(_expanded)]  # a path that may hold * and **


def _task(name: str) -> str:
    """By the name that training knows it by."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}{nearest(name, TASKS)}; known: {', '.join(sorted(TASKS))}")
    return ALIASES.get(name, name)


Task = Annotated[str, AfterValidator(_task)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(Strict):
    """What every kind of run has."""

    out: Place = Field(description="folder of checkpoints, curves and log")
    seed: int = 0
    threads: int = Field(1, ge=0, description="CPU threads; 0 leaves it to torch")


class OnClips(Run):
    """A run on the features of some clips."""

    train: list[Pattern] = Field(min_length=1, description="manifests, patterns allowed")
    whisper: list[Place] = Field(min_length=1, description="feature stores; the first takes what is missing")
    beats: list[Place] = []
    whisper_model: str = "whisper-base"
    beats_model: Place | None = Field(None, description="trained BEATs checkpoint, to compute missing features")
    llm: str = "smollm2-135m-instruct"


class TrainConfig(OnClips):
    """One stage of training."""

    stage: Literal["letters", "align", "pretrain", "instruct", "activate"]
    dev: list[Pattern] = []
    start: Place | None = Field(
        None, description="checkpoint of the stage before (a file or a run's folder), or a model"
    )
    answers: Place | None = Field(None, description="answers.json that `prepare` wrote")
    texts: Place | None = Field(None, description="folder of commands with slots, asked in text alone beside the clips")
    text_examples: int = Field(5, ge=0, description="of them a step")
    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    budget: int = Field(2400, ge=12, description="encoder frames of a step's whole batch (50 a second)")
    accumulate: int = Field(1, ge=1, description="parts that a process splits its share of a batch into")
    learn: list[Task] = Field([], description="tasks to learn; answers to all others stay as they are in `start`")
    misheard: float = Field(0.0, ge=0, le=1, description="how often a rare word of a text is spelled otherwise")
    lr_bridge: float = Field(3e-4, ge=0, description="of the bridge, which stays as it is at 0, or of the letters")
    lr_lora: float = Field(1e-3, gt=0)
    lora_scale: float = Field(1.0, ge=0, le=4, description="of the LoRA while this stage trains")
    warmup: int = Field(15, ge=0)
    ctc_weight: float = Field(0.3, ge=0)
    whole_from: int = Field(3, ge=1, description="a token heard less often is spelled by its parts (align)")
    dropout: float | None = Field(None, ge=0, lt=1, description="of the bridge; empty leaves its own")
    masking: float = Field(0.0, ge=0, lt=1, description="share of a clip's states, and of their channels, not heard")
    variety: float = Field(0.0, ge=0, lt=1, description="how far tempo, gain and level of the states go (letters)")
    average: float = Field(0.0, ge=0, lt=1, description="of 0.999 some thousand last steps' mean is kept (letters)")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 where that is fast")
    save_every: int = Field(50, ge=1)
    dev_every: int = Field(250, ge=1)
    dev_clips: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _boxed_and_started(self) -> TrainConfig:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")
        if self.stage not in ("letters", "align") and self.start is None:
            raise ValueError(f"stage {self.stage} needs start: the checkpoint of the stage before")
        if self.average and self.stage != "letters":
            raise ValueError("average is for stage letters")
        if not self.lr_bridge and self.stage in ("letters", "align"):
            raise ValueError(f"stage {self.stage} trains nothing at lr_bridge 0")
        if self.learn and (self.stage in ("letters", "align") or self.lr_bridge):
            raise ValueError("learn is for the LLM alone: give a stage that has one, and lr_bridge: 0")
        return self


class TagConfig(Run):
    """BEATs-small as a sound tagger, before it joins. Its `out` is a file, and it starts anew each time."""

    stage: Literal["beats"]
    data: Place = Field(description="audio pack with train/ and dev/")
    teacher: Place = Field(description="Whisper feature store of the same clips")
    steps: int = Field(900, ge=1)
    batch: int = Field(24, ge=2)
    lr: float = Field(6e-4, gt=0)
    every_speech: int = Field(12, ge=1, description="take every Nth speech clip")


class NameConfig(OnClips):
    """The namer of a finished checkpoint, fitted anew. Its `out` is a file, and it starts anew each time."""

    stage: Literal["name"]
    start: Place = Field(description="the checkpoint (a file or a run's folder), or a model")
    kinds: tuple[Literal["event", "music", "speech"], ...] = Field(
        ("event", "music", "speech"), description="labels that are mostly of other clips stay as they are"
    )


class EvaluateConfig(Run):
    """Which sets to measure which model on."""

    model: str = "salmonn-tiny"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    sets: list[Pattern] = Field(min_length=1, description="manifests, patterns allowed")
    limit: int = Field(80, ge=1, description="clips a manifest, drawn by the seed")
    peer: bool = Field(True, description="also measure whisper-base on the files with speech")
    lora_scales: list[Annotated[float, Field(ge=0, le=4)]] = Field([], description="also measure at each of these")


class ExportConfig(Strict):
    """Which checkpoint becomes the model folder that ships."""

    checkpoint: Place
    blend: Place | None = Field(None, description="an earlier checkpoint; its bridge and reader are averaged in")
    letters: Place | None = Field(None, description="checkpoint of stage letters; without it none are read")
    base: Place | None = Field(None, description="the model that training began with: what was not trained stays")
    further: float = Field(
        1.0, ge=0, le=2, description="how far from the base the LoRA goes; 1 as far as it was trained"
    )
    beats: Place | None = Field(None, description="trained BEATs checkpoint, where there is no base")
    stage: str
    out: Place

    @model_validator(mode="after")
    def _has_beats(self) -> ExportConfig:
        if (self.base is None) == (self.beats is None):
            raise ValueError("give either base or beats: where the BEATs encoder is from")
        if self.further != 1.0 and self.base is None:
            raise ValueError("further needs base: what it is measured from")
        return self


class Corpus(Strict):
    """Recordings that somebody has, in their native layout."""

    layout: Literal["librispeech", "common-voice", "audiocaps", "clotho", "esc-50", "musiccaps", "manifest"]
    path: Place
    name: str
    license: str | None = Field(None, description="empty: that of the corpus, or of each line of a manifest")
    limit: int | None = Field(None, ge=1)


class Speak(Strict):
    """Sentences for one engine to speak."""

    engine: Literal["kokoro", "piper", "flite", "espeak"]
    count: int = Field(ge=1)
    texts: Place | None = None
    books: Place | None = None
    aloud: bool = Field(False, description="the questions that `scenes` asks over sounds")
    words: bool = Field(False, description="lists of frequent words that are rare in `cover`")
    cover: list[Pattern] = Field([], description="manifests; sentences with words that are rare in them come first")
    kokoro: Place | None = Field(None, description="folder of its model and voices")
    piper: Place | None = Field(None, description="folder of voices: NAME.onnx beside NAME.onnx.json")
    split: Literal["train", "dev"] = "train"
    skip: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> Speak:
        if sum((self.texts is not None, self.books is not None, self.aloud, self.words)) != 1:
            raise ValueError("give one of texts, books, aloud and words")
        if self.words and not self.cover:
            raise ValueError("words needs cover: the manifests of what was spoken already")
        for engine, folder in (("kokoro", self.kokoro), ("piper", self.piper)):
            if self.engine == engine and folder is None:
                raise ValueError(f"engine {engine} needs {engine}: the folder of its voices")
        return self


class Mix(Strict):
    """Speech over sounds at known levels."""

    speech: Pattern
    sounds: Pattern
    count: int = Field(ge=1)
    snr_db: tuple[float, float] = (0.0, 15.0)


class Scenes(Strict):
    """Questions about several clips in a row, and questions asked aloud over a sound."""

    name: str
    sounds: Pattern
    speech: Pattern | None = Field(None, description="what is said in the scenes")
    aloud: Pattern | None = Field(None, description="spoken questions, of `speak` with aloud: true")
    count: int = Field(ge=1)
    snr_db: tuple[float, float] = (0.0, 12.0)

    @model_validator(mode="after")
    def _one_kind(self) -> Scenes:
        if (self.speech is None) == (self.aloud is None):
            raise ValueError("give either speech or aloud")
        return self


class Music(Strict):
    """Melodies rendered by fluidsynth, whose facts are known."""

    count: int = Field(ge=1)
    soundfonts: tuple[Place, ...] = Field((), description="taken in turn; one that is installed if none is named")
    seconds: float = Field(8.0, gt=1, le=28)


class Augment(Strict):
    """Varied copies of a manifest's speech."""

    manifest: Pattern
    name: str
    sounds: Pattern | None = None


class Answers(Strict):
    """The base LLM's own answers to spoken questions and story prompts."""

    llm: str = "smollm2-135m-instruct"
    questions: int = Field(320, ge=0)
    stories: int = Field(96, ge=0)


class PrepareConfig(Run):
    """A training set from its sources. Every part is optional and keeps what an earlier run made."""

    corpora: list[Corpus] = []
    speak: list[Speak] = []
    music: Music | None = None
    mix: list[Mix] = []
    scenes: list[Scenes] = []
    augment: list[Augment] = []
    answers: Answers | None = None


def _config_file(name: str) -> Path:
    known = bundled()
    path = known.get(name, Path(name))
    if not path.is_file():
        raise UserError(f"no config {name!r}{nearest(name, known)}; bundled: {', '.join(known)}, or a YAML file")
    return path


def stage_of(name: str) -> object:
    """What a training config says its stage is."""
    return read_yaml(_config_file(name))[0].get("stage")


Model = TypeVar("Model", bound=BaseModel)


def bundled() -> dict[str, Path]:
    folder = Path(str(resources.files("salmonn_core.training"))) / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(model: type[Model], name: str, settings: list[str] | None = None) -> Model:
    """A YAML file by path or bundled name, `key=value` settings laid over it, validated.

    Raises:
        UserError: no such file, or a mistake in it, with file, line and key.
    """
    path = _config_file(name)
    values, origins = read_yaml(path)
    for setting in settings or ():
        key, _, value = setting.partition("=")
        values[key] = yaml.safe_load(value)
        origins = {at: line for at, line in origins.items() if at[0] != key}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        told = explain(error, origins, model, "config")
        raise UserError(told if told.startswith(str(path)) else f"{path}: {told}") from error


def files_of(patterns: list[str]) -> list[Path]:
    """The files that patterns name, each once, in order.

    Raises:
        UserError: a pattern that names none.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        whole = Path(pattern)
        matches = sorted(Path(whole.anchor or ".").glob(str(whole.relative_to(whole.anchor))))
        if not matches:
            raise UserError(f"no manifest at {pattern}")
        found |= dict.fromkeys(matches)
    return list(found)
