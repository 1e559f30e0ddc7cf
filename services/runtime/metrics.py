"""Every metric of every process. Times are in seconds, sizes in bytes, label values are bounded.

Gauges of scoring declare how the values of several workers are combined (``multiprocess_mode``).
"""

import os

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

PREDICTIONS = Counter(
    "driftline_predictions",
    "Requests that got a prediction, of all versions; driftline_arm_rows_total has them by version",
    ["model", "outcome"],
)
PREDICTIONS_UNLOGGED = Counter(
    "driftline_predictions_unlogged",
    "Predictions over HTTP that are missing in the predictions topic",
    ["model"],
)
REQUESTS_UNANSWERED = Counter(
    "driftline_requests_unanswered",
    "Valid requests that got no prediction",
    ["model", "channel"],
)
PREDICTION_DURATION = Histogram(
    "driftline_prediction_duration_seconds",
    "Time from receiving a slice or an HTTP request to its acknowledged predictions",
    ["model", "channel"],
    buckets=_LATENCY_BUCKETS,
)
SCORING_STAGE_DURATION = Histogram(
    "driftline_scoring_stage_seconds",
    "Time of a slice by stage: decode, features, predict and write",
    ["model", "stage"],
    buckets=_LATENCY_BUCKETS,
)
EVENT_AGE = Gauge(
    "driftline_event_age_seconds",
    "Wall time minus event time of the newest request that got a prediction",
    ["model"],
    multiprocess_mode="livemostrecent",
)
RATE_LIMIT_ALONE = Gauge(
    "driftline_rate_limit_alone",
    "1 while Redis cannot be reached and each process limits HTTP requests to its share of the rate",
    multiprocess_mode="livemax",
)
MODEL_INFO = Gauge(
    "driftline_model_info",
    "1 for each arm that scores now",
    ["model", "arm", "version"],
    multiprocess_mode="livemax",
)
MODEL_LOAD_FAILURES = Counter("driftline_model_load_failures", "Versions that could not be loaded", ["model"])
MODEL_CHANGES_INVALID = Counter(
    "driftline_model_changes_invalid",
    "Records of the models topic that are no valid change; the previous arms stay in effect",
)
MODELS_LOADED = Gauge("driftline_models_loaded", "Versions held in memory", multiprocess_mode="livesum")
MODELS_LOADED_BYTES = Gauge(
    "driftline_models_loaded_bytes", "Estimated memory of the loaded versions", multiprocess_mode="livesum"
)
MODELS_EVICTED = Counter("driftline_models_evicted", "Versions that were removed from memory for others")
MODELS_BROKEN = Gauge(
    "driftline_models_broken",
    "1 for each declared model that cannot be served as declared",
    ["model"],
    multiprocess_mode="livemax",
)
SHADOWS_DROPPED = Counter(
    "driftline_shadows_dropped", "Slices without the scores of a shadow", ["model", "arm", "reason"]
)
SHADOW_ROWS_FAILED = Counter(
    "driftline_shadow_rows_failed",
    "Rows on which a shadow failed; the others have its score",
    ["model", "arm"],
)
MODEL_CALL_DURATION = Histogram(
    "driftline_model_call_seconds",
    "Time of a call of an arm's version with the rows of a batch, without waiting for a thread",
    ["model", "arm", "version"],
    buckets=(0.0001, 0.00025, 0.0005, *_LATENCY_BUCKETS),
)
ARM_ROWS = Counter(
    "driftline_arm_rows",
    "Rows of an arm by whether its version answered, failed, refused them, cannot answer, or was late",
    ["model", "arm", "version", "result"],
)
ARM_FALLBACKS = Counter(
    "driftline_arm_fallbacks",
    "Predictions that the champion gave because the version of the request's arm cannot answer",
    ["model", "arm"],
)
FEATURES_MISSING = Counter(
    "driftline_features_missing", "Feature values served as null", ["model", "feature"]
)
FEATURES_BEYOND_RETENTION = Counter(
    "driftline_features_beyond_retention",
    "Requests whose event time is before the values that some view still holds",
    ["model"],
)
FEATURES_LAG = Gauge(
    "driftline_features_lag_seconds",
    "Event time of the request minus watermark of the slowest view",
    ["model"],
    multiprocess_mode="livemax",
)
REQUESTS_WAITING = Gauge(
    "driftline_requests_waiting",
    "Requests that have waited for their features for more than a second",
    ["model"],
    multiprocess_mode="livesum",
)
FEATURES_LATE = Counter(
    "driftline_features_late",
    "Requests whose features did not pass their event time within features.wait_seconds",
    ["model", "result"],
)

