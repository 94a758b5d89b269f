"""Slot filling: schemas, values, the question for what is missing, where records go."""

import json
import threading
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import regex
from assistant_plugins import slot_heard, slot_values
from assistant_plugins.slot_schema import Property, Schema

from assistant import WORDS_HERE, Show, Write
from assistant.plugin_host import PluginHost
from assistant.profile import load
from salmonn_core.prompts import quotable
from tests.conftest import FakeCore

TIMER = {
    "type": "object",
    "required": ["duration", "room"],
    "properties": {
        "duration": {"type": "string", "format": "duration", "description": "For how long?"},
        "room": {"enum": ["kitchen", "hall"]},
        "level": {"type": "integer", "minimum": 1, "maximum": 10},
    },
}


def slots_loop(assistant_loop, said, schema=TIMER, **settings):
    """A model that fills in the record at once; `dictated` writes down first."""
    settings = {"grounded": False, "schema": schema, **settings}
    return assistant_loop(words=[json.dumps(said)], profile="slots", settings={"slot-filling": settings})


@pytest.mark.parametrize(
    ("kind", "said", "value"),
    [
        ("number", "twenty five percent", 25),
        ("number", "minus two point five", -2.5),
        ("number", "blue", None),
        ("integer", "a hundred and five", 105),
        ("integer", "two point five", None),
        ("duration", "five minutes and ten seconds", "PT5M10S"),
        ("duration", "an hour and a half", "PT1H30M"),
        ("duration", "two and a half hours", "PT2H30M"),
        ("duration", "half an hour", "PT30M"),
        ("duration", "a second", "PT1S"),
        ("duration", "one minute and one second", "PT1M1S"),
        ("duration", "later", None),
        ("time", "half past seven in the evening", "19:30"),
        ("time", "quarter to nine", "08:45"),
        ("time", "seven thirty p m", "19:30"),
        ("time", "ten oh five", "10:05"),
        ("time", "twelve a m", "00:00"),
        ("time", "noon", "12:00"),
        ("time", "five to one in the afternoon", "12:55"),
        ("time", "five to one", "12:55"),
        ("time", "ninety", None),
        ("date", "tomorrow", (date.today() + timedelta(1)).isoformat()),
        ("date", "purple", None),
        ("date_time", "tomorrow at noon", f"{date.today() + timedelta(1)}T12:00"),
        ("date_time", "tomorrow", None),
    ],
)
def test_words_become_values(kind, said, value):
    assert getattr(slot_values, kind)(said) == value


def test_a_weekday_is_the_next_one():
    day = date.fromisoformat(slot_values.date("on friday"))
    assert (day.weekday(), day >= date.today()) == (4, True)


def test_only_records_of_the_schema_can_be_generated():
    pattern = Schema.model_validate(TIMER).pattern
    good = '{"duration": "five minutes", "room": "hall", "level": "twenty five"}'
    assert regex.fullmatch(pattern, good)
    assert regex.fullmatch(pattern, good[:40], partial=True)
    for bad in (good.replace("hall", "attic"), good.replace("twenty five", "loud"), good.replace("duration", "time")):
        assert not regex.fullmatch(pattern, bad)


def quoting(schema, words):
    return Schema.model_validate(schema).quoting.replace(WORDS_HERE, quotable(words))


def test_a_text_can_only_be_a_quote_of_what_was_written_down():
    pattern = quoting({"artist": "text", "volume": "integer"}, 'play "sigur ros" at seven')
    assert regex.fullmatch(pattern, '{"artist": "sigur ros", "volume": 7}')
    assert regex.fullmatch(pattern, '{"artist": null, "volume": null}')
    assert not regex.fullmatch(pattern, '{"artist": "the beatles", "volume": 7}')
    assert not regex.fullmatch(pattern, '{"artist": "sigur ro", "volume": 7}')


def test_a_long_quote_is_a_value_like_any_other(assistant_loop):
    title = "a dictionary of slang and unconventional english"
    loop = assistant_loop(profile="slots", settings={"slot-filling": {"schema": {"book": "text"}}})
    loop.turns.core = dictated(f"find me {title}", {"book": title})
    assert loop.hear(1.0).slots == {"book": title}


