"""Several workers' metrics show the arms that score now, although a worker cannot remove a series."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.runtime.current_arms import CurrentArms

ARM = ["model", "arm", "version"]


def test_only_arms_that_score_now_have_series():
    workers, shown = CollectorRegistry(), CollectorRegistry()
    info = Gauge("driftline_model_info", "", ARM, registry=workers)
    calls = Histogram("driftline_model_call_seconds", "", ARM, registry=workers)
    rows = Counter("driftline_arm_rows", "", [*ARM, "result"], registry=workers)
    other = Counter("driftline_other", "", ["model", "version"], registry=workers)
    for version, is_current in (("1", 0), ("2", 1)):
        labels = ("m", "champion", version)
        info.labels(*labels).set(is_current)
        calls.labels(*labels).observe(0.1)
        rows.labels(*labels, "answered").inc(3)
        other.labels("m", version).inc()
    shown.register(CurrentArms(workers))
    lines = generate_latest(shown).decode().splitlines()
    assert 'driftline_arm_rows_total{arm="champion",model="m",result="answered",version="2"} 3.0' in lines
    assert any(line.startswith("driftline_model_call_seconds_bucket") for line in lines)
    old = [line.split("{")[0] for line in lines if 'version="1"' in line and "_created" not in line]
    assert old == ["driftline_model_info", "driftline_other_total"]