SLICE_RECORDS = Histogram(
    "driftline_slice_records",
    "Records in a slice",
    ["service"],
    buckets=(1, 10, 50, 100, 250, 500, 1000, 2000, 5000),
)
SLICE_RETRIES = Counter("driftline_slice_retries", "Slices handled again after an error", ["service"])
PARTITIONS_HELD = Gauge(
    "driftline_partition_held",
    "1 while a partition waits because the code fails on all of its records",
    ["service", "topic", "partition"],
    multiprocess_mode="livemax",
)
IN_FLIGHT_BYTES = Gauge(
    "driftline_in_flight_bytes",
    "Bytes fetched and not yet acknowledged",
    ["group"],
    multiprocess_mode="livesum",
)
CONSUMER_LAG = Gauge(
    "driftline_consumer_lag_records",
    "Records of the partition that are not answered or processed yet",
    ["group", "topic", "partition"],
    multiprocess_mode="livemostrecent",
)
DEAD_LETTERS = Counter(
    "driftline_dead_letters", "Records sent to the dead letters", ["service", "topic", "kind"]
)
RECORDS_TOO_LARGE = Counter(
    "driftline_records_too_large",
    "Records that were left out because they are larger than their topic takes",
    ["service", "topic"],
)
RECORDS_SKIPPED = Counter(
    "driftline_records_skipped",
    "Records of internal topics that could not be read or applied and were skipped",
    ["service", "topic"],
)
MODELS_SET_ASIDE = Gauge(
    "driftline_models_set_aside",
    "1 while a process does not process a model because of an error, which /health/ready shows",
    ["service", "model"],
)
TABLES_SET_ASIDE = Gauge(
    "driftline_tables_set_aside",
    "1 while a process does not write a table because of an error, which /health/ready shows",
    ["service", "table"],
)
RECORDS_AHEAD = Counter(
    "driftline_records_ahead",
    "Records that were refused because their event time is too far ahead, also when they are read again",
    ["service", "topic"],
)

FEATURE_ROWS = Counter("driftline_feature_rows", "Rows written to the online store", ["view"])
FEATURE_EVENTS = Counter(
    "driftline_feature_events", "Source events by what became of them", ["view", "result"]
)
FEATURE_WATERMARK = Gauge(
    "driftline_feature_watermark_seconds", "Event time up to which the view is complete", ["view"]
)
FEATURE_IDLE_PARTITIONS = Gauge(
    "driftline_feature_idle_partitions",
    "Source partitions without a record for longer than the idle time that the source declares",
    ["topic"],
)

FEATURE_REFUSALS = Counter(
    "driftline_feature_refusals", "Writes refused because something else was stored", ["view"]
)
FEATURE_GENERATIONS = Counter(
    "driftline_feature_generations", "Generations of a view begun by this process", ["view", "reason"]
)
FEATURE_BUILD_RECORDS = Gauge(
    "driftline_feature_build_records", "Records still to be read again until the view has caught up", ["view"]
)
FEATURE_RECORDS_REMOVED = Gauge(
    "driftline_feature_records_removed",
    "Records that retention had deleted before the view was built from them",
    ["view", "partition"],
)

SKEW_REQUESTS = Counter(
    "driftline_skew_requests", "Sampled predictions by whether they could be recomputed", ["model", "result"]
)
SKEW_VALUES = Counter(
    "driftline_skew_values",
    "Served feature values compared with recomputed ones",
    ["model", "feature", "result"],
)
SKEW_DISTANCE = Gauge(
    "driftline_skew_distance_max",
    "Largest absolute difference between a served and a recomputed value",
    ["model", "feature"],
)
SKEW_SMAPE = Gauge(
    "driftline_skew_smape_ratio",
    "Symmetric mean absolute percentage error of the served values, 0 to 2",
    ["model", "feature"],
)
SKEW_CHECKED_UNTIL = Gauge(
    "driftline_skew_checked_until_seconds", "Event time of the newest recomputed prediction", ["model"]
)

