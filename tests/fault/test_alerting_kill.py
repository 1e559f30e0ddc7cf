"""The alerting process on a real Kafka, with real receivers: killed between a delivery and its record."""

import re

import pytest

from services.alerting import command
from services.runtime.settings import Settings
from tests.alerting_model import AlertingModel
from tests.processes import Process
from tests.receivers import HttpReceiver, http_receiver, mail_receiver
from tests.waiting import until


@pytest.fixture
def local(kafka: str, http_ports: dict[str, int]) -> Settings:
    return Settings().model_copy(update={"broker": kafka, **http_ports})


def titles(receiver: HttpReceiver) -> list[str]:
    return [body["title"] for body in receiver.bodies]


def test_alert_is_sent_once_except_after_a_kill_between_delivery_and_record(
    local, unique_name, tmp_path, monkeypatch, capsys
):
    with http_receiver() as hook, mail_receiver() as (mailbox, port):
        mail = f"mailto://127.0.0.1:{port}?from=a@example.org&to=b@example.org&mode=insecure"
        secret = "s3cr3t-path"
        urls = f"hook=json://127.0.0.1:{hook.port}/{secret} mail={mail}"
        model = AlertingModel(local, unique_name, tmp_path, urls)
        with Process("alerting", model.settings, log=tmp_path / "alerting.log") as alerting:
            alerting.wait_ready()

            def kill_before_the_answer(_: int) -> int:
                alerting.kill()
                return 200

            hook.answer = kill_before_the_answer
            open_ids = model.burst(*(f"f{number}" for number in range(12)))
            until(lambda: not alerting.alive, "the process is killed")
            assert len(hook.bodies) == 1

            hook.answer = lambda _: 200
            alerting.start()
            until(lambda: len(hook.bodies) == 2, "it is sent again")
            assert "12 alerts" in titles(hook)[1], "a burst is one message"
            assert titles(hook)[0].split(": ")[1:] == titles(hook)[1].split(": ")[1:]
            alerting.wait_ready()

            open_ids.append(model.alarm("log_loss", "loss"))
            until(lambda: len(hook.bodies) == 3 and len(mailbox.mails) == 1, "both destinations get the loss")
            assert "log_loss changed" in mailbox.mails[0]["subject"]
            assert alerting.stop() == 0
            assert secret not in alerting.output()

            for name, value in model.settings.environment().items():
                monkeypatch.setenv(name, value)
            command.test("hook")
            command.silence(model=unique_name, duration="1h", reason="a test", subject="quiet")
            sent = len(hook.bodies)
            alerting.start()
            quiet = model.alarm("quiet")
            loud = model.alarm("loud")
            until(lambda: len(hook.bodies) > sent, "the other alarm is sent")
            assert "loud changed" in titles(hook)[-1]
            model.report(quiet, loud)
            until(
                lambda: len(hook.bodies) == sent + 2 and len(mailbox.mails) == 2,
                "all are sent as resolved",
            )
            assert titles(hook)[-1].startswith(f"[resolved] {unique_name}: 13 alerts")
            until(
                lambda: len(list((tmp_path / "reports" / unique_name).glob("*.html"))) == 1,
                "the report is written",
            )
            assert not any("quiet" in str(body) for body in hook.bodies)
            assert alerting.stop() == 0
            command.show(model=unique_name)
            shown = capsys.readouterr().out
            assert "ok  hook (json://…) accepted the test message" in shown
            assert f"hook  sent  {unique_name}: loud changed" in shown
            assert f"hook  resolved (2 times)  {unique_name}: f0 changed" in shown
            assert f"model={unique_name} subject=quiet  (a test)" in shown
            (silence_id,) = re.findall(r"silence (\w+) until", shown)
            command.end(silence_id)
            command.silences()
            assert silence_id not in capsys.readouterr().out.replace(f"silence {silence_id} ended", "")
