from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from services.runtime import declaration, metrics
from services.runtime.declaration import LATENCY_BOUNDS_MS, ModelDeclaration
from streams.codec import ID_CHARACTERS_MAX, Field, FieldType, InvalidRecordError
from streams.schemas import Encoding
from tests.unit.monitoring.objectives import declaration as slo_declaration

MULTICLASS = {"task": "multiclass", "classes": ["a", "b", "c"]}


def document(**changes: Any) -> dict[str, Any]:
    """Return the content of a model.yaml: a binary model with only the settings that have no default."""
    request = {
        "topic": "orders",
        "id": "id",
        "event_time": "at",
        "schema": {"id": "string", "at": "timestamp", "shop": "string", "amount": "float?"},
    }
    label = {
        "topic": "returns",
        "id": "id",
        "event_time": "at",
        "value": "days",
        "positive_above": 1,
        "horizon_hours": 1.5,
        "schema": {"id": "string", "at": "timestamp", "days": "float"},
    }
    return {
        "name": "returned",
        "owner": "shop@driftline.example",
        "task": "binary",
        "request": request,
        "features": {"from_request": ["shop", "amount"]},
        "label": label,
        **changes,
    }


def part(name: str, **changes: Any) -> dict[str, Any]:
    """Return the document with changes in one of its sections."""
    return document(**{name: {**document()[name], **changes}})


def declared(content: dict[str, Any]) -> ModelDeclaration:
    return ModelDeclaration.model_validate(content)


def faults(content: dict[str, Any]) -> list[str]:
    """Return ``setting: text`` for each error of a document."""
    with pytest.raises(ValidationError) as refused:
        ModelDeclaration.model_validate(content)
    return [
        f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
        for each in refused.value.errors()
    ]


def test_a_short_declaration_gets_the_defaults() -> None:
    model = declared(document())
    assert model.class_names == ("0", "1")
    assert not model.is_retrained
    assert (model.threshold, model.business, model.learning, model.gates) == (0.5, None, None, None)
    assert model.request.encoding is Encoding.JSON
    assert model.monitoring.window_ms == model.monitoring.lateness_ms == 24 * declaration.HOUR_MS
    assert model.monitoring.patience_ms == 10 * declaration.MONTH_MS
    assert model.features.missing.otherwise == "pass"
    assert model.label.horizon_ms == 5_400_000
    assert (model.slo.latency, model.slo.availability, model.slo.accuracy) == (None, None, None)


def test_a_schema_keeps_its_order_and_a_question_mark_allows_null() -> None:
    assert declared(document()).request.fields == (
        Field("id", FieldType.STRING, nullable=False),
        Field("at", FieldType.TIMESTAMP, nullable=False),
        Field("shop", FieldType.STRING, nullable=False),
        Field("amount", FieldType.FLOAT, nullable=True),
    )


def test_an_unknown_type_is_refused_with_those_that_are_known() -> None:
    schema = {"id": "string", "at": "timestamp", "shop": "text?"}
    (fault,) = faults(part("request", schema=schema))
    assert fault.startswith("request.schema: field 'shop' has the type 'text?'; known are ")
    assert all(kind in fault for kind in FieldType)


@pytest.mark.parametrize(
    ("schema", "missing"),
    [
        ({"at": "timestamp", "shop": "string"}, "'id' with the type string"),
        ({"id": "int", "at": "timestamp"}, "'id' with the type string"),
        ({"id": "string?", "at": "timestamp"}, "'id' with the type string"),
        ({"id": "string", "at": "string"}, "'at' with the type timestamp"),
    ],
)
def test_id_and_event_time_are_declared_with_their_types(schema: dict[str, str], missing: str) -> None:
    (fault,) = faults(part("request", schema=schema))
    assert f"the schema must declare {missing}, not nullable" in fault


def test_the_id_assigns_a_request_to_an_arm_unless_a_key_is_declared() -> None:
    assert declared(document()).request.routing_key == "id"
    assert declared(part("request", key="shop")).request.routing_key == "shop"
    assert faults(part("request", key="town")) == [
        "request: key names 'town', which is not a field of the schema; known are id, at, shop, amount"
    ]


