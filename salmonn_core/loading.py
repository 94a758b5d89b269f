"""From a name or a folder to a loaded model."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from salmonn_core.config import LoraConfig, SalmonnConfig, from_dict
from salmonn_core.errors import UserError
from salmonn_core.weights.convert import quiet_transformers
from salmonn_core.weights.safe import assign, read_safetensors
from salmonn_core.weights.sources import locate

if TYPE_CHECKING:
    from salmonn_core.model import Salmonn

BUNDLED = Path(__file__).parent / "pretrained"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "salmonn.safetensors"
LORA_KEYS = ".lora_"


def model_folder(name: str | Path) -> Path:
    """The folder of a bundled model's name, or the folder itself.

    Raises:
        UserError: neither; the bundled names are listed.
    """
    for folder in (BUNDLED / str(name), Path(name)):
        if (folder / CONFIG_FILE).exists():
            return folder
    bundled = ", ".join(sorted(path.name for path in BUNDLED.iterdir() if path.is_dir()))
    raise UserError(f"no model {str(name)!r}: give a folder with {CONFIG_FILE}, or one of: {bundled}")


def read_config(folder: Path) -> SalmonnConfig:
    """The model's settings; no weights are read and no torch is needed."""
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: no JSON ({error.msg})") from error
    return from_dict(SalmonnConfig, values, str(path))


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


def trained_state(beats: Any, bridge: Any, llm: Any) -> dict[str, Tensor]:
    """The tensors that training made: BEATs, bridge and LoRA, by their names in the file."""
    parts = {"beats": beats.state_dict(), "bridge": bridge.state_dict(), "lora": lora_state(llm)}
    return {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}


def lora_state(llm: Any) -> dict[str, Tensor]:
    return {key: value for key, value in llm.state_dict().items() if LORA_KEYS in key}


def save(folder: Path, config: SalmonnConfig, state: dict[str, Tensor]) -> None:
    """Write a model folder: config.json and one float16 safetensors file."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(asdict(config), indent=2) + "\n")
    save_file({k: v.detach().half().contiguous() for k, v in state.items()}, folder / WEIGHTS_FILE)


def load(name: str | Path, device: str = "cpu") -> Salmonn:
    """Build a model and give it its weights.

    Raises:
        UserError: unknown name; weights that are missing, damaged or do not fit.
    """
    from salmonn_core.beats import Beats
    from salmonn_core.bridge import Bridge
    from salmonn_core.model import Salmonn
    from salmonn_core.whisper import load_whisper_encoder

    folder = model_folder(name)
    config = read_config(folder)
    dtype = torch.bfloat16
    whisper = load_whisper_encoder(locate(config.whisper), dtype)
    llm, tokenizer = load_llm(locate(config.llm), dtype)
    llm = with_lora(llm, config.lora)
    bridge = Bridge(config.qformer, whisper.config.d_model, config.beats.encoder_embed_dim, llm.config.hidden_size)
    beats = Beats(config.beats)
    state = read_safetensors(folder / WEIGHTS_FILE)
    where = str(folder / WEIGHTS_FILE)
    assign(beats, _part(state, "beats."), where)
    assign(bridge, _part(state, "bridge."), where)
    _assign_lora(llm, _part(state, "lora."), where)
    for module in (whisper, beats, bridge, llm):
        module.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return Salmonn(config, whisper, beats, bridge, llm, tokenizer)


def load_llm(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The base LLM and its tokenizer, from local files alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet_transformers()
    llm = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    return llm, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _assign_lora(llm: Any, tensors: dict[str, Tensor], where: str) -> None:
    # The frozen base is already in place; only the LoRA's own keys are expected of the file.
    whole = {key: value for key, value in llm.state_dict().items() if LORA_KEYS not in key}
    assign(llm, whole | tensors, where)
