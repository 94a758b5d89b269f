"""From a name or a folder to a loaded model."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from salmonn_core.checkpoint import OfficialFiles, read_official
from salmonn_core.config import LoraConfig, SalmonnConfig, from_dict
from salmonn_core.errors import UserError
from salmonn_core.processor import multiplies_bfloat16, multiplies_int8
from salmonn_core.reading import Reader
from salmonn_core.weights.convert import quiet_transformers
from salmonn_core.weights.rowwise import packed, unpacked
from salmonn_core.weights.safe import assign, check_fit, read_json, read_safetensors, write_safetensors
from salmonn_core.weights.sources import cache_folder, locate

if TYPE_CHECKING:
    from salmonn_core.llm import Llm
    from salmonn_core.model import Salmonn

# auto: on a CPU int8 where the LLM is a plain Llama, and otherwise what it multiplies quickly; bfloat16 elsewhere.
Precision = Literal["auto", "fp32", "bf16", "int8", "int4"]

BUNDLED = Path(__file__).parent / "pretrained"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "salmonn.safetensors"
LORA_KEYS, READER = ".lora_", "reader."
LLM_NAMES = {5120: "13B", 4096: "7B"}


def models_folder() -> Path:
    """Where `assistant weights convert` puts models that profiles name without a path."""
    return cache_folder().parent / "models"


def find_model(name: str | Path) -> Path | None:
    """The folder of a bundled or converted model's name, or the folder itself, if it is here."""
    folders = (BUNDLED / str(name), models_folder() / str(name), Path(name))
    return next((folder for folder in folders if (folder / CONFIG_FILE).exists()), None)


def model_folder(name: str | Path) -> Path:
    """As `find_model`.

    Raises:
        UserError: it is not here; the names that are, are listed.
    """
    found = find_model(name)
    if found is not None:
        return found
    roots = [root for root in (BUNDLED, models_folder()) if root.is_dir()]
    known = ", ".join(sorted(path.parent.name for root in roots for path in root.glob(f"*/{CONFIG_FILE}")))
    raise UserError(
        f"no model {str(name)!r}: give a folder with {CONFIG_FILE}, or one of: {known}; "
        "published checkpoints become one by: assistant weights convert"
    )


def read_config(folder: Path) -> SalmonnConfig:
    """The model's settings; no weights are read and no torch is needed."""
    path = folder / CONFIG_FILE
    return from_dict(SalmonnConfig, read_json(path), str(path))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """What a model folder adds to its base models, by part: `beats.`, `bridge.`, `lora.`, `reader.`, `letters.`."""
    return unpacked(read_safetensors(folder / WEIGHTS_FILE))


def with_lora(llm: Any, config: LoraConfig) -> Any:
    """Wrap a causal LM of transformers with peft's LoRA, as the config says."""
    import peft

    adapter = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=list(config.targets),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft asks transformers about checkpointing by its old name; nothing a user could act on.
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(llm, adapter)


def lora_state(llm: Any) -> dict[str, Tensor]:
    return {key: value for key, value in llm.state_dict().items() if LORA_KEYS in key}


