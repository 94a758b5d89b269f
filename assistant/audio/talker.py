"""Which voiced frames are the talker's own: a detector such as webrtcvad calls babble and music voiced, too.

The level decides. The talker's is followed from syllable to syllable; what goes on behind them is what is heard while
nobody talks and between their syllables. A frame is theirs if it stands out from that, or is nearly as loud as they
are.
"""

from __future__ import annotations

from collections import deque

LOUD_SHARE, STEP_DB = 0.8, 0.4  # so much of what goes on behind is softer than the level that is kept; per frame
START_DBFS, ZEROS_DBFS = -60.0, -90.0
RISE, FALL = 0.3, 0.005  # per frame: how fast the talker's level is followed
GAP_DB = 9.0  # so far below the talker a frame belongs to what goes on behind them
NEAR_DB = 7.0  # and from here on it is theirs, whatever goes on
HANGOVER = 4  # frames; the loudest of them counts
CLEAR_DB = 16.0  # a talker who stands out so far from what goes on behind is heard in every syllable


class Behind:
    """The level that the louder moments of what goes on behind a talker reach: a running quantile."""

    def __init__(self) -> None:
        self.level_dbfs = START_DBFS

    def hear(self, level_dbfs: float) -> None:
        """One frame that is not the talker's."""
        if level_dbfs > ZEROS_DBFS:
            self.level_dbfs += STEP_DB * (LOUD_SHARE if level_dbfs > self.level_dbfs else LOUD_SHARE - 1.0)


class Talker:
    """Whoever speaks in a window.

    Args:
        drop_db: so far below them nothing is theirs.
        over_db: nor what stands out less than this from what goes on behind them.
    """

    def __init__(self, behind: Behind, drop_db: float, over_db: float) -> None:
        self._behind, self._drop_db, self._over_db = behind, drop_db, over_db
        self._level_dbfs = -100.0
        self._recent: deque[float] = deque(maxlen=HANGOVER)

    @property
    def clear(self) -> bool:
        """Whether their pauses are their own, and not syllables that the background has hidden."""
        return self._level_dbfs > self._behind.level_dbfs + CLEAR_DB

    def hear(self, level_dbfs: float, voiced: bool) -> bool:
        """Whether the talker goes on in this frame."""
        self._recent.append(level_dbfs)
        if level_dbfs < self._level_dbfs - GAP_DB:
            self._behind.hear(level_dbfs)
        if not voiced:
            return False
        rate = RISE if level_dbfs > self._level_dbfs else FALL
        self._level_dbfs += rate * (level_dbfs - self._level_dbfs)
        stands_out = min(self._behind.level_dbfs + self._over_db, self._level_dbfs - NEAR_DB)
        return max(self._recent) > max(self._level_dbfs - self._drop_db, stands_out)
