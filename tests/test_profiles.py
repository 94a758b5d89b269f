"""Profiles: what a mistake says, which file wins, how they extend each other."""

import pytest

from assistant.errors import UserError
from assistant.profile import available, load


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("ASSISTANT_CONFIG", str(tmp_path))
    folder = tmp_path / "profiles"
    folder.mkdir()

    def write(name, text):
        (folder / f"{name}.yaml").write_text(text)

    return write


def complaint(name):
    with pytest.raises(UserError) as raised:
        load(name)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    "name", ["default", "captions", "storyteller", "spoken-qa", "slots", "salmonn-7b", "salmonn-13b"]
)
def test_the_bundled_profiles_are_valid(name):
    assert load(name).name == name


def test_a_profile_that_extends_keeps_what_it_does_not_change(write):
    write("mine", "extends: default\nhearing: {end_silence_s: 2}\n")
    mine = load("mine")
    assert (mine.hearing.end_silence_s, mine.hearing.pre_roll_s, mine.name) == (2, 0.6, "mine")


def test_an_unknown_key_names_file_line_key_and_the_nearest_good_name(write):
    write("mine", "extends: default\nhearing:\n  end_silense_s: 2\n")
    said = complaint("mine")
    assert "mine.yaml, line 3, hearing.end_silense_s" in said
    assert "did you mean 'end_silence_s'" in said


def test_a_wrong_value_names_its_line(write):
    write("mine", "hearing:\n  aggressiveness: 7\n")
    assert "line 2, hearing.aggressiveness: input should be less than or equal to 3" in complaint("mine")


def test_malformed_yaml_names_the_line(write):
    write("mine", "hearing: [\nname: x\n")
    assert "mine.yaml, line" in complaint("mine")


def test_a_key_that_is_there_twice_is_refused(write):
    write("mine", "name: a\nname: b\n")
    assert "line 2, name: this key is there twice" in complaint("mine")


def test_an_unknown_profile_names_the_nearest():
    assert "did you mean 'captions'" in complaint("caption")


def test_profiles_that_extend_each_other_in_a_circle_are_refused(write):
    write("a", "extends: b\n")
    write("b", "extends: a\n")
    assert "a -> b -> a" in complaint("a")


def test_an_unknown_parent_names_the_line(write):
    write("mine", "extends: defualt\n")
    assert "line 1, extends: no profile 'defualt' (did you mean 'default'?)" in complaint("mine")


def test_a_users_file_wins_over_a_bundled_one(write):
    write("default", "extends: captions\nname: default\n")
    assert available()["default"].origin == "user"
    assert load("default").answer.speech == "captions"


def test_a_list_is_no_profile(write):
    write("mine", "- a\n")
    assert "a profile is a list of `key: value` lines" in complaint("mine")


def test_one_name_where_a_list_belongs_is_told_so_with_the_list(write):
    write("mine", "extends: default\ncore:\n  vocabulary: Wallsburg\n")
    assert "line 3, core.vocabulary: input should be a list, like [Wallsburg]" in complaint("mine")
    write("mine", "extends: default\ncore: {vocabulary: [Wallsburg, Dena Black]}\n")
    assert load("mine").core.vocabulary == ("Wallsburg", "Dena Black")


def test_a_preset_sets_its_numbers_and_a_profile_may_change_each(write):
    write("calm", "extends: default\nhearing: {preset: relaxed}\n")
    write("mine", "extends: calm\nhearing: {end_silence_s: 1.0}\n")
    assert load("default").hearing.end_silence_s == 0.8
    assert load("calm").hearing.end_silence_s == 1.25
    assert (load("mine").hearing.preset, load("mine").hearing.end_silence_s) == ("relaxed", 1.0)


def test_the_numbers_of_a_preset_are_shown(assistant):
    assert "end_silence_s: 1.25" in assistant("profiles", "show", "storyteller").stdout


def test_an_unknown_preset_names_its_line(write):
    write("mine", "extends: default\nhearing:\n  preset: slow\n")
    assert "line 3, hearing.preset: input should be 'relaxed', 'normal' or 'quick'" in complaint("mine")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("{mute: ctrl+m}", "line 2, keys.mute: ctrl+m never arrives: terminals send Enter for it"),
        ("{talk: ctrl+i}", "line 2, keys.talk: ctrl+i never arrives: terminals send Tab for it"),
        ("{muet: f2}", "line 2, keys.muet: no such action (did you mean 'mute'?)"),
        ("{mute: hyper}", "line 2, keys.mute: no key 'hyper'"),
        ("{mute: q}", "line 2, keys: 'q' would be both 'mute' and 'quit'"),
    ],
)
def test_a_key_that_cannot_work_names_its_line(write, keys, said):
    write("mine", f"extends: default\nkeys: {keys}\n")
    assert said in complaint("mine")
