"""The steps of a retraining: functions of a run folder, each with declared inputs and outputs."""