def save(folder: Path, config: SalmonnConfig, state: dict[str, Tensor], whole: tuple[str, ...] = ()) -> None:
    """Write a model folder: config.json and one safetensors file, in float16 but for whole numbers.

    Args:
        whole: prefixes of weights that are kept as whole numbers (`salmonn_core.weights.rowwise`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(asdict(config), indent=2) + "\n")
    tensors = {k: v.detach().half() if v.is_floating_point() else v for k, v in state.items()}
    write_safetensors(packed(tensors, whole), folder / WEIGHTS_FILE)


def load(name: str | Path, device: str = "cpu", precision: Precision = "auto") -> Salmonn:
    """Build a model folder's model and give it its weights.

    Raises:
        UserError: unknown name; weights that are missing, damaged or do not fit.
    """
    folder = model_folder(name)
    config = read_config(folder)
    return build(config, read_weights(folder), device, precision, str(folder / WEIGHTS_FILE))


def load_official(
    files: OfficialFiles, device: str = "cpu", precision: Precision = "auto", qformer_heads: int | None = None
) -> Salmonn:
    """Build the published model straight from its releases; `assistant weights convert` makes a faster folder.

    Raises:
        UserError: as `read_official` and `build`; or a base model that is pickled, with the command that mends it.
    """
    for base in (files.whisper, files.llm):
        if not any(base.glob("*.safetensors")):
            given = " ".join(f"--{name} {path}" for name, path in vars(files).items())
            raise UserError(
                f"{base} has no *.safetensors and nothing pickled is loaded; rewrite it once: "
                f"assistant weights convert {given} --out NAME, then name NAME as core.model"
            )
    config, state = read_official(files, qformer_heads)
    return build(config, state, device, precision, str(files.checkpoint))


def build(config: SalmonnConfig, state: dict[str, Tensor], device: str, precision: Precision, where: str) -> Salmonn:
    """Assemble a model: frozen encoder and LLM from their folders, the trained parts from `state`.

    Every part is built without memory of its own and takes its weights one tensor after the other, from
    memory-mapped files straight to the device, so that the host never holds more than one part.

    Args:
        state: weights named `beats.`, `bridge.`, `lora.`, `reader.` and `letters.` if the model has learned to be read.
        where: what `state` was read from, for errors.

    Raises:
        UserError: weights that do not fit, or a base model of another size, named as such.
    """
    from salmonn_core.beats import Beats
    from salmonn_core.bridge import Bridge
    from salmonn_core.letters import Letters
    from salmonn_core.model import Salmonn
    from salmonn_core.weights.official import check_base
    from salmonn_core.whisper import load_whisper_encoder

    device = check_device(device)
    dtype = float_type(device, precision)
    whisper_folder, llm_folder = locate(config.whisper), locate(config.llm)
    check_base("Whisper", whisper_folder, config.whisper_fingerprint)
    check_base("LLM", llm_folder, config.llm_fingerprint)
    whisper, width = load_whisper_encoder(whisper_folder, dtype, device), llm_width(llm_folder)
    check_widths(state, whisper.config.d_model, width, where)
    with torch.device("meta"):
        widths = whisper.config.d_model, config.beats.encoder_embed_dim, width
        bridge = Bridge(config.qformer, *widths, labels=len(config.labels))
        beats = Beats(config.beats)
        letters = Letters(config.letters, whisper.config.d_model) if config.letters.blocks else None
    for module, prefix in ((beats, "beats."), (bridge, "bridge."), (letters, "letters.")):
        if module is not None:
            assign(module, part(state, prefix), where, device, dtype)
            module.eval().requires_grad_(False)
    beats.fold()
    tokenizer = load_tokenizer(llm_folder)
    llm = open_llm(llm_folder, config.lora, part(state, "lora."), tokenizer, device, precision, where)
    reader = _reader(part(state, READER), llm, device, where)
    return Salmonn(config, whisper, beats, bridge, llm, tokenizer, reader, letters)


def _reader(state: dict[str, Tensor], llm: Llm, device: str, where: str) -> Reader | None:
    """The model's reader of its own audio tokens; the published checkpoints have none."""
    if not state:
        return None
    if "tokens" not in state:
        raise UserError(f"{where}: its reader lacks `tokens`; export the checkpoint again")
    tokens = state["tokens"].long()
    reader = Reader(llm.embed(tokens), tokens)
    assign(reader, {k: v for k, v in state.items() if k != "tokens"}, where, device, torch.float32)
    return reader.eval().requires_grad_(False)


def float_type(device: str, precision: Precision) -> torch.dtype:
    """Of all that is not packed into integers."""
    chosen = precision == "bf16" or torch.device(device).type != "cpu" or multiplies_bfloat16()
    return torch.bfloat16 if chosen and precision != "fp32" else torch.float32


