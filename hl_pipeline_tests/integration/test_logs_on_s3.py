"""The output of a run goes to S3, as docs/guides/many-machines.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dagster import DagsterInstance, asset, materialize

from hl_pipeline_tests.processes import PROJECT
from hl_pipeline_tests.servers.s3 import REGION, S3Server


@pytest.mark.slow
def test_what_a_run_prints_is_in_the_bucket(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3.ours.add("my-logs")
    s3.client().create_bucket(Bucket="my-logs", CreateBucketConfiguration={"LocationConstraint": REGION})
    [block] = re.findall(
        r"```yaml\n(compute_logs:.*?)```", (PROJECT / "docs" / "guides" / "many-machines.md").read_text(), flags=re.DOTALL
    )
    (tmp_path / "dagster.yaml").write_text(block)

    @asset
    def loud() -> None:
        print("said on another machine")  # noqa: T201

    with DagsterInstance.from_config(str(tmp_path)) as instance:
        run_id = materialize([loud], instance=instance).run_id
    objects = s3.client().list_objects_v2(Bucket="my-logs")["Contents"]
    [key] = [item["Key"] for item in objects if item["Key"].endswith(".out")]
    assert key.startswith(f"hl-pipeline/storage/{run_id}/")
    body = s3.client().get_object(Bucket="my-logs", Key=key)["Body"].read()
    assert b"said on another machine" in body
