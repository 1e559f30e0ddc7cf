"""A repository, a model and a subject for the tests of erasures."""

from services.feature_store.plan import Column, FeaturePlan, StreamSource, ValueType, View, ViewKind
from services.operations.erasure import subject
from services.operations.erasure.record_matcher import RecordMatcher
from services.operations.erasure.subject import Subject
from services.runtime.declaration import ModelDeclaration
from streams import codec

FIELDS = codec.parse_ddl("user string not null, shop string, event_time timestamp not null")
SOURCE = StreamSource("clicks", "event_time", FIELDS, ("user",), 0)
OTHER = StreamSource("weather", "event_time", codec.parse_ddl("event_time timestamp not null"), (), 0)
USER, DESK, SHOP = (
    Column("user", ValueType.STRING),
    Column("desk", ValueType.INT32),
    Column("shop", ValueType.STRING),
)


def view(name: str, *keys: Column, source: StreamSource | None = SOURCE) -> View:
    kind = ViewKind.LATEST if source else ViewKind.BATCH
    return View(name, kind, keys, (Column("x", ValueType.DOUBLE),), 0, source)


PLAN = FeaturePlan(
    "shops",
    (
        view("by_user", USER),
        view("by_shop_user", SHOP, USER),
        view("by_shop", SHOP),
        view("by_desk", DESK, source=None),
        view("skies", source=OTHER),
    ),
    {},
    entities={"customer": ("user",), "desk": ("desk",), "shop": ("shop",)},
)
MODELS = {
    name: ModelDeclaration.model_validate(
        {
            "name": name,
            "owner": "o",
            "task": "regression",
            "request": {
                "topic": f"{name}.asked",
                "id": "ride",
                "event_time": "at",
                "schema": {"ride": "string", "at": "timestamp", "km": "float", **fields},
            },
            "features": {"from_request": ["km"]},
            "label": {
                "topic": f"{name}.tips",
                "id": "ride",
                "event_time": "at",
                "value": "tip",
                "horizon_hours": 1,
                "schema": {"ride": "string", "at": "timestamp", "tip": "float"},
            },
        }
    )
    for name, fields in (("tips", {"user": "string"}), ("rain", {}))
}


def of(*words: str) -> Subject:
    return subject.of(PLAN, words)


def matcher(*words: str) -> RecordMatcher:
    return RecordMatcher(of(*words), PLAN, MODELS)