def check_device(device: str) -> str:
    """The device, if this machine has it.

    Raises:
        UserError: no such device here.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"no device {device!r} on this machine ({str(error).splitlines()[0]}); cpu always works"
        ) from error
    return device


def check_widths(state: dict[str, Tensor], whisper_width: int, llm_width: int, where: str) -> None:
    """Whether the base models are those that the checkpoint was trained on.

    Raises:
        UserError: naming the checkpoint's base and the one that was given.
    """
    projection, norm = state.get("bridge.projection.bias"), state.get("bridge.ln_speech.bias")
    if projection is not None and len(projection) != llm_width:
        trained, given = LLM_NAMES.get(len(projection)), LLM_NAMES.get(llm_width)
        told = f": it is the {trained} checkpoint on a {given} model" if trained and given else ""
        raise UserError(f"{where}: this checkpoint projects to {len(projection)}, the LLM is {llm_width} wide{told}")
    if norm is not None and len(norm) != whisper_width:
        raise UserError(
            f"{where}: this checkpoint hears through a Whisper {len(norm)} wide, the one given is {whisper_width} wide"
        )


def llm_width(folder: Path) -> int:
    """Hidden size of a transformers LLM folder; no weights are read."""
    return int(read_json(folder / CONFIG_FILE)["hidden_size"])


def load_tokenizer(folder: Path) -> Any:
    """The LLM's tokenizer, or None for a folder that has none (then prompts are given as ids)."""
    from transformers import AutoTokenizer

    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        return None
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def open_llm(
    folder: Path,
    config: LoraConfig,
    lora: dict[str, Tensor],
    tokenizer: Any,
    device: str,
    precision: Precision,
    where: str,
) -> Llm:
    """The base LLM with its LoRA as one of the engines of `salmonn_core.llm`.

    Raises:
        UserError: LoRA keys that do not fit; a precision that this device, model or installation lacks.
    """
    from transformers import AutoConfig

    from salmonn_core.int8 import Int8Llama
    from salmonn_core.int8_pack import supports
    from salmonn_core.llm import PeftLlm
    from salmonn_core.static import StaticLlama

    base = AutoConfig.from_pretrained(folder, local_files_only=True)
    kind, plain = torch.device(device).type, supports(base)
    if kind == "cpu" and precision == "int8" and not multiplies_int8():
        raise UserError("int8 on the CPU is for x86 processors; use auto")
    if kind == "cpu" and precision == "int8" and not plain:
        raise UserError(f"{folder}: int8 on the CPU is for plain Llama models, this is {base.model_type!r}; use bf16")
    packs = kind == "cpu" and precision in ("auto", "int8") and plain and multiplies_int8() and tokenizer is not None
    # What is packed is not multiplied again: it stays as small as it is on disk.
    dtype = torch.bfloat16 if packs else float_type(device, precision)
    llm = with_lora(_base_llm(folder, device, precision, dtype), config)
    _assign_lora(llm, lora, where)
    llm, strength = llm.eval().requires_grad_(False), config.alpha / config.rank
    # bitsandbytes waits for the GPU within a step, which no graph can.
    if kind == "cuda" and precision not in ("int8", "int4") and plain:
        return StaticLlama(llm, strength)
    engine = PeftLlm(llm, strength)
    return Int8Llama(engine, tokenizer) if packs else engine


def _base_llm(folder: Path, device: str, precision: Precision, dtype: torch.dtype) -> Any:
    """transformers' causal LM on the device, memory-mapped and moved there tensor by tensor."""
    from transformers import AutoModelForCausalLM

    quiet_transformers()
    options: dict[str, Any] = {"dtype": dtype}
    if torch.device(device).type != "cpu":
        options["device_map"] = {"": device}
        if precision in ("int8", "int4"):
            options["quantization_config"] = _bitsandbytes(precision)
    elif precision == "int4":
        raise UserError("int4 needs a CUDA device; on the CPU use int8")
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **options)


def _bitsandbytes(precision: Precision) -> Any:
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise UserError(f"{precision} on a GPU needs bitsandbytes; run: pip install bitsandbytes")
    if precision == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def load_llm(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The base LLM on the CPU and its tokenizer, from local files alone; for training."""
    return _base_llm(folder, "cpu", "auto", dtype), load_tokenizer(folder)


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one part, its prefix removed."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _assign_lora(llm: Any, tensors: dict[str, Tensor], where: str) -> None:
    # The frozen base is already in place; only the LoRA's own keys are expected of the file.
    expected = {key: value for key, value in llm.state_dict().items() if LORA_KEYS in key}
    check_fit(expected, tensors, where)
    with torch.no_grad():
        for key, value in expected.items():
            value.copy_(tensors[key])
