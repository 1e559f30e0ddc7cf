"""Monitoring: false alarms against the budget, detection delays, standing alarms, retrainings, and cost."""

from bench.monitoring.runner import main as main