def test_only_encodings_of_the_registry_have_an_encoder() -> None:
    assert declared(document()).request.wire_encoder(None) is None
    assert declared(part("request", encoding="avro")).request.wire_encoder(None) is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (part("label", positive_above=None), ": label.positive_above: a binary model needs it"),
        (document(task="multiclass", classes=["a", "b"]), ": classes: a multiclass model needs 3 or more"),
        (document(classes=["a", "b", "c"]), ": classes: a multiclass model needs 3 or more"),
        (
            document(
                task="regression",
                label=document()["label"] | {"positive_above": None},
                slo={"accuracy": {"objective": 0.9}},
            ),
            ": slo.accuracy: not measured for a regression",
        ),
        (
            document(learning={}, gates={"floor": 1}),
            ": learning: a model either learns online or is retrained; remove learning or gates",
        ),
        (document(**MULTICLASS, learning={}), ": learning: only binary models and regressions can learn"),
        (
            part("features", from_request=["town"]),
            ": features.from_request names 'town', which is not a field of request.schema",
        ),
        (part("label", value="weeks"), ": label.value names 'weeks', which is not a field of label.schema"),
        (
            document(monitoring={"quality": {"town": {}}}),
            ": monitoring.quality names 'town', which is not a feature",
        ),
        (
            document(monitoring={"quality": {"shop": {"max": 2}}}),
            ": monitoring.quality.shop: min and max are not possible for a string",
        ),
        (document(features={}), "features: name a Feast FeatureService as service"),
        (
            part("features", missing={"reject": ["shop", "amount"], "fill": {"shop": "x", "amount": 0}}),
            "features.missing: reject and fill both name amount, shop",
        ),
        (
            document(monitoring={"quality": {"amount": {"min": 2, "max": 1}}}),
            "monitoring.quality.amount: min 2.0 is above max 1.0",
        ),
        (
            document(monitoring={"quality": {"amount": {"allowed": ["1"], "max": 1}}}),
            "monitoring.quality.amount: allowed cannot be combined with min or max",
        ),
        (document(retraining={"harm": "cost"}), ": retraining.harm: cost needs a section business"),
        (
            part("label", horizon_hours=0),
            "label.horizon_hours: Input should be greater than or equal to 0",
        ),
        (document(name="Returned"), "name: String should match pattern"),
    ],
)
def test_what_contradicts_itself_is_refused(content: dict[str, Any], fault: str) -> None:
    (found,) = faults(content)
    assert found.startswith(fault)


def test_quality_of_a_feature_service_may_name_any_feature() -> None:
    """The features of a service are known only when Feast is asked."""
    content = document(features={"service": "s"}, monitoring={"quality": {"total": {"min": 0}}})
    assert declared(content).monitoring.quality["total"].min == 0


@pytest.mark.parametrize(
    ("section", "bound", "fault"),
    [
        (
            {"monitoring": {"window_hours": 0.5, "lateness_hours": 200}},
            {"monitoring": {"window_hours": 0.5, "lateness_hours": 200.1}},
            "monitoring: lateness_hours must be at most 400 times window_hours, because",
        ),
        (
            {"learning": {"every_hours": 2, "effective_after_hours": 64}},
            {"learning": {"every_hours": 2, "effective_after_hours": 64.1}},
            "learning: effective_after_hours must be at most 32 times every_hours",
        ),
    ],
)
def test_what_is_kept_for_late_records_and_versions_is_bounded(
    section: dict[str, Any], bound: dict[str, Any], fault: str
) -> None:
    declared(document(**section))
    (found,) = faults(document(**bound))
    assert found.startswith(fault)


def test_costs_may_name_classes_by_number() -> None:
    model = declared(document(business={"unit": "USD", "costs": {0: {0: 0, 1: 5}, 1: {0: -1, 1: 0}}}))
    assert model.business is not None
    assert model.business.costs == {"0": {"0": 0, "1": 5}, "1": {"0": -1, "1": 0}}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"task": "regression", "business": {"unit": "USD"}}, "a regression declares over and under"),
        (
            {"task": "regression", "business": {"unit": "USD", "over": 1, "costs": {"0": {"0": 1}}}},
            "a regression declares over and under",
        ),
        ({"business": {"unit": "USD", "under": 1}}, "over and under are for regressions"),
    ],
)
def test_costs_are_those_of_the_task(changes: dict[str, Any], fault: str) -> None:
    (found,) = faults(document(**changes))
    assert found.startswith(f": business: {fault}")


