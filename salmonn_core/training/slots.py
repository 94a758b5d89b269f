"""Slot-filling examples: fields asked under many names, some with allowed values, some not said at all.

A model that has only met `device_type` fills `device_type`; one that has met it as `appliance` and `device`
too, with and without a list to choose from, has a chance at a schema that it never saw.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

from salmonn_core.prompts import slot_instruction
from salmonn_core.training.corpus import Clip
from salmonn_core.training.texts import plain

DISTRACTORS = 2
RENAMED_SHARE = 0.4
LISTED_SHARE = 0.5  # of the fields that have few values

SLOT_NAMES = tuple(
    name
    for line in (
        "date time person place_name event_name artist city playlist music_item device_type house_place",
        "list_name food_type timeofday currency_name color_type business_name object_name song_name",
        "weather_descriptor relation cuisine party_size_number restaurant_type spatial_relation",
    )
    for name in line.split()
)
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "artist": ("singer", "band", "performer"),
    "artist_name": ("singer", "band"),
    "business_name": ("company", "shop"),
    "city": ("town", "where"),
    "color_type": ("color", "colour"),
    "condition_description": ("weather",),
    "country": ("nation", "which country"),
    "currency_name": ("currency", "money"),
    "date": ("day", "when"),
    "device_type": ("device", "appliance"),
    "event_name": ("event", "appointment"),
    "food_type": ("food", "dish"),
    "game_name": ("game",),
    "genre": ("style", "kind of music"),
    "house_place": ("room", "place in the house"),
    "list_name": ("list", "which list"),
    "movie_name": ("movie", "film"),
    "music_genre": ("style", "genre"),
    "music_item": ("item", "what to play"),
    "object_name": ("title", "name"),
    "object_type": ("type", "what"),
    "order_type": ("how to order", "order"),
    "party_size_number": ("people", "guests", "number of people"),
    "person": ("contact", "name", "who"),
    "place_name": ("place", "location"),
    "playlist": ("playlist name", "which playlist"),
    "rating_value": ("stars", "rating"),
    "relation": ("family member", "who"),
    "restaurant_type": ("kind of restaurant", "venue"),
    "service": ("app", "music service"),
    "spatial_relation": ("how near", "distance"),
    "state": ("region",),
    "time": ("hour", "at what time"),
    "timeRange": ("when", "time"),
    "timeofday": ("part of the day", "when"),
    "transport_type": ("transport", "vehicle"),
    "weather_descriptor": ("weather", "condition"),
}
FEW_VALUES: Mapping[str, tuple[str, ...]] = {
    "color_type": ("red", "green", "blue", "pink", "orange", "yellow", "white"),
    "device_type": ("vacuum", "coffee machine", "wemo plug socket", "robot vacuum", "lights"),
    "house_place": ("kitchen", "bedroom", "living room", "bathroom", "hallway", "garage"),
    "media_type": ("tweet", "facebook", "audiobook", "twitter", "instagram"),
    "music_item": ("song", "tune", "track", "album", "artist"),
    "object_select": ("current", "this", "next", "last", "previous"),
    "order_type": ("takeaway", "delivery", "take out"),
    "party_size_number": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "rating_value": ("zero", "one", "two", "three", "four", "five", "six"),
    "relation": ("mom", "dad", "wife", "family", "boss", "friend"),
    "restaurant_type": ("restaurant", "bar", "pub", "brasserie", "taverna", "bistro"),
    "service": ("google music", "youtube", "itunes", "spotify", "deezer", "last fm"),
    "timeofday": ("morning", "noon", "afternoon", "evening", "tonight"),
    "transport_type": ("train", "taxi", "cab", "bus", "walk"),
}

# Names under which training never asks for these: for measuring a schema that was never seen.
UNSEEN_NAMES: Mapping[str, str] = {
    "color_type": "shade",
    "device_type": "gadget",
    "house_place": "area",
    "media_type": "channel",
    "music_item": "sort of recording",
    "object_select": "which of them",
    "order_type": "way of serving",
    "party_size_number": "seats",
    "rating_value": "mark",
    "relation": "kin",
    "restaurant_type": "eatery",
    "service": "provider",
    "timeofday": "daytime",
    "transport_type": "ride",
}
UNSAID = ("timeofday", "transport_type", "house_place", "color_type")


def unseen_schema(clip: Clip) -> tuple[dict[str, tuple[str, ...]], dict[str, str | None]]:
    """Fields with allowed values under names that training never used, one of them not said, and the true record.

    A manifest may bring its own: `schema` has the allowed values of each field, `slots` those that were said. Empty
    where the clip says nothing that such a field could hold.
    """
    if own := clip.row.get("schema"):
        values = dict(clip.row.get("slots") or ())  # type: ignore[call-overload]
        return {name: tuple(allowed) for name, allowed in own.items()}, {name: values.get(name) for name in own}  # type: ignore[attr-defined]
    said = slot_record(clip, list(FEW_VALUES))
    known = {name: value for name, value in said.items() if value in FEW_VALUES[name]}
    if not known:
        return {}, {}
    absent = next(name for name in UNSAID if said[name] is None)
    fields = {UNSEEN_NAMES[name]: FEW_VALUES[name] for name in [*known, absent]}
    return fields, {UNSEEN_NAMES[name]: value for name, value in known.items()} | {UNSEEN_NAMES[absent]: None}


def slot_record(clip: Clip, names: list[str]) -> dict[str, str | None]:
    """The value of each named slot in this clip's annotation, None where it is not said."""
    slots: list[list[str]] = clip.row.get("slots") or []  # type: ignore[assignment]
    said = {name: plain(value) for name, value in reversed(slots)}  # as it stands in a transcript
    return {name: said.get(name) for name in names}


def slot_example(clip: Clip, rng: random.Random) -> tuple[str, str]:
    """An instruction with this clip's slots and some that were not said, in any order, and the JSON answer."""
    present = sorted({name for name, _ in clip.row["slots"]})  # type: ignore[attr-defined]
    absent = [name for name in SLOT_NAMES if name not in present]
    names = present + rng.sample(absent, rng.randint(0, DISTRACTORS))
    rng.shuffle(names)
    values = slot_record(clip, names)
    fields: dict[str, str] = {}
    record: dict[str, str | None] = {}
    for name in names:
        asked = _asked(name, fields, rng)
        fields[asked] = _listed(name, values[name], rng)
        record[asked] = values[name]
    return slot_instruction(fields), json.dumps(record)


def _asked(name: str, taken: Mapping[str, str], rng: random.Random) -> str:
    other = [o for o in OTHER_NAMES.get(name, ()) if o not in taken]
    return rng.choice(other) if other and rng.random() < RENAMED_SHARE else name.replace("_", " ")


def _listed(name: str, value: str | None, rng: random.Random) -> str:
    """Allowed values as a schema would list them, the true one among them; or nothing."""
    few = FEW_VALUES.get(name, ())
    if len(few) < 2 or rng.random() >= LISTED_SHARE:
        return ""
    chosen = rng.sample(few, rng.randint(2, min(5, len(few))))
    if value is not None and value not in chosen:
        chosen[0] = value
        rng.shuffle(chosen)
    return ", ".join(chosen)
