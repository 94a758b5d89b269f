"""Silero's voice detector: a small network, slower than webrtcvad and much harder to fool with music and noise.

The package carries its weights; they run in ONNX, so that nothing of the package itself (it wants torch) is imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from assistant.errors import UserError
from assistant.records import SAMPLE_RATE

CHUNK, CONTEXT = 512, 64  # samples that it judges at once, and that it wants from before them
INSTALL = "pip install silero-vad onnxruntime"


def weights_file() -> Path:
    """The network for 16 kHz that the package `silero-vad` carries.

    Raises:
        UserError: it is not installed.
    """
    found = importlib.util.find_spec("silero_vad")
    if found is None or found.origin is None or importlib.util.find_spec("onnxruntime") is None:
        raise UserError(f"hearing.detector: silero needs two more packages; {INSTALL}, or use webrtc")
    path = Path(found.origin).parent / "data" / "silero_vad_16k_op15.onnx"
    if not path.exists():
        raise UserError(f"this version of silero-vad lacks {path.name}; {INSTALL} --upgrade")
    return path


class SileroDetector:
    """Judges a chunk of 32 ms whenever one is full; a frame of 30 ms is voiced if the last chunk was.

    Args:
        threshold: the probability from which on a chunk is voiced.
    """

    def __init__(self, threshold: float) -> None:
        path = str(weights_file())
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._threshold = threshold
        self._state = np.zeros((2, 1, 128), np.float32)
        self._input = np.zeros((1, CONTEXT + CHUNK), np.float32)
        self._rest = np.zeros(0, np.float32)
        self._rate = np.array(SAMPLE_RATE, np.int64)
        self._voiced = False

    def is_speech(self, frame: np.ndarray) -> bool:
        """Whether a frame of 30 ms, (480,) float32 at 16 kHz, is voiced."""
        self._rest = np.concatenate((self._rest, frame))
        if len(self._rest) >= CHUNK:
            self._voiced = self._probability(self._rest[:CHUNK]) >= self._threshold
            self._rest = self._rest[CHUNK:]
        return self._voiced

    def _probability(self, chunk: np.ndarray) -> float:
        self._input[0, :CONTEXT] = self._input[0, -CONTEXT:]
        self._input[0, CONTEXT:] = chunk
        inputs = {"input": self._input, "state": self._state, "sr": self._rate}
        probability, self._state = self._session.run(None, inputs)
        return float(probability[0, 0])