def test_latency_is_measured_at_a_bound_of_the_histogram_only() -> None:
    for bound_ms in LATENCY_BOUNDS_MS:
        objective = {"objective": 0.9, "within_ms": bound_ms}
        latency = declared(document(slo={"latency": objective})).slo.latency
        assert latency is not None
        assert (latency.within_ms, latency.window_ms) == (bound_ms, 28 * declaration.DAY_MS)
    (fault,) = faults(document(slo={"latency": {"objective": 0.9, "within_ms": 7}}))
    assert fault == (
        "slo.latency: within_ms: must be one of 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000"
    )


def test_an_unknown_kind_of_alert_is_refused_with_those_that_are_known() -> None:
    content = document(alerts={"routes": [{"to": "team", "kinds": ["rollout", "weather"]}]})
    (fault,) = faults(content)
    assert fault.startswith("alerts.routes.0.kinds.1: 'weather' is not a kind of alert; known are ")
    assert fault.endswith("retraining, rollout")


def test_models_that_learn_are_selected_in_their_order() -> None:
    learns = declared(document(learning={}))
    models = {"b": learns, "a": declared(document()), "c": learns}
    assert list(declaration.learning_models(models)) == ["b", "c"]


def test_bounds_of_latency_are_those_of_the_histogram():
    """Else the share within a bound could not be read off."""
    (family,) = metrics.PREDICTION_DURATION.labels("m", "rest").collect()
    bounds = [float(sample.labels["le"]) for sample in family.samples if sample.name.endswith("_bucket")]
    assert [bound * 1000 for bound in bounds[:-1]] == list(LATENCY_BOUNDS_MS)
    with pytest.raises(ValidationError, match="within_ms: must be one of 1, "):
        slo_declaration(latency={"objective": 0.9, "within_ms": 200})


def test_an_id_has_a_maximum_length_in_requests_and_labels_over_http_and_from_kafka():
    declared = slo_declaration()
    for part in (declared.request, declared.label):
        row = {field.name: _SOME_VALUES[field.type] for field in part.fields}
        for decoder in (part.decoder(), part.wire_decoder(None)):
            assert decoder.decode(msgspec.json.encode(row | {part.id: "x" * ID_CHARACTERS_MAX}))
            with pytest.raises(
                InvalidRecordError, match=rf"length <= {ID_CHARACTERS_MAX} - at `\$.{part.id}`"
            ):
                decoder.decode(msgspec.json.encode(row | {part.id: "x" * (ID_CHARACTERS_MAX + 1)}))


_SOME_VALUES: dict[FieldType, Any] = {
    FieldType.STRING: "a",
    FieldType.INT: 1,
    FieldType.FLOAT: 1.0,
    FieldType.BOOL: True,
    FieldType.TIMESTAMP: "2013-07-01T16:05:00Z",
}


@pytest.mark.parametrize("topic", ["payments x", "", ".", "a" * 250, "täglich"])
def test_a_topic_must_have_a_name_that_kafka_takes(topic: str) -> None:
    with pytest.raises(ValidationError, match="is not a valid topic name"):
        ModelDeclaration.model_validate(document(request=document()["request"] | {"topic": topic}))


@pytest.mark.parametrize("section", ["request", "label"])
def test_a_topic_of_driftline_is_none_of_an_application(section: str) -> None:
    """A process that read what it writes would never come to the end."""
    changed = document()[section] | {"topic": "driftline.dead-letters"}
    with pytest.raises(ValidationError, match=f"{section}.topic\n.*write requests and labels to another"):
        ModelDeclaration.model_validate(document(**{section: changed}))