def test_allowed_values_are_listened_for(assistant_loop):
    loop = slots_loop(assistant_loop, {"duration": None, "room": "hall", "level": None}, grounded=True)
    assert loop.hear(1.0).slots["room"] == "hall"
    settings = loop.turns.core.asked[0].settings
    assert settings.spot == {"room": ("kitchen", "hall")}
    assert '"room": <Said:room>' in settings.pattern


def test_of_silence_nothing_can_be_quoted():
    pattern = quoting({"artist": "text"}, "")
    assert regex.fullmatch(pattern, '{"artist": null}')
    assert not regex.fullmatch(pattern, '{"artist": ""}')


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        (TIMER | {"required": ["where"]}, "'where' is no property"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "schema.properties.a.type"),
        ({"type": "object", "properties": {"a": {"fromat": "date"}}}, "schema.properties.a.fromat"),
        ({"a": "moment"}, "'moment' is no type"),
    ],
)
def test_a_schema_that_cannot_be_filled_says_where_and_why(schema, complaint):
    profile = load("default").model_copy(update={"plugins": {"slot-filling": {"schema": schema}}})
    (mistake,) = PluginHost(profile, lambda name, message: None).mistakes
    assert complaint in mistake


def test_a_whole_record_is_emitted_typed(assistant_loop):
    heard = slots_loop(assistant_loop, {"duration": "five minutes", "room": "hall", "level": "seven"}).hear(1.0)
    assert heard.records == [{"name": "record", "duration": "PT5M", "room": "hall", "level": 7}]
    assert heard.slots == {"duration": "PT5M", "room": "hall", "level": 7}


def test_a_value_out_of_range_is_none(assistant_loop):
    heard = slots_loop(assistant_loop, {"duration": "a minute", "room": "hall", "level": 70}).hear(1.0)
    assert heard.slots["level"] is None


def test_a_missing_value_is_asked_for_and_the_next_window_completes_the_record(assistant_loop):
    loop = slots_loop(assistant_loop, {"duration": None, "room": "hall", "level": 7})
    first = loop.hear(1.0)
    assert (first.actions, first.records) == ((Show("For how long?"),), [])
    loop.core.words = ['{"duration": "ten minutes"}']
    second = loop.hear(1.0)
    assert "Fields: duration." in second.prompt.instruction
    assert second.records == [{"name": "record", "duration": "PT10M", "room": "hall", "level": 7}]


def test_a_question_that_is_not_answered_is_dropped(assistant_loop):
    loop = slots_loop(assistant_loop, {"duration": None, "room": "hall", "level": None})
    loop.hear(1.0)
    loop.core.words = ['{"duration": null}']
    assert loop.hear(1.0).actions == ()
    assert "duration; room; level" in loop.hear(1.0).prompt.instruction


def test_a_question_stays_open_for_its_time_only(assistant_loop):
    loop = slots_loop(assistant_loop, {"duration": None, "room": "hall", "level": None}, wait_s=2)
    loop.hear(1.0)
    loop.hear(4.0, skill="describe")
    assert "duration; room; level" in loop.hear(1.0).prompt.instruction