DRIFT_REFERENCE = Gauge(
    "driftline_drift_reference",
    "1 if the champion of the last window has a reference; 0: features, scores and relations are not watched",
    ["model"],
)
DRIFT_EFFECT = Gauge(
    "driftline_drift_effect", "Population stability index of the last window", ["model", "feature"]
)
DRIFT_EVIDENCE = Gauge(
    "driftline_drift_evidence", "-log10 of the p-value of the last window", ["model", "feature"]
)
DRIFT_FAULTS = Gauge(
    "driftline_drift_faults_ratio",
    "Share of a feature's values in the last window that violate the declared bounds",
    ["model", "feature", "fault"],
)
DRIFT_ALARMS = Counter("driftline_drift_alarms", "Alarms raised", ["model", "kind"])
DRIFT_ALARMS_ACTIVE = Gauge("driftline_drift_alarms_active", "Alarms that are active", ["model", "kind"])
DRIFT_RECORDS = Counter(
    "driftline_drift_records", "Drift's input records by what became of them", ["model", "input", "result"]
)
DRIFT_SAMPLE = Gauge(
    "driftline_drift_sample_ratio",
    "Declared share of the predictions and labels that drift reads and counts",
    ["model"],
)
DRIFT_REQUESTS = Counter("driftline_drift_requests", "Retrainings that drift requested", ["model"])
DRIFT_WATERMARK = Gauge(
    "driftline_drift_watermark_seconds", "Event time up to which drift has processed everything", ["model"]
)
DRIFT_PENDING = Gauge("driftline_drift_pending", "Predictions whose label horizon has not passed", ["model"])
DRIFT_SNAPSHOT_BYTES = Gauge("driftline_drift_snapshot_bytes", "Size of the last snapshot", ["model"])
LABEL_COVERAGE = Gauge(
    "driftline_label_coverage_ratio",
    "Share of the predictions with a label, among those whose label horizon passed in the last window",
    ["model"],
)
COHORT_MATURITY = Gauge(
    "driftline_cohort_maturity_ratio",
    "Share of the expected labels that have arrived, for the predictions of the last closed window",
    ["model"],
)
PERFORMANCE = Gauge(
    "driftline_performance",
    "Realised mean over the predictions of the latest window whose labels are mature",
    ["model", "measure", "segment"],
)
PERFORMANCE_BY_THRESHOLD = Gauge(
    "driftline_performance_by_threshold",
    "Precision, recall and F1 at each threshold, of the latest window whose labels are mature",
    ["model", "measure", "threshold"],
)
PERFORMANCE_BY_CLASS = Gauge(
    "driftline_performance_by_class",
    "Precision, recall and F1 of each class, of the latest window whose labels are mature",
    ["model", "measure", "class"],
)
CONFUSION = Gauge(
    "driftline_confusion",
    "Predictions by label and predicted class, of the latest window whose labels are mature",
    ["model", "label", "prediction"],
)
FEATURE_VALUES = Gauge(
    "driftline_feature_values",
    "Mean, standard deviation and quantiles in the last window (window) and in training (reference), of the "
    "first 100 features and of the score",
    ["model", "feature", "statistic", "of"],
)
CONFIDENCE = Gauge(
    "driftline_confidence",
    "Mean probability of the predicted class (mean) and share of predictions below 0.6 (low_share), in the "
    "last window (window) and in training (reference)",
    ["model", "statistic", "of"],
)
COST_MEAN = Gauge(
    "driftline_cost_mean",
    "Mean cost of a prediction: of the latest window whose labels are mature, of the reference, and of the "
    "previous champion",
    ["model", "unit", "of"],
)
COST = Gauge(
    "driftline_cost",
    "Cost of the labelled predictions of the latest window whose labels are mature, and of all such windows",
    ["model", "unit", "span"],
)
COST_SAVED = Gauge(
    "driftline_cost_saved",
    "Cost to be expected by the reference minus the realised cost, in the same spans",
    ["model", "unit", "span"],
)
PERFORMANCE_RUNNING = Gauge(
    "driftline_performance_running",
    "Mean since the champion's promotion, and the ends of its 95 % confidence sequence",
    ["model", "measure", "segment", "bound"],
)
ESTIMATED_PERFORMANCE = Gauge(
    "driftline_estimated_performance",
    "Estimated mean over the predictions of the last closed window, before their labels",
    ["model", "measure", "segment"],
)
ESTIMATED_GAP = Gauge(
    "driftline_estimated_gap",
    "Realised minus estimated, of the latest window whose labels are mature",
    ["model", "measure"],
)
ESTIMATED_ERROR = Gauge(
    "driftline_estimated_error",
    "Largest recent gap between estimated and realised measure over a block of windows",
    ["model", "measure"],
)
LABELS = Counter("driftline_labels", "Labels by what became of them", ["model", "result"])
JUDGED = Counter(
    "driftline_judged",
    "Windows, and predictions with a label, by whether they met the declared objective",
    ["model", "measure", "result"],
)
LOG_LOSS = Gauge("driftline_log_loss", "Realised log loss of the last window", ["model", "arm"])
ARM_MEASURE = Gauge(
    "driftline_arm_measure",
    "Realised mean of a measure over the labels of the last window, by arm and version, shadows too",
    ["model", "arm", "version", "measure"],
)
ARM_RECORDS = Gauge(
    "driftline_arm_records",
    "Predictions, labels and requests not answered in the last window, by arm and version",
    ["model", "arm", "version", "record"],
)
ARM_DIFFERENCE = Gauge(
    "driftline_arm_loss_difference",
    "By how much the mean loss is above the champion's: in the last window (mean, low, high), and since "
    "both answer (running, running_low, running_high)",
    ["model", "arm", "version", "bound"],
)

