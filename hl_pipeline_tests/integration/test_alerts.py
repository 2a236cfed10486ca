"""Alerts, from a real failed run through the real sensors to a real HTTP server and a real SMTP server."""

from __future__ import annotations

import json
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter, SensorResult, SkipReason, build_sensor_context
from pydantic import SecretStr, ValidationError

from hl_pipeline.definitions import build_defs, build_resources
from hl_pipeline.ops.notify import Destination, Message
from hl_pipeline.settings import Settings, split_alert_urls
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.processes import free_port
from hl_pipeline_tests.servers.alerts import MAIL_PASSWORD, Mailbox, Webhook, serve_mail, serve_webhook

_DAY, _OTHER_DAY = "2026-03-15", "2026-03-16"


@pytest.fixture
def instance() -> Generator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def webhook() -> Generator[Webhook]:
    with serve_webhook() as webhook:
        yield webhook


@pytest.fixture
def mailbox() -> Generator[Mailbox]:
    with serve_mail(free_port()) as mailbox:
        yield mailbox


def _mail_url(mailbox: Mailbox) -> str:
    return (
        f"mailto://me:{MAIL_PASSWORD}@127.0.0.1:{mailbox.port}?mode=insecure&from=hl@example.com&to=a@example.com,b@example.com"
    )


def _hook_url(webhook: Webhook) -> str:
    return f"json://127.0.0.1:{webhook.port}/hook/path-secret"


def _tick(name: str, instance: DagsterInstance, cursor: str | None) -> tuple[str | None, str]:
    """Return the cursor after a tick, and what the tick says."""
    settings = Settings()
    sensor = build_defs(settings).get_sensor_def(name)
    with build_sensor_context(instance=instance, cursor=cursor, resources=build_resources(settings)) as context:
        result = sensor(context)
    if isinstance(result, SkipReason):
        return cursor, str(result.skip_message)
    assert isinstance(result, SensorResult), result
    assert result.skip_reason is not None
    return result.cursor, str(result.skip_reason.skip_message)


def _fail(instance: DagsterInstance, day: str = _DAY, **tags: str) -> str:
    """Run a day whose bucket is not there. Returns the run's ID."""
    with mock.patch.dict("os.environ", {"HL_NODE_DATA_URL": "/nowhere/to/be/found"}):
        job = build_defs(Settings()).resolve_job_def("ingest_days")
        result = job.execute_in_process(partition_key=day, instance=instance, tags=tags, raise_on_error=False)
    assert not result.success
    return result.run_id


