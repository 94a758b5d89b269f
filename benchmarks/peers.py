"""The engines that `benchmarks.latency` compares; each answers one window for every line on standard input."""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from salmonn_core.weights.sources import PARTS, cache_folder, original

TOKENS = 40
SYSTEM = "You are a helpful voice assistant. Answer briefly."
SYSTEM_TURN = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
QUESTION = "Answer the spoken question."


@dataclass
class Answer:
    """When what was there, in seconds since the window ended."""

    heard: float = 0.0
    times: list[float] = field(default_factory=list)
    text: str = ""
    transcript: str = ""


Engine = Callable[[np.ndarray], Answer]


class _Endless:
    """A tokenizer without an end token, so that every answer has the same length."""

    eos_token_id = -1

    def __init__(self, tokenizer: Any) -> None:
        self.decode = tokenizer.decode


def salmonn_tiny(threads: int) -> Engine:
    """The whole pipeline, both encoders included."""
    import torch

    torch.set_num_threads(threads)
    from salmonn_core import GenerationOptions, Salmonn
    from salmonn_core.decode import generate

    model = Salmonn.from_pretrained("salmonn-tiny")
    options = GenerationOptions(max_new_tokens=TOKENS)
    endless = _Endless(model.tokenizer)

    def answer(wave: np.ndarray) -> Answer:
        begun = time.perf_counter()
        audio = model.encode(wave)
        result = Answer(heard=time.perf_counter() - begun)
        ready = model.prompt(QUESTION, audio)
        ids = []
        for token in generate(model.llm, endless, ready.rest, options, prefix=ready.prefix):
            ids.append(token)
            result.times.append(time.perf_counter() - begun)
        result.text = model.tokenizer.decode(ids)
        return result

    return answer


def _bench_folder() -> Path:
    folder = cache_folder().parent / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _gguf() -> Path:
    name = "smollm2-135m-instruct"
    return original(name, _bench_folder() / PARTS[name].file_name)


@cache
def _say_nothing() -> Any:
    """A log callback for llama.cpp; cached, because C keeps only its address."""
    import llama_cpp

    return llama_cpp.llama_log_callback(lambda *_: None)


def _q4_0() -> Path:
    """llama.cpp's own requantisation to the format that its fastest kernels read."""
    import llama_cpp

    llama_cpp.llama_log_set(_say_nothing(), ctypes.c_void_p(0))
    target = _bench_folder() / "smollm2-135m-instruct.Q4_0.gguf"
    if not target.exists():
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype, options.allow_requantize = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, True
        partial = target.with_suffix(".partial")
        llama_cpp.llama_model_quantize(str(_gguf()).encode(), str(partial).encode(), ctypes.byref(options))
        partial.rename(target)
    return target


def _whisper_folder() -> Path:
    """CTranslate2's Whisper base as faster-whisper wants it."""
    folder = _bench_folder() / "whisper-base-ct2"
    folder.mkdir(exist_ok=True)
    original("whisper-base", folder / "model.bin")
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        original("whisper-base", folder / name, beside=name)
    return folder


def stock(threads: int) -> Engine:
    """faster-whisper and llama.cpp as their READMEs show them."""
    from faster_whisper import WhisperModel
    from llama_cpp import Llama

    whisper = WhisperModel(str(_whisper_folder()), device="cpu", compute_type="int8", cpu_threads=threads)
    llm = Llama(str(_gguf()), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)

    def answer(wave: np.ndarray) -> Answer:
        begun = time.perf_counter()
        segments, _ = whisper.transcribe(wave)
        said = " ".join(segment.text.strip() for segment in segments)
        result = Answer(heard=time.perf_counter() - begun, transcript=said)
        llm.reset()  # no cache, as for a first question
        return _llama_answer(llm, said, result, begun)

    return answer


def tuned(threads: int) -> Engine:
    """The same two, with everything that a patient engineer would do."""
    import ctranslate2
    from faster_whisper import WhisperModel
    from llama_cpp import Llama

    model = WhisperModel(str(_whisper_folder()), device="cpu", compute_type="int8", cpu_threads=threads)
    prompt = model.hf_tokenizer.encode(
        "<|startoftranscript|><|en|><|transcribe|><|notimestamps|>", add_special_tokens=False
    )
    llm = Llama(str(_q4_0()), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    system = len(llm.tokenize(SYSTEM_TURN.encode(), add_bos=False, special=True))

    def answer(wave: np.ndarray) -> Answer:
        begun = time.perf_counter()
        features = model.feature_extractor(wave, padding=0)[:, : len(wave) // 160]
        features = np.ascontiguousarray(features[None], np.float32)
        encoded = model.model.encode(ctranslate2.StorageView.from_array(features))
        ids = model.model.generate(encoded, [prompt.ids], beam_size=1, max_length=64)[0].sequences_ids[0]
        said = model.hf_tokenizer.decode(ids).strip()
        result = Answer(heard=time.perf_counter() - begun, transcript=said)
        # What llama.cpp may keep is the system prompt; the rest of the last window's is another question's.
        llm.n_tokens = min(llm.n_tokens, system)
        return _llama_answer(llm, said, result, begun)

    return answer


def _llama_answer(llm: Any, said: str, result: Answer, begun: float) -> Answer:
    turns = f"{SYSTEM_TURN}{said}<|im_end|>\n<|im_start|>assistant\n"
    ids = llm.tokenize(turns.encode(), add_bos=False, special=True)
    said_ids = []
    for token in llm.generate(ids, temp=0.0, repeat_penalty=1.0):
        result.times.append(time.perf_counter() - begun)
        said_ids.append(token)
        if len(said_ids) == TOKENS:
            break
    result.text = llm.detokenize(said_ids).decode("utf-8", "replace")
    return result


ENGINES: dict[str, Callable[[int], Engine]] = {"salmonn-tiny": salmonn_tiny, "stock": stock, "tuned": tuned}


def main() -> None:
    name, window, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    wave = np.load(window)
    answer = ENGINES[name](threads)
    for _ in sys.stdin:
        result = answer(wave)
        times = {"heard": result.heard, "first": result.times[0], "all": result.times[-1]}
        row = {key: 1000.0 * value for key, value in times.items()}
        print(json.dumps(row | {"text": result.text, "transcript": result.transcript}), flush=True)


if __name__ == "__main__":
    main()
