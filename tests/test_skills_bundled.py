"""The bundled skills, each on a scripted model: what it asks, and what it makes of the answer."""

import pytest
from assistant_plugins import captions, spoken_qa

from assistant import Ask, Notify, Prompt, Response, Skill, Timings
from assistant.audio.source import FileSource
from assistant.commands import ask
from assistant.events import Responded
from assistant.plugin_host import PluginHost
from assistant.profile import available, load
from assistant.session import Session
from assistant.turns import Turns
from tests.conftest import ROOT, FakeCore, silence, tone, window

EMPTY_RECORD = '{"date": null, "time": null, "person": null, "place name": null}'


class Always:
    """Calls every frame voiced: a file is one window."""

    def is_speech(self, frame):
        return True


def quiet_host(profile):
    return PluginHost(profile, lambda plugin, message: pytest.fail(f"{plugin}: {message}"))


def bundled_skills():
    host = PluginHost(load("default"), lambda plugin, message: None, safe=True)
    host.close()
    return host.skills.values()


@pytest.mark.parametrize("name", [name for name, file in available().items() if file.origin == "bundled"])
def test_a_bundled_profile_fits_the_plugins_that_it_names(name):
    profile = load(name)
    host = quiet_host(profile)
    assert host.mistakes == []
    assert set(profile.plugins) <= set(host.plugins)
    for skill in filter(None, (profile.answer.speech, profile.answer.sound, profile.answer.pin)):
        assert host.skill(skill).description


@pytest.mark.parametrize(
    ("description", "tag"),
    [
        ("A dog is barking.", "dog barking"),
        ("There are some birds. A car passes.", "birds"),
        ("Water runs", "water runs"),
        ("a b c d e f g h i j", "b c d e f g h i"),
        ("A drum kit plays a fast beat on its own.", "drum kit plays a fast beat"),
        ("A slow piece for vibraphone alone, in a minor key.", "slow piece for vibraphone alone, in a minor"),
    ],
)
def test_a_description_becomes_a_short_tag(description, tag):
    assert captions.tag(description, 8) == tag


def test_captions_write_speech_as_text_and_sounds_in_brackets(assistant_loop):
    loop = assistant_loop(words=["A dog ", "is barking."], profile="captions")
    spoken = loop.hear(1.0)
    assert (spoken.skill, spoken.text, spoken.prompt.instruction) == (
        "captions", "A dog is barking.", "Transcribe the speech.",
    )  # fmt: skip
    loop.core.hears = "sound"
    heard = loop.hear(1.0)
    assert (heard.text, heard.prompt.instruction) == ("[dog barking]", "Describe the sound.")


def test_what_was_that_hears_the_last_seconds_only(assistant_loop):
    loop = assistant_loop(settings={"describe": {"seconds": 5}})
    for _ in range(4):
        loop.hear(3.0)
    assert loop.hear(1.0, skill="what-was-that").prompt.windows == (3, 4)


def test_an_answer_regards_a_background_where_there_is_one():
    voice_and_pauses = [tone(0.3), silence(0.2), tone(0.3)]
    import numpy as np

    quiet = np.concatenate(voice_and_pauses)
    noisy = quiet + np.random.default_rng(0).standard_normal(len(quiet)).astype(np.float32) * 0.1
    assert spoken_qa.depth_db(quiet) > 40
    assert spoken_qa.depth_db(noisy) < 10


@pytest.mark.parametrize(
    ("background", "asked"), [("always", spoken_qa.WITH_BACKGROUND), ("never", "Answer the spoken question.")]
)
def test_a_profile_says_whether_the_background_counts(assistant_loop, background, asked):
    loop = assistant_loop(settings={"spoken-qa": {"background": background}})
    assert loop.hear(1.0).prompt.instruction == asked


def test_a_story_goes_on_when_little_is_said_and_begins_anew_when_much_is(assistant_loop):
    loop = assistant_loop(words=["A cat sat. It ", "ran"], profile="storyteller")
    first = loop.hear(1.0)
    assert first.text == "A cat sat."
    assert first.prompt.instruction == "Tell a short story about what you hear."
    assert first.prompt.settings.heard_first
    second = loop.hear(1.0)
    assert second.prompt.instruction == "Go on with the story."
    assert not second.prompt.settings.heard_first
    assert second.prompt.history == ((first.prompt.instruction, "A cat sat."),)
    assert loop.hear(5.0).prompt.instruction == "Tell a short story about what you hear."


