"""Synthetic voices that packages carry: Kokoro-82M (natural) and flite / espeak-ng (fast, robotic).

Every voice is one callable from text to a 16 kHz mono float32 waveform, so the data preparation
does not care which program speaks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

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

Voice = Callable[[str], np.ndarray]


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


class Kokoro:
    """The Kokoro-82M voices: 28 English ones, and weighted mixtures of them as further speakers.

    `folder` holds `kokoro.onnx`, `vocab.json` and `voices/*.bin` (docs/training-log.md says where they come from).
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = folder / "kokoro.onnx"
        if not model.exists():
            raise UserError(f"no Kokoro model at {model}; docs/training-log.md says how to make it")
        if hashlib.sha256(model.read_bytes()).hexdigest() != KOKORO_SHA256:
            raise UserError(f"{model} is damaged (sha256 differs); delete it and fetch it again")
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
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
        wave = np.asarray(self._session.run(None, inputs)[0], np.float32).reshape(-1)
        return soxr.resample(wave, KOKORO_RATE, SAMPLE_RATE).astype(np.float32)