@pytest.mark.parametrize(
    ("kind", "task", "is_valid"),
    [
        ("string", {}, False),
        ("timestamp", {}, False),
        ("bool", {}, True),
        ("string", {"task": "regression"}, False),
        ("int", {"task": "regression"}, True),
        ("string", MULTICLASS, True),
        ("timestamp", MULTICLASS, False),
    ],
)
def test_the_label_has_a_type_that_its_task_can_read(
    kind: str, task: dict[str, Any], *, is_valid: bool
) -> None:
    label = document()["label"] | {"schema": {"id": "string", "at": "timestamp", "days": kind}}
    if task:
        del label["positive_above"]
    declared = document(label=label, **task)
    if is_valid:
        ModelDeclaration.model_validate(declared)
        return
    with pytest.raises(ValidationError, match=f"label.value names 'days', a {kind}"):
        ModelDeclaration.model_validate(declared)


@pytest.mark.parametrize("fill", [{"amount": "abc"}, {"shop": 1.0}])
def test_a_missing_field_is_filled_with_its_type(fill: dict[str, Any]) -> None:
    features = {"from_request": ["shop", "amount"], "missing": {"fill": fill}}
    with pytest.raises(
        ValidationError, match=r"features.missing.fill.(amount|shop): .* is not a (float|string)"
    ):
        ModelDeclaration.model_validate(document(features=features))


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_no_setting_is_infinite_or_no_number(number: float) -> None:
    for monitoring in ({"psi_threshold": number}, {"quality": {"amount": {"max": number}}}):
        with pytest.raises(ValidationError, match="finite number"):
            ModelDeclaration.model_validate(document(monitoring=monitoring))


def test_a_feature_is_named_once() -> None:
    with pytest.raises(ValidationError, match="names a field twice"):
        ModelDeclaration.model_validate(document(features={"from_request": ["shop", "shop"]}))


@pytest.mark.parametrize(
    "content",
    [
        document(monitoring={"window_hours": 1e-7}),
        document(monitoring={"block_hours": 1e-7}),
        document(monitoring={"loss_block_hours": 1e-7}),
        document(learning={"every_hours": 1e-7, "effective_after_hours": 0}),
    ],
)
def test_a_window_is_a_second_long_at_least(content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="_hours"):
        declared(content)


@pytest.mark.parametrize(
    ("gates", "fault"),
    [
        ({}, "gates: give floor or limits: without a champion they alone decide"),
        (
            {"floor": 1, "metric": "rmse"},
            ": gates.metric: 'rmse' is no loss of a binary model; known: log_loss",
        ),
        (
            {"limits": {"r2": {"min": 0}}},
            ": gates.limits: 'r2' is no measure of a binary model; known are log_loss",
        ),
        ({"limits": {"auc": {}}}, "gates.limits.auc: give min, max or both"),
        ({"limits": {"auc": {"min": 0.9, "max": 0.1}}}, "gates.limits.auc: min 0.9 is above max 0.1"),
        ({"floor": 1, "metric": "cost"}, ": gates: cost needs a section business that declares the costs"),
        ({"floor": 1, "segments": {}}, ": gates.segments: name the features in monitoring.segments"),
        (
            {"floor": 1, "fairness": {"groups": ["town"]}},
            ": gates.fairness.groups names 'town', which is not",
        ),
        (
            {"floor": 1, "fairness": {"groups": []}},
            "gates.fairness.groups: Tuple should have at least 1 item",
        ),
        ({"floor": 1, "alpha": 0.5}, "gates.alpha: Input should be less than or equal to 0.25"),
        ({"floor": 1, "undecided": "maybe"}, "gates.undecided: Input should be 'refuse' or 'accept'"),
    ],
)
def test_gates_that_do_not_fit_are_refused(gates: dict[str, Any], fault: str) -> None:
    (found,) = faults(document(gates=gates))
    assert found.startswith(fault)


def test_gates_of_a_regression_have_its_own_losses_and_measures() -> None:
    label = document()["label"] | {"positive_above": None}
    model = declared(document(task="regression", label=label, gates={"limits": {"rmse": {"max": 3}}}))
    assert model.gates is not None
    assert model.gates.metric_of(model.task) == "absolute_error"
    for section in ("fairness", "calibration"):
        gates = {"floor": 1, section: {"groups": ["shop"]} if section == "fairness" else {}}
        (fault,) = faults(document(task="regression", label=label, gates=gates))
        assert fault.startswith(f": gates.{section}: ")


