"""Synthetic voices that packages carry: Kokoro-82M and Piper (natural), flite and espeak-ng (fast, robotic).

Every voice is one callable from text to a 16 kHz mono float32 waveform, so the data preparation
does not care which program speaks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from salmonn_core.errors import UserError

SAMPLE_RATE = 16_000
KOKORO_RATE = 24_000
KOKORO_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
KOKORO_MAX_SYMBOLS = 508
FLITE_VOICES = ("slt", "rms", "awb", "kal16")
ESPEAK_VOICES = ("en-us+m3", "en-us+f2", "en-gb+m7", "en-gb+f4", "en-gb-scotland+m1")
WOMEN, MEN = ("af_", "bf_", "slt"), ("am_", "bm_", "rms", "awb", "kal16")

Voice = Callable[[str], np.ndarray]


def gender_of(row: Mapping[str, object]) -> str | None:
    """`man` or `woman`, of a manifest's entry: its field `voice`, or a synthetic voice whose name tells.

    None where it is not known, or where a voice is a mixture of both.
    """
    if row.get("voice"):
        return str(row["voice"])
    name = str(row.get("speaker") or "").partition(":")[2]
    man, woman = any(v in name for v in MEN), any(v in name for v in WOMEN)
    return None if man == woman else "man" if man else "woman"


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise UserError(f"the speech program {name} is not installed; on Debian: apt-get install {name}")
    return path


def _read_16k(path: Path) -> np.ndarray:
    wave, rate = soundfile.read(path, dtype="float32")
    return wave if rate == SAMPLE_RATE else soxr.resample(wave, rate, SAMPLE_RATE).astype(np.float32)


def flite(voice: str, text: str) -> np.ndarray:
    """Speak with flite; (samples,) float32 at 16 kHz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as out:
        subprocess.run([_program("flite"), "-voice", voice, "-t", text, "-o", out.name], check=True)
        return _read_16k(Path(out.name))


def espeak(voice: str, text: str, words_per_minute: int = 165) -> np.ndarray:
    """Speak with espeak-ng; (samples,) float32 at 16 kHz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as out:
        command = [_program("espeak-ng"), "-v", voice, "-s", str(words_per_minute), "-w", out.name, "--", text]
        subprocess.run(command, check=True)
        return _read_16k(Path(out.name))


@cache
def phonemes(text: str, accent: str) -> str:
    """IPA of `text` by espeak-ng, punctuation kept at the end of clauses."""
    command = [_program("espeak-ng"), "-q", "--ipa", "-v", accent, "--", text]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    ipa = ", ".join(line.strip() for line in lines if line.strip())
    return ipa + (text[-1] if text[-1] in ".?!" else ".")


def _session(model: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _said(session: Any, inputs: dict[str, np.ndarray], rate: int) -> np.ndarray:
    """(samples,) float32 at 16 kHz of what a model says at a rate of its own."""
    wave = np.asarray(session.run(None, inputs)[0], np.float32).reshape(-1)
    return soxr.resample(wave, rate, SAMPLE_RATE).astype(np.float32)


class Kokoro:
    """The Kokoro-82M voices: 28 English ones, and weighted mixtures of them as further speakers.

    `folder` holds `kokoro.onnx`, `vocab.json` and `voices/*.bin` (docs/training-log.md says where they come from).
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        model = folder / "kokoro.onnx"
        if not model.exists():
            raise UserError(f"no Kokoro model at {model}; docs/training-log.md says how to make it")
        if hashlib.sha256(model.read_bytes()).hexdigest() != KOKORO_SHA256:
            raise UserError(f"{model} is damaged (sha256 differs); delete it and fetch it again")
        self._session = _session(model, threads)
        vocabulary = json.loads((folder / "vocab.json").read_text())
        self._ids: dict[str, int] = vocabulary.get("vocab", vocabulary)
        self._styles = {
            path.stem: np.fromfile(path, np.float32).reshape(510, 1, 256)
            for path in sorted((folder / "voices").glob("[ab][fm]_*.bin"))
        }

    @property
    def voices(self) -> list[str]:
        return list(self._styles)

    def speak(self, text: str, mixture: dict[str, float], speed: float = 1.0) -> np.ndarray:
        """Speak `text` in the weighted mean of some voices; (samples,) float32 at 16 kHz."""
        first = next(iter(mixture))
        ipa = phonemes(text, "en-gb" if first.startswith("b") else "en-us").replace("r", "ɹ")
        ids = [self._ids[symbol] for symbol in ipa if symbol in self._ids][:KOKORO_MAX_SYMBOLS]
        total = sum(mixture.values())
        style = sum(self._styles[name][len(ids)] * (weight / total) for name, weight in mixture.items())
        names = [i.name for i in self._session.get_inputs()]
        inputs = dict(
            zip(
                names,
                (np.array([[0, *ids, 0]]), style.astype(np.float32), np.array([speed], np.float32)),
                strict=True,
            )
        )
        return _said(self._session, inputs, KOKORO_RATE)


class Piper:
    """Voices in Piper's layout: `NAME.onnx` beside `NAME.onnx.json`; ten times as fast as Kokoro.

    A voice that was trained on several speakers counts as one voice for each: `NAME#0`, `NAME#1` and so on.

    Raises:
        UserError: no such pair of files in `folder`.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._models: dict[str, tuple[Any, dict[str, Any], int | None]] = {}
        for model, settings in _piper_settings(folder).items():
            session = _session(model, threads)
            speakers = int(settings.get("num_speakers", 1))
            for number in range(speakers):
                name = model.stem if speakers == 1 else f"{model.stem}#{number}"
                self._models[name] = session, settings, None if speakers == 1 else number

    @property
    def voices(self) -> list[str]:
        return list(self._models)

    def speak(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        """Speak `text` in one of the `voices`; (samples,) float32 at 16 kHz."""
        session, settings, speaker = self._models[voice]
        known: dict[str, list[int]] = settings["phoneme_id_map"]
        # Each symbol is followed by a pad, as in training; ^ and $ frame the sentence.
        ids = [known["^"], known["_"]]
        for symbol in phonemes(text, settings["espeak"]["voice"]):
            ids += [known[symbol], known["_"]] if symbol in known else []
        row = np.array([[id_ for part in [*ids, known["$"]] for id_ in part]])
        tuned = settings["inference"]
        scales = [tuned["noise_scale"], tuned["length_scale"] / speed, tuned["noise_w"]]
        inputs = {"input": row, "input_lengths": np.array([row.shape[1]]), "scales": np.array(scales, np.float32)}
        if speaker is not None:
            inputs["sid"] = np.array([speaker])
        return _said(session, inputs, settings["audio"]["sample_rate"])


def _piper_settings(folder: Path) -> dict[Path, dict[str, Any]]:
    """What is said of each voice in a folder, by its model."""
    found = {}
    for model in sorted(folder.glob("*.onnx")):
        described = model.with_name(f"{model.name}.json")
        if not described.is_file():
            raise UserError(f"{model} has no {described.name} beside it, which says how its voice spells")
        found[model] = json.loads(described.read_text(encoding="utf-8"))
    if not found:
        raise UserError(f"no Piper voice in {folder}: a voice is NAME.onnx with NAME.onnx.json beside it")
    return found
