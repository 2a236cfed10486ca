"""The real records go through the whole pipeline, and come back from POST /info as they were."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hyperliquid.info import Info

from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.servers.api import serving
from hl_pipeline_tests.servers.info_api import InfoServer, User, serve_info

WALLET = "0x" + "cd" * 20


@pytest.mark.slow
def test_what_a_bucket_and_hyperliquids_api_gave_is_what_info_answers(world: World, samples: Path) -> None:
    page = json.loads((samples / "user_fills_by_time_page.json").read_bytes())
    lines = (samples / "node_fills_by_block_20260315_0.jsonl").read_text().splitlines()
    blocks = [(user, fill) for line in lines for user, fill in json.loads(line)["events"]]
    shutil.copytree(samples / "s3/hl-mainnet-node-data", world.bucket, dirs_exist_ok=True)
    first, last = (datetime.fromtimestamp((fill["time"] + 1) / 1000, UTC) for fill in (page[0], page[-1]))
    with serve_info(InfoServer({WALLET: User(WALLET, page)})) as server:
        asked = {"HL_INFO_URL": server.url, "HL_INFO_WEIGHT_PER_MINUTE": "1000000", "HL_BACKFILL_TO": last.isoformat()}
        asked["HL_BACKFILL_FROM"] = first.replace(hour=0).isoformat()
        done = run_in_process(Path.cwd(), world.environment | asked, "backfill", "--wallet", WALLET)
    assert done.returncode == 0, done.stdout + done.stderr
    for start, end in ((f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"), ("2026-03-14", "2026-03-15")):
        done = run_in_process(Path.cwd(), world.environment | asked, "ingest", "--from", start, "--to", end)
        # Most hours of the bucket are missing.
        assert done.returncode == 3, done.stdout + done.stderr
    with serving(world.database_url) as api:
        info = Info(api.url, skip_ws=True)
        answer = info.user_fills_by_time(WALLET, 0)
        assert sorted(map(json.dumps, answer)) == sorted(map(json.dumps, page))
        assert [fill["time"] for fill in answer] == [fill["time"] for fill in page]
        assert answer == page
        for wallet in {user for user, _ in blocks[:60]} | {user for user, fill in blocks if fill["twapId"] is not None}:
            own = [fill for user, fill in blocks if user == wallet]
            assert json.dumps(info.user_fills_by_time(wallet, 0)) == json.dumps([f for f in own if f["twapId"] is None])
            slices = [{"fill": fill, "twapId": fill["twapId"]} for fill in own if fill["twapId"] is not None]
            assert json.dumps(info.user_twap_slice_fills(wallet)) == json.dumps(slices[::-1])