ARM_FAILURE_DIFFERENCE = Gauge(
    "driftline_arm_failure_difference",
    "By how much the share of requests not answered is above the champion's in the last window (mean), with "
    "its 95 % interval (low, high)",
    ["model", "arm", "version", "bound"],
)
ARM_CALL_RATIO = Gauge(
    "driftline_arm_call_ratio",
    "Geometric mean of the times of calls divided by the champion's in the last window (ratio), with its "
    "95 % interval (low, high)",
    ["model", "arm", "version", "bound"],
)

LEARNING_LABELS = Counter(
    "driftline_learning_labels", "Labels of learning models by what became of them", ["model", "result"]
)
LEARNING_LOSS = Gauge(
    "driftline_learning_loss",
    "Mean loss of the predictions whose label arrived in the last interval: absolute error, or log loss",
    ["model"],
)
LEARNING_VERSION = Gauge("driftline_learning_version", "The latest published version", ["model"])
LEARNING_GATES = Counter(
    "driftline_learning_gates",
    "Learned versions by the outcome of their gate, and by whether they may become the champion",
    ["model", "outcome", "passed"],
)
LEARNING_WATERMARK = Gauge(
    "driftline_learning_watermark_seconds", "Event time up to which all labels were taken", ["model"]
)
LEARNING_PENDING = Gauge(
    "driftline_learning_pending", "Predictions whose label horizon has not passed", ["model"]
)
LEARNING_STATE_BYTES = Gauge(
    "driftline_learning_state_bytes",
    "Size of the latest record: the published model, or the checkpoint",
    ["model", "record"],
)

ROLLOUTS = Counter("driftline_rollouts", "Rollouts that ended, by their outcome", ["model", "outcome"])
ROLLOUT_SHARE = Gauge(
    "driftline_rollout_share_ratio",
    "Share of the keys that the new version of a rollout answers; -1 while no rollout goes on",
    ["model"],
)
ROLLOUT_EVIDENCE = Gauge(
    "driftline_rollout_evidence_ratio",
    "Log evidence that the new version is worse, as a share of what rolls it back",
    ["model", "guardrail"],
)
ROLLOUT_STATE_BYTES = Gauge(
    "driftline_rollout_state_bytes", "Size of the last snapshot of a rollout's evidence", ["model"]
)

NOTIFICATIONS = Counter(
    "driftline_notifications", "Messages to a destination by what became of them", ["destination", "result"]
)
ALERTS_STANDING = Gauge("driftline_alerts_standing", "Active alarms", ["model"])
ALERTS_SILENCED = Gauge("driftline_alerts_silenced", "Active alarms that are silenced")
ALERTS_STALE = Gauge(
    "driftline_alerts_stale",
    "Alerts that were not sent because they were too old, since the start of this process",
)

ARCHIVED_ROWS = Counter("driftline_archived_rows", "Rows committed to the archive", ["table"])
RETRAININGS = Counter("driftline_retrainings", "Retrainings by trigger and result", ["trigger", "result"])
RETRAINING_DURATION = Histogram(
    "driftline_retraining_duration_seconds",
    "Time from the request to its result",
    buckets=(1, 5, 10, 30, 60, 300, 1800, 7200),
)

IS_WORKER = "PROMETHEUS_MULTIPROC_DIR" in os.environ
"""Whether several workers share a port. Read at the start: Feast changes the variable when it is imported."""
