"""Answers the question that is asked aloud."""

from assistant import Skill, hookimpl


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="spoken-qa",
            description="Answers the spoken question",
            instruction="Answer the spoken question.",
            kinds=frozenset({"speech"}),
            settings={"max_new_tokens": 80, "repetition_penalty": 1.1},
        )
    ]