def test_records_are_appended_as_lines_of_json(assistant_loop, tmp_path):
    loop = slots_loop(assistant_loop, {"duration": "a minute", "room": "hall", "level": None}, jsonl="home.jsonl")
    assert any(isinstance(action, Write) for action in loop.hear(1.0).actions)
    loop.hear(1.0)
    lines = (tmp_path / "data" / "home.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"duration": "PT1M", "room": "hall", "level": None}] * 2


@pytest.fixture
def webhook():
    """A server on this machine that keeps what it is sent; `/away` sends the caller somewhere else."""
    taken = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(302 if self.path == "/away" else 204)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    server.server_close()


FULL = {"duration": "a minute", "room": "hall", "level": None}


def test_a_record_is_posted_to_a_local_webhook(assistant_loop, webhook):
    address, taken = webhook
    heard = slots_loop(assistant_loop, FULL, webhook=f"{address}/x").hear(1.0)
    assert taken == [{"duration": "PT1M", "room": "hall", "level": None}]
    assert (len(heard.actions), heard.errors) == (1, [])


@pytest.mark.parametrize("port", ["away", "closed"])
def test_a_webhook_that_fails_is_told_and_the_record_stays(assistant_loop, webhook, port):
    address = f"{webhook[0]}/away" if port == "away" else "http://127.0.0.1:9/"
    heard = slots_loop(assistant_loop, FULL, webhook=address).hear(1.0)
    assert "did not take the record" in heard.actions[1].text
    assert (len(heard.records), heard.errors) == (1, [])


def test_a_webhook_elsewhere_must_be_allowed():
    def mistakes(**settings):
        given = {"slot-filling": {"webhook": "https://example.org/x", **settings}}
        return PluginHost(load("default").model_copy(update={"plugins": given}), lambda name, message: None).mistakes

    assert "add its host to `hosts`" in mistakes()[0]
    assert mistakes(hosts=["example.org"]) == []


def dictated(transcript, record):
    """A model that writes down one thing and fills in another."""
    core = FakeCore(json.dumps(record))
    core.written = transcript
    return core


def test_the_home_profile_makes_a_timer_of_what_was_heard(assistant_loop):
    said = dict.fromkeys(load("home").plugins["slot-filling"]["schema"]["properties"])
    loop = assistant_loop(profile="home")
    loop.turns.core = dictated("set a timer for ten minutes", said | {"device type": "timer", "house place": "attic"})
    heard = loop.hear(1.0)
    assert heard.response.words == "set a timer for ten minutes"
    assert heard.records[0] == {"name": "home"} | said | {"device type": "timer", "duration": "PT10M"}
    assert loop.turns.core.encoded == 1


@pytest.mark.parametrize(
    ("field", "filled", "transcript", "kept"),
    [
        (Property(), "milk", "note to buy milk", "milk"),
        (Property(), "bread", "note to buy milk", None),
        (Property(), "il", "note to buy milk", None),
        (Property(), "two eggs", "buy 2 eggs", "two eggs"),
        (Property(enum=("kitchen", "lights")), "kitchen", "the kichen", "kitchen"),  # the model has listened for it
        (Property(format="time"), "seven", "wake me at seven thirty p m", "19:30"),
        (Property(format="time"), "eight", "from seven p m to eight p m", "20:00"),
        (Property(format="time"), "seven", "wake me at ten minutes", None),
        (Property(format="time"), "five", "set a timer for five minutes", None),
        (Property(format="time"), "ten", "in five minutes at ten", "10:00"),
        (Property(format="time"), "seven", "a table for seven a clock in the evening", "19:00"),
        (Property(type="integer"), "four", "a table at four clock", None),
        (Property(format="duration"), None, "five minutes and ten seconds", "PT5M10S"),
        (Property(format="date"), "april", "what day is the first of april", "04-01"),
        (Property(format="date"), "friday", "what may I do", None),
        (Property(type="integer"), "twenty", "turn it to fifty percent", 50),
        (Property(type="integer"), None, "turn it to fifty percent", None),
        (Property(type="integer"), "ten", "in ten minutes", None),
        (Property(type="boolean"), True, "turn it on", True),
    ],
)
def test_a_value_counts_only_if_it_was_heard(field, filled, transcript, kept):
    said = slot_heard.heard({"x": filled}, {"x": field}, transcript)["x"]
    value = field.value(said)
    assert value == kept or (field.format == "date" and kept and value.endswith(kept))


def test_each_window_is_written_down_anew(assistant_loop):
    loop = assistant_loop(profile="slots", settings={"slot-filling": {"schema": {"who": "text"}}})
    loop.turns.core = dictated("call anna", {"who": "anna"})
    assert loop.hear(1.0).slots == {"who": "anna"}
    loop.turns.core = dictated("call bob", {"who": "anna"})
    assert loop.hear(1.0).slots == {"who": None}
