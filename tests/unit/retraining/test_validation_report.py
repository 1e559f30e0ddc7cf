import msgspec

from services.retraining.validation_report import (
    FeatureSummary,
    Finding,
    ValidationReport,
    as_html,
    as_json,
)

REPORT = ValidationReport(
    model="tips",
    task="binary",
    rows=1000,
    rows_dropped=3,
    bad_rows_max=0.01,
    findings=[
        Finding("dropped", "row", "x", "x is infinite in 3 rows", 3),
        Finding("fault", "nulls", "<b>", "<b> is null"),
    ],
    features=[FeatureSummary("x", "number", 0.25, 900, 0.1234)],
    label_shares={"0": 0.75, "1": 0.25},
)


def test_faults_stop_the_run():
    assert REPORT.faults == ["<b> is null"]
    assert not REPORT.passed
    assert msgspec.structs.replace(REPORT, findings=REPORT.findings[:1]).passed


def test_page_has_findings_and_features_and_escapes_names():
    page = as_html(REPORT)

    assert "The training set cannot be used" in page
    assert "3 of 1,000 rows were dropped" in page
    assert "&lt;b&gt; is null" in page
    assert "<b>" not in page
    assert "0.123" in page


def test_json_holds_the_whole_report():
    document = msgspec.json.decode(as_json(REPORT))

    assert document.pop("passed") is False
    assert msgspec.convert(document, ValidationReport) == REPORT