def test_gates_of_former_files_keep_their_meaning() -> None:
    gates = declared(document(gates={"metric": "log_loss", "floor": 0.75, "margin": -0.002})).gates
    assert gates is not None
    assert (gates.metric, gates.floor, gates.margin, gates.limits) == ("log_loss", 0.75, -0.002, {})


def rollout(**settings: Any) -> dict[str, Any]:
    steps = [{"share": "shadow"}, {"share": "1%"}, {"share": "25%"}]
    return document(rollout={"steps": steps, "guardrails": {"loss": {"margin": 0.02}}, **settings})


def test_share_of_a_step_is_a_shadow_or_a_percentage() -> None:
    found = declared(rollout(steps=[{"share": "shadow"}, {"share": "0.05%"}, {"share": "100%"}])).rollout
    assert [step.share for step in found.steps] == [0, 5, 10_000]
    assert type(found).model_validate_json(found.model_dump_json()) == found
    assert [step.is_shadow for step in found.steps] == [True, False, False]
    assert [step.is_whole for step in found.steps] == [False, False, True]
    for share in ("5", 5, "0%", "101%", "5.123%"):
        assert "is not a share" in faults(rollout(steps=[{"share": share}]))[0]


def test_shares_rise_from_step_to_step() -> None:
    for shares in (["5%", "5%"], ["25%", "5%"], ["5%", "shadow"]):
        fault = faults(rollout(steps=[{"share": share} for share in shares]))
        assert fault == [
            "rollout: steps: the share must rise from step to step; a shadow can only be the first"
        ]


def test_shadow_and_last_step_ask_for_the_margins_unless_declared_otherwise() -> None:
    found = declared(rollout()).rollout
    assert [found.passed_when(number) for number in range(3)] == [
        "within_margin",
        "not_worse",
        "within_margin",
    ]
    steps = [{"share": "5%", "passed_when": "within_margin"}, {"share": "25%", "passed_when": "not_worse"}]
    found = declared(rollout(steps=steps)).rollout
    assert [found.passed_when(number) for number in range(2)] == ["within_margin", "not_worse"]


def test_alpha_is_shared_by_all_guardrails_and_the_shares_in_all_steps() -> None:
    assert declared(rollout()).rollout.tests == 3 * (3 + 1)
    assert declared(document()).rollout.tests == 1


def test_label_counts_at_the_horizon_at_the_latest() -> None:
    assert declared(rollout()).rollout.label_ms(5_400_000) == 5_400_000
    assert declared(rollout(label_hours=0.5)).rollout.label_ms(5_400_000) == 1_800_000
    assert declared(rollout(label_hours=9)).rollout.label_ms(5_400_000) == 5_400_000


def test_rollout_that_cannot_be_judged_is_refused() -> None:
    hours = {"share": "5%", "minimum_hours": 3, "maximum_hours": 2}
    assert "minimum_hours 3 is above maximum_hours 2" in faults(rollout(steps=[hours]))[0]
    nothing = faults(rollout(guardrails={"errors": None, "latency": None}))
    assert nothing == ["rollout: guardrails: a rollout with steps needs at least one guardrail"]
    cost = faults(rollout(guardrails={"cost": {"margin": 1}}))
    assert "rollout.guardrails.cost: needs a section business" in cost[0]
    wide = faults(rollout(guardrails={"loss": {"margin": 5}}))
    assert "rollout.guardrails.loss.margin: must be below the maximum" in wide[0]


def test_regression_declares_its_largest_error_for_a_rollout() -> None:
    regression = rollout() | {"task": "regression"}
    regression["label"] = {
        key: value for key, value in regression["label"].items() if key != "positive_above"
    }
    assert "rollout.guardrails.loss.maximum: a regression needs it" in faults(regression)[0]
    regression["rollout"]["guardrails"] = {"loss": {"margin": 1, "maximum": 60}}
    assert declared(regression).rollout.guardrails.loss is not None


