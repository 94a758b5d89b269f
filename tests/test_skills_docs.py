"""The profiles that docs/skills.md shows are loaded, and every bundled skill is in it."""

import re

import pytest

from assistant.plugin_host import PluginHost
from assistant.profile import load
from tests.conftest import ROOT

TEXT = (ROOT / "docs/skills.md").read_text()
PROFILES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROFILES)))
def test_a_profile_in_the_docs_is_whole_and_right(number, tmp_path):
    path = tmp_path / "shown.yaml"
    path.write_text(PROFILES[number])
    profile = load(str(path))
    host = PluginHost(profile, lambda plugin, message: pytest.fail(f"{plugin}: {message}"))
    assert host.mistakes == []
    assert set(profile.plugins) <= set(host.plugins)
    assert all(host.skill(name) for name in (profile.answer.speech, profile.answer.sound))


def test_every_bundled_skill_and_its_settings_are_in_the_docs(host):
    assert len(PROFILES) == 11
    for skill in host.skills:
        assert f"`{skill}`" in TEXT, skill
