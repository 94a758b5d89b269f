"""SVG pictures of the screen, compared with those in `tests/snapshots/`; `UPDATE_SNAPSHOTS=1 pytest` writes them anew.

What Textual itself makes different every time, or with every release, is normalised: the ids of the picture's classes.
Colours and layout are compared as well where the picture was made by the same release of Textual; otherwise the words
and where they stand are.
"""

import difflib
import html
import os
import re
from pathlib import Path

import textual

FOLDER = Path(__file__).with_name("snapshots")
MADE_BY = f"<!-- made by Textual {textual.__version__} -->\n"


def check(app, name, tmp_path):
    """Fails with a diff of the words, and says where the new picture is."""
    now = MADE_BY + normalised(app.export_screenshot(title="assistant", simplify=True))
    kept = FOLDER / f"{name}.svg"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        FOLDER.mkdir(exist_ok=True)
        kept.write_text(now, encoding="utf-8")
    before = kept.read_text(encoding="utf-8")
    same = before == now if before.startswith(MADE_BY) else words(before) == words(now)
    if not same:
        (tmp_path / f"{name}.svg").write_text(now, encoding="utf-8")
        changed = "\n".join(difflib.unified_diff(words(before), words(now), "before", "now", lineterm=""))
        raise AssertionError(f"{tmp_path / name}.svg is not {kept}:\n{changed or 'the colours or the layout changed'}")


def normalised(svg):
    return re.sub(r"terminal-\d+", "terminal", svg)


def words(svg):
    """The rows of the screen as text."""
    rows = {}
    for x, y, text in re.findall(r'<text class="[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', svg):
        rows.setdefault(float(y), []).append((float(x), html.unescape(text).replace("\xa0", " ")))
    return [" ".join(text for _, text in sorted(cells)).rstrip() for _, cells in sorted(rows.items())]