def test_a_story_has_a_style_a_language_and_a_length(assistant_loop):
    wanted = {"sentences": 2, "style": "a fairy tale", "language": "German", "continue_for": 0}
    loop = assistant_loop(words=["One. Two. Three."], profile="storyteller", settings={"storytelling": wanted})
    loop.hear(1.0)
    told = loop.hear(5.0)
    assert told.prompt.instruction.endswith("Tell it as a fairy tale. Tell it in German.")
    assert (told.text, told.prompt.history) == ("One. Two.", ())
    assert not told.prompt.settings.heard_first  # which is an English sentence


def alerts_loop(assistant_loop, *words, **alert):
    settings = {"sound-alerts": {"alerts": {"Dog": {"words": ["dog", "bark"], **alert}}}}
    return assistant_loop(words=words, hears="sound", profile="alerts", settings=settings)


def test_a_named_sound_is_told_once_until_it_has_cooled_down(assistant_loop):
    loop = alerts_loop(assistant_loop, "A dog barks.", cooldown_s=5)
    told = [loop.hear(3.0).actions for _ in range(4)]
    assert told == [(Notify("Dog", "A dog barks."),), (), (Notify("Dog", "A dog barks."),), ()]


def test_an_alert_may_want_to_be_heard_twice(assistant_loop):
    loop = alerts_loop(assistant_loop, "A dog barks.", times=2, within_s=10)
    assert [len(loop.hear(3.0).actions) for _ in range(2)] == [0, 1]
    loop = alerts_loop(assistant_loop, "A dog barks.", times=2, within_s=2)
    assert [len(loop.hear(3.0).actions) for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(("words", "least"), [("A hotdog stand.", -60), ("A dog barks.", -10)])
def test_other_words_and_quiet_sounds_are_no_alert(assistant_loop, words, least):
    assert alerts_loop(assistant_loop, words, min_dbfs=least).hear(3.0).actions == ()


def test_an_alert_is_an_event_so_that_headless_shows_it(assistant_loop):
    heard = alerts_loop(assistant_loop, "A dog barks.").hear(3.0)
    assert any(getattr(event, "kind", "") == "notify" for event in heard.events)
    assert heard.panels[0][0] == "Alerts"


def test_music_is_asked_about_what_the_profile_names(assistant_loop):
    loop = assistant_loop(hears="sound", profile="music", settings={"music": {"about": ["instruments", "tempo"]}})
    assert loop.hear(1.0).prompt.instruction == "Tell me about the instruments and the tempo."


def test_the_target_language_is_in_the_question(assistant_loop):
    loop = assistant_loop(settings={"translate": {"target": "Italian"}})
    assert loop.hear(1.0, skill="translate").prompt.instruction.endswith("translate it into Italian.")


def test_a_summary_reads_what_was_said_in_the_last_minutes(assistant_loop):
    loop = assistant_loop(words=["we meet ", "at noon"], settings={"summary": {"minutes": 0.1}})
    loop.hear(7.0, skill="transcribe")
    loop.hear(4.0, skill="transcribe")
    assert loop.hear(1.0, skill="summary").prompt.before == "This was said: we meet at noon"


@pytest.mark.parametrize(
    ("said", "answer", "keywords"),
    [
        ("please buy a bouquet at the florist in the morning", None, "bouquet, florist"),
        ("please buy a bouquet at the florist", "a bouquet, the florist", "a bouquet, the florist"),
        ("what is it", None, "what is it"),
    ],
)
def test_keywords_are_the_rare_words_where_the_model_just_says_all_again(assistant_loop, said, answer, keywords):
    loop = assistant_loop(settings={"summary": {"keywords": 2}})
    loop.turns.core = FakeCore(answer or said)
    loop.turns.core.written = said
    assert loop.hear(2.0, skill="keywords").text == keywords


def test_a_summary_comes_by_itself_when_it_is_time(assistant_loop):
    loop = assistant_loop(profile="minutes", settings={"summary": {"every_minutes": 0.1}})
    assert [[r.skill for r in loop.hear(4.0).responses] for _ in range(3)] == [
        ["transcribe"], ["transcribe"], ["transcribe", "summary"],
    ]  # fmt: skip


def test_nothing_is_answered_or_shown_before_the_wake_phrase(assistant_loop):
    loop = assistant_loop(words=["what is ", "the time"], profile="wake")
    heard = loop.hear(1.0)
    assert (heard.skill, heard.text, "".join(heard.tokens)) == ("wake", "", "")
    assert heard.actions == ()


def test_a_phrase_heard_nearly_right_wakes_and_the_rest_of_the_breath_is_answered(assistant_loop):
    loop = assistant_loop(words=["hay computer ", "what is the time"], profile="wake")
    heard = loop.hear(1.0)
    assert heard.actions == (Ask(skill="spoken-qa"),)
    assert [response.skill for response in heard.responses] == ["wake", "spoken-qa"]
    assert loop.core.encoded == 1


def test_once_awake_it_answers_until_the_time_is_over(assistant_loop):
    loop = assistant_loop(
        words=["hey computer"], profile="wake", settings={"wake": {"phrases": ["hey computer"], "open_s": 5}}
    )
    assert [loop.hear(3.0).skill for _ in range(4)] == ["wake", "spoken-qa", "spoken-qa", "wake"]


def test_a_sound_may_wake(assistant_loop):
    loop = assistant_loop(words=["Somebody claps."], hears="sound", settings={"wake": {"sounds": ["clap"]}})
    assert [loop.hear(1.0).skill for _ in range(2)] == ["wake", "describe"]


def test_without_a_phrase_nobody_sleeps(assistant_loop):
    assert assistant_loop().hear(1.0).skill == "spoken-qa"


def test_a_chat_reads_its_last_turns_and_hears_them_again_if_wanted(assistant_loop):
    chat = {"remember": 2, "listen_again": 1, "persona": "You are kind."}
    loop = assistant_loop(profile="chat", settings={"chat": chat})
    for _ in range(3):
        loop.hear(1.0)
    prompt = loop.hear(1.0).prompt
    assert prompt.history == (("Reply to what was asked.", "hello there"),) * 2
    assert (prompt.windows, prompt.before) == ((3,), "You are kind.")


def test_a_skill_leaves_the_answers_of_others_alone(host):
    """Every bundled plugin sees every answer; only its own may change."""
    other = Skill("other", "", "Say something.")
    prompt, heard = Prompt("Say something."), window(kind="sound")
    assert host.shape(heard, other, prompt) == prompt
    response = Response("A dog barks. And then", "other", prompt, 1, Timings())
    assert host.consume(heard, other, response) == response


@pytest.mark.parametrize(
    ("skill", "kind"),
    [(s.name, kind) for s in bundled_skills() for kind in sorted(s.kinds)],
)
def test_ask_asks_what_the_loop_would(skill, kind):
    """`assistant ask FILE --skill NAME`, and the same file through the loop under a profile that pins the skill."""
    file = str(ROOT / "examples/phone-number.wav")
    said = EMPTY_RECORD if skill == "slot-filling" else "A dog is barking."
    asked, looped = FakeCore(said, hears=kind), FakeCore(said, hears=kind)
    profile = load("default")
    turns = Turns(asked, quiet_host(profile), profile)
    *_, row = ask.rows([file], turns, turns.host.skill(skill), None)
    answer = profile.answer.model_copy(update={"pin": skill})
    pinned = profile.model_copy(update={"answer": answer})
    events = []
    live = Turns(looped, quiet_host(pinned), pinned)
    Session(FileSource(file), Always(), live, events.append).run()
    turns.close()
    live.close()
    *_, responded = [event for event in events if isinstance(event, Responded)]
    assert row["text"] == responded.response.text
    assert [(p.instruction, p.settings) for p in asked.asked] == [(p.instruction, p.settings) for p in looped.asked]


def test_captions_of_a_file_are_of_its_kind(assistant_loop):
    loop = assistant_loop(words=["A dog is barking."], hears="sound")
    assert loop.hear(1.0, skill="captions").text == "[dog barking]"
    loop.core.hears = "speech"
    assert loop.hear(1.0, skill="captions").text == "A dog is barking."
