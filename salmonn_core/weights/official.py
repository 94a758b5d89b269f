"""Published releases to one model folder: `assistant weights convert`.

The folder holds the trained parts as one safetensors file and a `config.json` that names the base models by id
and fingerprint. A base that is already safetensors is left where it is; one that is pickled (Vicuna's
`pytorch_model-*.bin`) is rewritten shard by shard into the folder, so that nothing is unpickled again and
loading can map it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from salmonn_core.checkpoint import OfficialFiles, read_official, read_pickle
from salmonn_core.config import SalmonnConfig
from salmonn_core.errors import UserError
from salmonn_core.weights.convert import new_folder
from salmonn_core.weights.safe import INDEX_FILE, read_json, write_safetensors
from salmonn_core.weights.sources import hub_file, hub_folder, is_hub_id, locate

Report = Callable[[str], None]
SAMPLED_BYTES = 1 << 16
TEXT_FILES = ("*.json", "*.model", "*.txt")


def resolve(checkpoint: str, beats: str, whisper: str, llm: str, report: Report = print) -> OfficialFiles:
    """Local paths of the four releases; what is named by a Hub id is fetched.

    Args:
        checkpoint, beats: a file, or `owner/name:file`.
        whisper, llm: a transformers folder, or `owner/name`.

    Raises:
        UserError: a file or folder that is neither here nor on the Hub.
    """
    return OfficialFiles(
        _file(checkpoint, report), _file(beats, report), _folder(whisper, report), _folder(llm, report)
    )


def _file(spec: str, report: Report) -> Path:
    repository, _, name = spec.partition(":")
    if Path(spec).exists() or not name:
        return Path(spec)
    report(f"fetching {name} of {repository}")
    return hub_file(repository, name)


def _folder(spec: str, report: Report) -> Path:
    if Path(spec).exists() or not is_hub_id(spec):
        return locate(spec)
    report(f"fetching {spec}")
    return hub_folder(spec, pickled=True)


def convert(
    files: OfficialFiles, target: Path, report: Report = print, qformer_heads: int | None = None
) -> SalmonnConfig:
    """Write the model folder; it appears whole or not at all.

    Raises:
        UserError: as `read_official`, or `target` is there already.
    """
    from salmonn_core.loading import check_widths, llm_width, save

    if target.exists():
        raise UserError(f"{target} is there already; remove it, or give another --out")
    report("reading the checkpoint")
    config, state = read_official(files, qformer_heads, target.name)
    whisper_width = int(read_json(files.whisper / "config.json")["d_model"])
    check_widths(state, whisper_width, llm_width(files.llm), str(files.checkpoint))
    with new_folder(target) as folder:
        whisper, whisper_print = _base("whisper", files.whisper, folder, target, report)
        llm, llm_print = _base("llm", files.llm, folder, target, report)
        config = replace(config, whisper=whisper, whisper_fingerprint=whisper_print, llm=llm, llm_fingerprint=llm_print)
        report("writing the trained parts")
        save(folder, config, state)
    return config


def _base(name: str, source: Path, folder: Path, target: Path, report: Report) -> tuple[str, str]:
    """Where a base model will be found, and its fingerprint."""
    if any(source.glob("*.safetensors")):
        return str(source.resolve()), fingerprint(source)
    rewrite_pickled(source, folder / name, report)
    return str((target / name).resolve()), fingerprint(folder / name)


def rewrite_pickled(source: Path, target: Path, report: Report = print) -> None:
    """A transformers folder of `pytorch_model*.bin` as safetensors, one shard in memory at a time.

    Raises:
        UserError: no shards, or one that holds more than tensors.
    """
    shards = sorted(source.glob("pytorch_model*.bin"))
    if not shards:
        raise UserError(f"{source} is no model folder: it has neither *.safetensors nor pytorch_model*.bin")
    target.mkdir(parents=True)
    for pattern in TEXT_FILES:
        for file in source.glob(pattern):
            if not file.name.startswith("pytorch_model"):
                shutil.copy(file, target)
    where: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, 1):
        report(f"rewriting {shard.name} ({number} of {len(shards)})")
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {k: v for k, v in read_pickle(shard).items() if not k.endswith("rotary_emb.inv_freq")}
        write_safetensors(tensors, target / name, {"format": "pt"})
        where |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    (target / INDEX_FILE).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1))


def fingerprint(folder: Path) -> str:
    """sha256 of a model folder's config, file sizes and a sample of each weight file: changes with any other model.

    Reading all of a 26 GB model at each start would cost more than loading it.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for start in (0, size // 2, max(0, size - SAMPLED_BYTES)):
                file.seek(start)
                digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()


def check_base(name: str, folder: Path, recorded: str) -> None:
    """Whether a base model is the one that a model folder was made with.

    Raises:
        UserError: it is another one, which would answer fluent nonsense.
    """
    if recorded and fingerprint(folder) != recorded:
        raise UserError(
            f"the {name} in {folder} is not the one that this model was converted with; "
            "put that one back, or run: assistant weights convert"
        )