def test_a_failed_run_is_one_alert_by_webhook_and_mail_with_the_next_step(
    world: World, instance: DagsterInstance, webhook: Webhook, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    monkeypatch.setenv("HL_ALERT_URLS", f"{_hook_url(webhook)},{_mail_url(mailbox)}")
    monkeypatch.setenv("HL_UI_URL", "https://ui.example.com/dagster/")
    cursor, _ = _tick("alert_failed_runs", instance, None)
    run = _fail(instance, **{"hl/started_by": "sensor node_data_objects"})
    # A retry comes, and says more.
    _fail(instance, _OTHER_DAY, **{"dagster/will_retry": "true"})
    for _ in range(3):
        cursor, said = _tick("alert_failed_runs", instance, cursor)
        assert said == "everything is delivered"
    [(path, posted)] = webhook.received
    assert (path, posted["title"]) == ("/hook/path-secret", f"hl-pipeline: {_DAY} failed")
    assert posted["message"].splitlines()[0] == f"What: {_DAY} failed, started by sensor node_data_objects"
    assert "/nowhere/to/be/found" in posted["message"].splitlines()[1]
    assert posted["message"].splitlines()[2:] == [
        f"Run: https://ui.example.com/dagster/runs/{run}",
        f"Next: `hl ingest --from {_DAY} --to {_DAY}` continues it; docs/runbooks.md#hlrunsfailing",
    ]
    assert sorted(str(mail["To"]) for mail in mailbox.received) == ["a@example.com", "b@example.com"]
    mail = mailbox.received[0]
    assert mail["Subject"] == f"hl-pipeline: {_DAY} failed"
    body = mail.get_body()
    assert body is not None
    assert run in body.get_content()


@pytest.mark.slow
def test_what_was_not_delivered_is_tried_again_there_alone_and_no_secret_is_logged(
    world: World,
    instance: DagsterInstance,
    webhook: Webhook,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    del world
    monkeypatch.setenv("HL_ALERT_URLS", f"{_hook_url(webhook)} {_mail_url(mailbox)}")
    cursor, _ = _tick("alert_failed_runs", instance, None)
    run = _fail(instance)
    webhook.status = 500
    for _ in range(2):
        cursor, said = _tick("alert_failed_runs", instance, cursor)
        assert said.startswith("not delivered to 1 (json), will be tried again: ")
        assert "500" in said
    assert (len(webhook.received), len(mailbox.received)) == (0, 2)
    webhook.status = 200
    cursor, said = _tick("alert_failed_runs", instance, cursor)
    assert said == "everything is delivered"
    assert (len(webhook.received), len(mailbox.received)) == (1, 2)
    assert run in webhook.received[0][1]["message"]
    assert "alert_not_delivered to=" in caplog.text
    for written in (caplog.text, str(cursor)):
        assert "secret" not in written
        assert "/hook" not in written


@pytest.mark.slow
def test_many_failures_are_one_message_and_a_known_hole_is_none(
    world: World, instance: DagsterInstance, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    monkeypatch.setenv("HL_ALERT_URLS", _hook_url(webhook))
    cursor, _ = _tick("alert_failed_runs", instance, None)
    runs = [_fail(instance, day) for day in (_DAY, _OTHER_DAY)]
    cursor, _ = _tick("alert_failed_runs", instance, cursor)
    [(_, posted)] = webhook.received
    assert posted["title"] == "hl-pipeline: 2 runs failed"
    assert all(run in posted["message"] for run in runs)
    for _ in range(2):
        _fail(instance, **{"hl/verdict": "incomplete"})
        cursor, _ = _tick("alert_failed_runs", instance, cursor)
    [_, (_, posted)] = webhook.received
    assert posted["title"] == f"hl-pipeline: {_DAY} incomplete"
    assert f"`hl status --from {_DAY} --to {_DAY}` shows the gaps" in posted["message"]


@pytest.mark.slow
def test_a_failure_from_before_there_were_alerts_is_no_alert(
    world: World, instance: DagsterInstance, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    monkeypatch.setenv("HL_ALERT_URLS", _hook_url(webhook))
    _fail(instance)
    _tick("alert_failed_runs", instance, None)
    assert webhook.received == []
    assert len(instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE]))) == 1


@pytest.mark.slow
def test_late_fills_are_one_alert_when_it_begins_and_one_when_it_is_over(
    world: World, instance: DagsterInstance, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HL_ALERT_URLS", _hook_url(webhook))
    # A bucket on S3 always grows; only its name is looked at.
    monkeypatch.setenv("HL_NODE_DATA_URL", "s3://bucket")
    cursor, said = _tick("alert_late_data", instance, None)
    assert said == "hl.fills has no hour of node_fills_by_block."
    now = datetime.now(UTC)
    for hours, messages in ((9, 1), (8, 1), (1, 2), (1, 2), (7, 3)):
        hour = (now - timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0)
        _set_newest_hour(world, hour)
        webhook.status = 500
        _tick("alert_late_data", instance, cursor)
        webhook.status = 200
        cursor, said = _tick("alert_late_data", instance, cursor)
        assert (said, len(webhook.received)) == ("everything is delivered", messages)
    titles = [posted["title"] for _, posted in webhook.received]
    assert titles == ["hl-pipeline: fills are late", "hl-pipeline: fills are no longer late", "hl-pipeline: fills are late"]
    begin = webhook.received[0][1]["message"]
    assert "HL_MAX_LAG_HOURS is 4" in begin
    assert begin.endswith("Next: `hl status`, then docs/runbooks.md#hlnewesthourlags")


def test_alert_test_says_which_destination_got_the_message(world: World, webhook: Webhook, tmp_path: Path) -> None:
    urls = f"{_hook_url(webhook)},json://127.0.0.1:{free_port()}/hook/path-secret"
    done = run_in_process(tmp_path, world.environment | {"HL_ALERT_URLS": urls}, "alert-test")
    assert (done.returncode, done.stdout) == (1, "1 (json): sent\n")
    assert done.stderr.startswith("error: 2 (json): ")
    assert "secret" not in done.stderr
    assert [posted["title"] for _, posted in webhook.received] == ["hl-pipeline: test"]
    unset = run_in_process(tmp_path, world.environment, "alert-test")
    assert (unset.returncode, unset.stderr.partition(",")[0]) == (2, "error: HL_ALERT_URLS is not set")


@pytest.mark.parametrize("command", ["alert-test", "up"])
def test_a_url_that_apprise_cannot_read_is_refused_by_its_position(world: World, command: str, tmp_path: Path) -> None:
    done = run_in_process(tmp_path, world.environment | {"HL_ALERT_URLS": "json://a/b,slack://secret"}, command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: HL_ALERT_URLS: Apprise cannot read URL 2 (slack)" in done.stderr
    assert "secret" not in done.stderr


def test_without_the_extra_the_error_says_how_to_install_it(world: World, tmp_path: Path) -> None:
    with mock.patch("hl_pipeline.settings.find_spec", lambda name: None if name == "apprise" else find_spec(name)):
        done = run_in_process(tmp_path, world.environment | {"HL_ALERT_URLS": "json://secret"}, "status")
    assert done.returncode == 2
    assert "HL_ALERT_URLS: needs the extra `alerts`: pip install 'hl-pipeline[alerts]'" in done.stderr
    assert "secret" not in done.stderr


def test_urls_are_separated_by_commas_or_spaces_and_a_wrong_one_is_not_shown() -> None:
    text = "slack://a/b/c, mailto://me:x@host?to=a@x,b@x\njson://h,"
    assert split_alert_urls(SecretStr(text)) == ["slack://a/b/c", "mailto://me:x@host?to=a@x,b@x", "json://h"]
    with pytest.raises(ValidationError, match="URL 1 must be an Apprise URL") as refused:
        Settings(alert_urls=SecretStr("hooks.example.com/secret"))
    assert "secret" not in str(refused.value)


def test_a_slack_compatible_webhook_gets_slacks_format(webhook: Webhook) -> None:
    # Mattermost, Rocket.Chat and others take Slack's JSON at an address of their own.
    url = f"json://127.0.0.1:{webhook.port}/services/T0/B0/secret?:title=&:message=text"
    assert Destination("1 (json)", url).send(Message("title", "text of the alert")) is None
    [(path, posted)] = webhook.received
    assert path == "/services/T0/B0/secret"
    assert posted["text"] == "text of the alert", json.dumps(posted)


def _set_newest_hour(world: World, hour: datetime) -> None:
    with connect(world.database_url) as connection:
        connection.execute("DELETE FROM hl.s3_ingest_log")
        connection.execute(
            "INSERT INTO hl.s3_ingest_log (object_key, source, object_date, object_hour, loaded_at, fetched_at, rows) "
            "VALUES ('a', 'node_fills_by_block', %s, %s, now(), now(), 1)",
            [hour.date(), hour.hour],
        )
