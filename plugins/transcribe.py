"""Writes down what is said."""

from assistant import Skill, hookimpl


@hookimpl
def register_skills() -> list[Skill]:
    return [
        Skill(
            name="transcribe",
            description="Writes down what is said",
            instruction="Transcribe the speech.",
            kinds=frozenset({"speech"}),
            settings={"max_new_tokens": 120, "repetition_penalty": 1.05},
        )
    ]
