"""The changelog tells operators of every topic, record, metric and command."""

import inspect
import re

import msgspec
import pytest

from services.runtime.settings import ROOT
from streams import records, topics
from tests.contract.deployment_files import declared_metrics

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\n]+)`", CHANGELOG))
SENT = {word for topic in topics.ALL for word in re.findall(r"[A-Z]\w+", topic.record)}


@pytest.mark.parametrize("topic", topics.ALL, ids=lambda topic: topic.name)
def test_every_topic_is_named(topic: topics.InternalTopic) -> None:
    assert topic.name in NAMED


@pytest.mark.parametrize("name", sorted(SENT))
def test_every_record_is_named(name: str) -> None:
    assert inspect.isclass(getattr(records, name))
    assert issubclass(getattr(records, name), msgspec.Struct)
    assert name in NAMED


@pytest.mark.parametrize("metric", sorted(declared_metrics()))
def test_every_metric_is_named_as_prometheus_sees_it(metric: str) -> None:
    assert metric in NAMED


def test_every_command_is_named() -> None:
    cli = (ROOT / "services" / "operations" / "cli.py").read_text(encoding="utf-8")
    commands = set(re.findall(r'^    \("(\w+)", "services', cli, re.MULTILINE))
    assert commands
    assert commands <= {name.removeprefix("driftline ") for name in NAMED}


def test_it_begins_with_what_is_not_released_yet() -> None:
    assert re.findall(r"^## (.*)", CHANGELOG, re.MULTILINE)[0] == "[Unreleased]"
