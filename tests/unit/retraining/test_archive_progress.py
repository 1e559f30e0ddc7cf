"""A training set is read when the archive holds the records of its request."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from services.retraining import archive_progress
from services.retraining.errors import ArchiveBehindError
from services.runtime.settings import Settings
from streams import topics
from tests.unit.retraining.archived_rows import MODEL, archive, prediction
from tests.unit.retraining.training_data import request


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_archive_that_is_behind_is_named_with_what_it_lacks(settings: Settings):
    archive(settings, [prediction("a", 10, [1, "UA"])], [])

    with pytest.raises(ArchiveBehindError, match=r"predictions\.arrival_delay/1 from offset 0 to 4"):
        archive_progress.wait_for_archive(settings, MODEL, {topics.predictions(MODEL): [1, 4]}, seconds_max=0)


def test_archive_that_holds_all_is_not_waited_for(settings: Settings):
    archive(settings, [prediction("a", 10, [1, "UA"])], [])

    archive_progress.wait_for_archive(settings, MODEL, {topics.predictions(MODEL): [1]}, seconds_max=0)


def test_request_without_offsets_wants_the_ends():
    ends = {topics.predictions(MODEL): [1], topics.outcomes(MODEL): []}

    assert archive_progress.wanted_offsets(request(), lambda _: ends) == ends


def test_request_wants_its_own_offsets_of_what_is_archived():
    asked = replace(request(), offsets={topics.predictions(MODEL): [1, 4], "others": [9]})

    assert archive_progress.wanted_offsets(asked, lambda _: {}) == {topics.predictions(MODEL): [1, 4]}
