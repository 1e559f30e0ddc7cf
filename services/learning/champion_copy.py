"""A copy of a champion that no later version replaces, before its key in the topic is used again.

A version is overwritten `learned_versions.KEYS` versions later. Usually a later one is the champion by then,
but not if versions fail their gate, or an operator's rollback holds.
"""

from collections.abc import Callable

import structlog

from services.learning.arms_update import VERSIONS_BEHIND_MAX, Announcement
from services.model_registry import learned_versions, traffic_split
from services.runtime.large_records import LargeRecordWriter
from streams import records
from streams.records import LearnedModel, ModelChanged

_log = structlog.get_logger()
FindVersion = Callable[[str, int], LearnedModel | None]
"""Returns a published version of a model; None if there is none any more. It blocks."""


class ChampionCopies:
    """Copies the champions of several models. A restarted process copies them again."""

    def __init__(self, find: FindVersion, writer: LargeRecordWriter) -> None:
        """Take the topic."""
        self._find, self._writer = find, writer
        self._copied: dict[str, int] = {}

    def copy(self, model: str, newest: Announcement, latest: ModelChanged | None) -> None:
        """Copy the champion if it is old, and return when the copy is written; call it before a version is.

        Args:
            model: Its name.
            newest: The newest version.
            latest: The latest change of the arms.
        """
        arms = [] if latest is None else latest.arms
        champion = traffic_split.champion_version(arms, newest.interval_end_ms)
        if champion is None or champion >= newest.version - VERSIONS_BEHIND_MAX:
            return
        if self._copied.get(model) == champion:
            return
        found = self._find(model, champion)
        if found is None:
            _log.error(
                "learning.champion_lost",
                model=model,
                version=champion,
                remedy=f"choose a later version with 'driftline models champion {model}'",
            )
        else:
            self._writer.put(learned_versions.champion_key(model), records.encode(found))
        self._copied[model] = champion
