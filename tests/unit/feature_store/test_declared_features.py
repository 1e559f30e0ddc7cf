"""A declaration that does not fit its feature service is refused with the setting's place."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from services.feature_store import declared_features
from services.feature_store.plan import (
    Column,
    FeaturePlan,
    ServiceFeature,
    ServicePlan,
    StreamSource,
    ValueType,
    View,
    ViewKind,
)
from services.runtime.declaration import DeclarationError, ModelDeclaration
from tests import declaration_changes
from tests.unit.drift import scenario

VIEW = View(
    "payments",
    ViewKind.BATCH,
    (Column("user", ValueType.INT64),),
    (Column("amount", ValueType.DOUBLE), Column("device", ValueType.STRING)),
    0,
)
REFERENCES = (ServiceFeature("payments", "amount"), ServiceFeature("payments", "device"))
SERVICE = ServicePlan("s", "p", REFERENCES, (VIEW,))
PLAN = FeaturePlan("p", (VIEW,), {"s": REFERENCES})


def declared(**changes: Any) -> ModelDeclaration:
    change = {"request.schema.user": "int"}
    change |= {name.replace("__", "."): value for name, value in changes.items()}
    return ModelDeclaration.model_validate(declaration_changes.patched(scenario.document(), change))


def faults(**changes: Any) -> list[tuple[str, str]]:
    found = declared_features.all_faults(declared(**changes), PLAN)
    return [(".".join(map(str, fault.place)), fault.text) for fault in found]


def test_a_declaration_that_fits_has_no_faults() -> None:
    quality = {"amount": {"min": 0}, "device": {"allowed": ["web"]}}
    fill = {"amount": 0, "device": "none"}
    settings = {
        "monitoring__quality": quality,
        "features__missing__fill": fill,
        "monitoring__segments": ["device"],
    }
    assert faults(**settings) == []


def test_a_request_that_counts_in_its_own_features_needs_their_fields() -> None:
    source = StreamSource("m.requests", "at", (), ("user",), 0)
    own = dataclasses.replace(VIEW, kind=ViewKind.LATEST, source=source)
    plan = FeaturePlan("p", (own,), {"s": REFERENCES})

    def found(**changes: Any) -> list[str]:
        return [fault.text for fault in declared_features.all_faults(declared(**changes), plan)]

    (text,) = found(request__schema__amount="float")
    assert "needs their field 'device': declare it, or declare features.own_event: excluded" in text
    assert found(features__own_event="excluded") == []
    assert found(request__topic="other") == []


def test_an_unknown_service_suggests_the_known_one() -> None:
    ((place, text),) = faults(features__service="ss")
    assert place == "features.service"
    assert "no feature service 'ss'" in text
    assert "did you mean s?" in text


@pytest.mark.parametrize(
    ("kind", "place", "text"),
    [
        (None, "request.schema", "needs the join key 'user', which is not a field"),
        (
            "string",
            "request.schema.user",
            "needs the join key 'user' as int64, but the schema declares string",
        ),
    ],
)
def test_a_join_key_must_be_a_field_of_its_type(kind: str | None, place: str, text: str) -> None:
    ((found, message),) = faults(request__schema__user=kind)
    assert found == place
    assert text in message


@pytest.mark.parametrize(
    ("settings", "place", "text"),
    [
        ({"monitoring__segments": ["devise"]}, "monitoring.segments.0", "did you mean device?"),
        (
            {"monitoring__quality": {"amuont": {"min": 0}}},
            "monitoring.quality.amuont",
            "did you mean amount?",
        ),
        ({"monitoring__season": {"colr": ["hour"]}}, "monitoring.season.colr", "did you mean colour?"),
        ({"monitoring__quality": {"device": {"min": 0}}}, "monitoring.quality.device", "holds text"),
        (
            {"features__missing__fill": {"amount": "abc"}},
            "features.missing.fill.amount",
            "'abc' is not a number",
        ),
        ({"features__missing__fill": {"device": 1}}, "features.missing.fill.device", "is not a text"),
        ({"features__missing__reject": ["devise"]}, "features.missing.reject.0", "did you mean device?"),
    ],
)
def test_names_and_values_that_do_not_fit_have_a_place(
    settings: dict[str, Any], place: str, text: str
) -> None:
    ((found, message),) = faults(**settings)
    assert found == place
    assert text in message


def test_a_name_may_not_be_a_field_and_a_feature() -> None:
    changes = {"request__schema__device": "string", "features__from_request": ["x", "device"]}
    assert [place for place, _ in faults(**changes)] == ["features.from_request.1"]


def test_what_would_fail_on_a_request_fails_at_the_start(tmp_path: Path) -> None:
    text = "name: m\nrequest:\n  schema:\n    id: string\n    user: string\n"
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.yaml").write_text(text)
    with pytest.raises(DeclarationError, match=r"model.yaml:5:5: request.schema.user: the feature service"):
        declared_features.require(tmp_path, declared(request__schema__user="string"), SERVICE)
    declared_features.require(tmp_path, declared(monitoring__segments=["devise"]), SERVICE)
