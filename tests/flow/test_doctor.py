"""`driftline doctor` looks at real servers."""

from services.feature_store import repository
from services.operations.diagnoses import diagnosed
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics


def test_what_setup_makes_is_missed_until_it_is_there(settings: Settings) -> None:
    before = {each.name: each for each in diagnosed(settings)}
    assert [name for name, each in before.items() if not each.is_well] == ["topics"]
    assert before["topics"].fix == "driftline setup"
    plan = repository.apply(settings)
    views = [view.name for view in plan.views if view.is_repartitioned]
    ensure_topics(settings, load_all(settings.models), list(plan.by_topic()), views)
    assert all(each.is_well for each in diagnosed(settings))
