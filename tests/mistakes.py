"""Mistakes of a first project, each with the place and the words that must be reported."""

from typing import NamedTuple

from tests.project import DEFINITIONS_FILE, MODEL_FILE, STORE_FILE, TRAINING_FILE


class Mistake(NamedTuple):
    """One change of the sound project of `tests.project`."""

    name: str
    file: str
    old: str
    new: str
    """Put in place of ``old``."""
    at: str
    """The report's position is where this text first begins in the changed file; empty: line 1, column 1."""
    says: str
    """Part of the report."""


def _model(name: str, old: str, new: str, at: str, says: str) -> Mistake:
    return Mistake(name, MODEL_FILE, old, new, at, says)


def _training(name: str, old: str, new: str, at: str, says: str) -> Mistake:
    return Mistake(name, TRAINING_FILE, old, new, at, says)


def _features(name: str, old: str, new: str, at: str, says: str) -> Mistake:
    return Mistake(name, DEFINITIONS_FILE, old, new, at, says)


def _store(name: str, old: str, new: str, at: str, says: str) -> Mistake:
    return Mistake(name, STORE_FILE, old, new, at, says)


USER = "  key: user\n  schema:\n    payment_id: string\n    paid_at: timestamp\n    user: string\n"
IN_MODEL = (
    _model("section", "monitoring:", "monitering:", "monitering", "did you mean monitoring?"),
    _model("key", "psi_threshold", "psi_treshold", "psi_treshold", "did you mean psi_threshold?"),
    _model("task", "task: binary", "task: classification", "task:", "'binary'"),
    _model("folder", "name: fraud", "name: frauds", "name:", "rename"),
    _model("owner", "owner: payments@example.org\n", "", "", "owner"),
    _model("tab", "  topic: payments", "\ttopic: payments", "\ttopic", "cannot start any token"),
    _model(
        "indentation",
        "  id: payment_id",
        "   id: payment_id",
        ": payment_id\n  event",
        "mapping values are not allowed",
    ),
    _model("repeated key", "threshold: 0.7", "task: binary", "task: binary\nrequest", "duplicate key"),
    _model("topic with a space", "topic: payments", "topic: payments x", "topic: payments x", "'payments x'"),
    _model("topic with a slash", "topic: chargebacks", "topic: eu/back", "topic: eu/back", "'eu/back'"),
    _model("own topic", "topic: payments", "topic: driftline.in", "topic: driftline.in", "driftline."),
    _model(
        "id",
        "  id: payment_id\n  event_time: paid_at",
        "  id: payment\n  event_time: paid_at",
        "id: payment\n",
        "did you mean payment_id?",
    ),
    _model("event time", "event_time: known_at", "event_time: fraud", "event_time: fraud", "timestamp"),
    _model("field type", "amount: float", "amount: double", "amount: double", "known are string"),
    _model("date type", "paid_at: timestamp", "paid_at: datetime", "paid_at: datetime", "timestamp"),
    _model("request key", "key: user", "key: usr", "key: usr", "did you mean user?"),
    _model("service", "service: fraud", "service: fraudx", "service: fraudx", "did you mean fraud?"),
    _model(
        "input", "[amount, device, country]", "[amuont, device, country]", "amuont", "did you mean amount?"
    ),
    _model(
        "join key",
        USER,
        USER.replace("  key: user\n", "").replace("user", "usr"),
        "schema:",
        "did you mean usr?",
    ),
    _model("join key type", "    user: string\n", "    user: int\n", "user: int", "declare it as string"),
    _model("fill", "fill: {country:", "fill: {contry:", "contry", "did you mean country?"),
    _model("fill value", "{country: unknown}", "{age: unknown}", "age: unknown", "not a number"),
    _model("label value", "value: fraud", "value: fruad", "value: fruad", "did you mean fraud?"),
    _model("label text", "value: fraud", "value: reason", "value: reason", "string"),
    _model("label bound", "  positive_above: 0\n", "", "label:", "label.positive_above"),
    _model("horizon", "horizon_hours: 480", "horizon_hours: 20d", "horizon_hours", "number"),
    _model("segment", "segments: [device]", "segments: [devise]", "devise]", "did you mean device?"),
    _model("quality", "    amount: {min", "    amuont: {min", "amuont", "did you mean amount?"),
    _model("quality bounds", "max: 100000", "max: -1", "min: 0, max", "above max"),
    _model("season", "spent_1h: [hour]", "spent_1h: [hours]", "hours]", "'hour'"),
    _model("detector", "[adwin]", "[adwn]", "adwn", "'adwin'"),
    _model("costs", "    1: {0: 2, 1: 0}\n", "    1: {0: 2}\n", "1: {0: 2", "cost for each pair"),
    _model("metric", "metric: log_loss", "metric: average_precision", "metric:", "log_loss"),
    _model(
        "limit",
        "average_precision: {min",
        "avrage_precision: {min",
        "avrage",
        "did you mean average_precision?",
    ),
    _model("fairness", "groups: [country]", "groups: [contry]", "contry", "did you mean country?"),
    _model("latency", "within_ms: 250", "within_ms: 300", "within_ms", "250"),
    _model("share", "share: 5%", "share: 5", "share: 5}", "5%"),
    _model("order of steps", "share: 25%", "share: 2%", "steps:", "must rise"),
    _model("shadow's name", "as_shadow: first", "as_shadow: champion", "keep_first", "champion"),
    _model("alert kind", "kinds: [loss]", "kinds: [lost]", "lost", "did you mean loss?"),
    _model("alert segment", "device=phone", "devise=phone", "devise=phone", "did you mean device?"),
    _model("risk", "risk: limited", "risk: low", "risk:", "'minimal'"),
    _model(
        "approval",
        "    - {share: shadow}\n    - {share: 5%}\n    - {share: 25%}\n",
        "    []\n",
        "approval:",
        "rollout.steps",
    ),
    _model(
        "two ways to learn", "gates:\n", "learning: {}\ngates:\n", "learning:", "remove learning or gates"
    ),
)
"""In model.yaml."""
IN_TRAINING = (
    _training("syntax", "-> Any:\n    codes", "-> Any\n    codes", "\n    codes", "expected ':'"),
    _training("function", "def estimator(", "def estimater(", "def estimater", "did you mean estimator?"),
    _training(
        "signature", "(categorical: list[str], numeric: list[str])", "()", "def estimator", "two arguments"
    ),
    _training("search", "def search_space(", "def space(", "", "search_space(trial)"),
    _training("package", "from sklearn.pipeline", "from sklern.pipeline", "from sklern", "sklern"),
    _training(
        "name of a class",
        "import HistGradientBoostingClassifier",
        "import HistGradientBostingClassifier",
        "HistGradientBostingClassifier",
        "did you mean HistGradientBoostingClassifier?",
    ),
)
"""In training.py."""
IN_FEATURES = (
    _features(
        "syntax",
        "entities=[user],\n    source=payments",
        "entities=[user]\n    source=payments",
        "[user]\n",
        "Perhaps you forgot a comma?",
    ),
    _features(
        "undefined name",
        "dtype=Int64),\n    ],\n    enable",
        "dtype=Integer),\n    ],\n    enable",
        "Integer",
        "'Integer' is not defined",
    ),
    _features(
        "name of a class",
        "StreamFeatureView, ValueType",
        "StreamFeatureVeiw, ValueType",
        "from feast import StreamFeatureVeiw",
        "StreamFeatureVeiw",
    ),
    _features("package", "from feast.types import", "from feest.types import", "from feest", "feest"),
    _features("argument", "tiling_hop_size=", "tiling_hop=", "StreamFeatureView(", "tiling_hop"),
    _features("message key", '    tags={"message_key": "user"},\n', "", "payments = ", "message_key"),
    _features(
        "event time",
        'source=payments,\n    timestamp_field="paid_at"',
        'source=payments,\n    timestamp_field="payed_at"',
        '"payed_at"',
        "payed_at",
    ),
    _features("type of a message", "amount double", "amount decimal(10)", "payments = ", "decimal"),
    _features("column", 'Aggregation("amount", "sum"', 'Aggregation("amuont", "sum"', '"amuont"', "'amuont'"),
    _features("function", '"amount", "sum"', '"amount", "median"', '"median"', "'median'"),
    _features("topic", '    topic="payments"', '    topic="pay ments"', '"pay ments"', "'pay ments'"),
    _features("feature", 'name="spent_1h", dtype', 'name="spent_2h", dtype', '"payments_1d"', "spent_2h"),
    _features(
        "type",
        "dtype=Int64),\n    ],\n    enable",
        "dtype=String),\n    ],\n    enable",
        '"amount", "count"',
        "'payments_1d'",
    ),
    _features("entity", 'join_keys=["user"]', 'join_keys=["customer"]', "spending = ", "'customer'"),
    _features("hop", "timedelta(minutes=10)", "timedelta(hours=2)", "StreamFeatureView(", "tiling_hop_size"),
    _features(
        "repeated feature", 'name="age", dtype=Int64', 'name="spent_1h", dtype=Int64', "fraud = ", "spent_1h"
    ),
)
"""In a file of the Feast repository."""
IN_STORE = (
    _store("YAML", "project: payments", "project: [payments", ": local", "expected ','"),
    _store("online store", "type: redis", "type: sqlite", "type: sqlite", "redis"),
    _store("keys", "version: 3", "version: 2", "entity_key", "3"),
    _store("provider", "provider: local", "provider: locale", "provider:", "locale"),
    _store("project", "project: payments\n", "", "", "project"),
)
"""In feature_store.yaml."""
ALL = (*IN_MODEL, *IN_TRAINING, *IN_FEATURES, *IN_STORE)