def test_approval_is_refused_where_nothing_would_wait_for_it() -> None:
    required = {"approval": "required"}
    retrained = document(gates={"floor": 0.7}, governance=required)
    assert "declare steps" in faults(retrained)[0]
    learns = document(learning={}, governance=required)
    assert any("which no person can approve" in fault for fault in faults(learns))
    stepwise = {**rollout(), "gates": {"floor": 0.7}, "governance": required}
    assert declared(stepwise).governance.approval == "required"
    assert declared(document(governance=required)).governance.review_days == 365, "registered by hand"


def test_a_calibration_is_of_probabilities_and_recent_days_are_of_a_chosen_window():
    assert declared(document(retraining={"calibration": "auto"})).retraining.calibration == "auto"
    regression = document(task="regression", retraining={"calibration": "auto"})
    regression["label"]["positive_above"] = None
    assert "retraining.calibration: a regression predicts no probabilities" in str(faults(regression))
    chosen = {"window": "auto", "recent_days": 30}
    assert declared(document(retraining=chosen)).retraining.recent_days == 30
    assert "recent_days: only with window: auto, but it is all" in str(
        faults(document(retraining={"recent_days": 30}))
    )


def test_a_search_must_end_before_the_training_is_ended():
    search = {"minutes": 20}
    assert declared(document(retraining={"search": search})).retraining.search is not None
    assert "search.minutes: 20 is not below minutes_max, 15" in str(
        faults(document(retraining={"search": search, "minutes_max": 15}))
    )


def test_absent_labels_are_declared_with_the_value_they_mean() -> None:
    label = declared(part("label", absent=0)).label
    assert (label.absent, label.waits_ms) == (0, 2 * label.horizon_ms)
    assert declared(document()).label.waits_ms == label.horizon_ms
    of_classes = document()["label"] | {"positive_above": None, "absent": "c"}
    of_classes["schema"] = of_classes["schema"] | {"days": "string"}
    assert declared(document(**MULTICLASS, label=of_classes)).label.absent == "c"


@pytest.mark.parametrize(
    ("kind", "absent", "fault"),
    [
        ("float", "none", "'none' is not a number"),
        ("float", 1e300, "is not a number"),
        ("int", 0.5, "0.5 does not fit label.value 'days', which is a int"),
        ("bool", 2, "2 does not fit label.value 'days', which is a bool"),
    ],
)
def test_a_value_of_absent_labels_that_is_no_label_is_refused(kind: str, absent: Any, fault: str) -> None:
    schema = {"id": "string", "at": "timestamp", "days": kind}
    assert fault in faults(part("label", absent=absent, schema=schema))[0]


def test_a_value_of_absent_labels_is_one_of_the_classes() -> None:
    label = document()["label"] | {"positive_above": None, "absent": "d"}
    label["schema"] = label["schema"] | {"days": "string"}
    (fault,) = faults(document(**MULTICLASS, label=label))
    assert fault == ": label.absent: 'd' is not one of the classes a, b, c"


def test_absent_labels_are_refused_where_absence_cannot_be_told() -> None:
    label = document()["label"] | {"absent": 0}
    assert "rollout.label_hours" in faults(rollout(label_hours=0.5) | {"label": label})[0]
    sampled = document(label=label, gates={"floor": 1}, monitoring={"sample": 0.5})
    assert "remove monitoring.sample or gates" in faults(sampled)[0]
    without = {key: value for key, value in label.items() if key != "horizon_hours"}
    assert faults(document(label=without)) == ["label.horizon_hours: Field required"]


def test_gates_of_rare_positives_have_floors_of_average_precision_precision_and_recall() -> None:
    limits = {name: {"min": 0.3} for name in ("average_precision", "precision", "recall")}
    gates = declared(document(gates={"limits": limits})).gates
    assert gates is not None
    assert {name: each.min for name, each in gates.limits.items()} == dict.fromkeys(limits, 0.3)


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        (
            {"auc": {"min": 0.6}},
            "'auc' is no loss of a binary model; known: log_loss, brier, cost",
        ),
        ({"cost": {"max": 9}}, "cost needs a section business"),
        ({"log_loss": {}}, "give min, max or both"),
    ],
)
def test_gates_of_learned_versions_that_do_not_fit_are_refused(limits, fault):
    with pytest.raises(ValidationError, match=fault):
        ModelDeclaration.model_validate(document(learning={"gates": {"limits": limits}}))
