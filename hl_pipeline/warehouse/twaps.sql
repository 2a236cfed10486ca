-- One row of hl.twaps for each of touched_twaps, from hl.twap_statuses, their slices (twap_slices), hl.candles and the loaded days.
-- docs/twaps.md defines each column. Times used in divisions are in ms since 1970 (…_ms).
WITH statuses AS (
    SELECT s.*, s.time_ns / 1000000 AS time_ms, s.status NOT IN ('activated', 'waitingForTrigger') AS is_end
    FROM hl.twap_statuses s JOIN touched_twaps USING (twap_id)
), slices AS (
    SELECT s.*, (extract(epoch FROM s.time) * 1000)::bigint AS time_ms FROM pg_temp.twap_slices s
), told AS (
    -- Latest status first.
    SELECT twap_id, count(*) AS statuses, min(time) AS first_status_at, max(time) AS last_status_at,
           min(time_ms) FILTER (WHERE status = 'activated') AS activated_ms,
           bool_or(status = 'waitingForTrigger' OR coalesce(jsonb_typeof(
               coalesce(raw_payload -> 'state' -> 'trigger', raw_payload -> 'state_trigger')) = 'object', false)) AS has_trigger,
           (array_agg(wallet ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC))[1] AS wallet,
           (array_agg(coin ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC))[1] AS coin,
           (array_agg(side ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC))[1] AS side,
           (array_agg(status ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC))[1] AS status,
           (array_agg(error ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC))[1] AS error,
           (array_agg(is_end ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC))[1] AS is_end,
           (array_agg(time_ms ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC))[1] AS last_status_ms,
           (array_agg(size_executed ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC))[1] AS size_executed,
           (array_agg(notional_executed ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC))[1] AS notional_executed,
           (array_agg(started_at ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC)
               FILTER (WHERE started_at IS NOT NULL))[1] AS started_at,
           (array_agg(duration_minutes::bigint ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC)
               FILTER (WHERE duration_minutes IS NOT NULL))[1] AS duration_minutes,
           (array_agg(size_requested ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC)
               FILTER (WHERE size_requested IS NOT NULL))[1] AS size_requested,
           (array_agg(reduce_only ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC)
               FILTER (WHERE reduce_only IS NOT NULL))[1] AS reduce_only,
           (array_agg(randomize ORDER BY time_ns DESC, place DESC, status COLLATE "C" DESC)
               FILTER (WHERE randomize IS NOT NULL))[1] AS randomize
    FROM statuses GROUP BY twap_id
), did AS (
    SELECT twap_id, count(*) AS fills, count(DISTINCT oid) AS slices, sum(sz) AS size, sum(px * sz) AS notional,
           min(time) AS first_slice_at, max(time) AS last_slice_at, min(time_ms) AS first_slice_ms, max(time_ms) AS last_slice_ms,
           (array_agg(wallet ORDER BY time, oid, wallet))[1] AS wallet,
           (array_agg(coin ORDER BY time, oid, wallet))[1] AS coin,
           (array_agg(side ORDER BY time, oid, wallet))[1] AS side,
           -- A zero fee is known, whatever its token.
           CASE WHEN bool_and(crossed IS NOT NULL OR sz = 0) THEN coalesce(sum(sz) FILTER (WHERE NOT crossed), 0) END AS maker_size,
           CASE WHEN count(closed_pnl) = count(*) THEN sum(closed_pnl) END AS closed_pnl,
           bool_and(fee IS NOT NULL AND (fee_token IS NOT NULL OR fee = 0)) AS fees_are_known
    FROM slices GROUP BY twap_id
), by_token AS (
    SELECT twap_id, fee_token, sum(fee) AS fee FROM slices WHERE fee_token IS NOT NULL GROUP BY twap_id, fee_token
), paid AS (
    SELECT twap_id, json_object_agg(fee_token, trim_scale(fee)::text ORDER BY fee_token COLLATE "C") AS fees
    FROM by_token GROUP BY twap_id
), parties AS (
    SELECT twap_id, count(DISTINCT (wallet, coin, side)) > 1 AS differ
    FROM (SELECT twap_id, wallet, coin, side FROM statuses UNION SELECT twap_id, wallet, coin, side FROM slices) said
    GROUP BY twap_id
), joined AS (
    SELECT twap_id, t.wallet AS told_wallet, t.coin AS told_coin, t.side AS told_side, d.wallet AS slice_wallet,
           d.coin AS slice_coin, d.side AS slice_side, t.status, t.error, t.started_at, t.duration_minutes, t.reduce_only,
           t.randomize, coalesce(t.statuses, 0) AS statuses, coalesce(t.is_end, false) AS is_end, t.size_requested,
           CASE WHEN t.is_end THEN t.size_executed END AS size_reported,
           CASE WHEN t.is_end THEN t.notional_executed END AS notional_reported,
           CASE WHEN t.is_end THEN t.last_status_ms END AS ended_ms, t.first_status_at, t.last_status_at,
           -- A TWAP begins when it is placed, unless it waits for a trigger, or never begins.
           coalesce(t.activated_ms,
                    CASE WHEN NOT t.has_trigger AND (d.twap_id IS NOT NULL OR (t.is_end AND t.size_executed > 0))
                         THEN floor(extract(epoch FROM t.started_at) * 1000)::bigint END,
                    d.first_slice_ms) AS begins_ms,
           coalesce(d.fills, 0) AS fills, coalesce(d.slices, 0) AS slices, coalesce(d.size, 0) AS size,
           coalesce(d.notional, 0) AS notional, d.first_slice_at, d.last_slice_at, d.last_slice_ms, d.maker_size,
           CASE WHEN d.twap_id IS NULL THEN 0 ELSE d.closed_pnl END AS closed_pnl,
           CASE WHEN d.twap_id IS NULL THEN '{}' WHEN d.fees_are_known THEN coalesce(p.fees, '{}') END AS fees, parties.differ
    FROM touched_twaps
    LEFT JOIN told t USING (twap_id) LEFT JOIN did d USING (twap_id) LEFT JOIN paid p USING (twap_id) JOIN parties USING (twap_id)
), planned AS (
    SELECT *, begins_ms + duration_minutes * 60000 AS planned_ms,
           begins_ms + (coalesce(duration_minutes, 4320) + 1) * 60000 AS due_ms
    FROM joined
), windows AS (
    SELECT *, ceil(begins_ms / 60000.0)::bigint AS first_minute,
           CASE WHEN begins_ms IS NOT NULL
                THEN greatest(floor(end_ms / 60000.0)::bigint - ceil(begins_ms / 60000.0)::bigint, 0) END AS whole_minutes,
           to_timestamp(begins_ms / 1000.0) AS begins_at, to_timestamp(end_ms / 1000.0) AS end_at,
           -- Without a window: from placement to the last known event.
           coalesce(to_timestamp(begins_ms / 1000.0), started_at, first_status_at) AS known_from,
           coalesce(to_timestamp(end_ms / 1000.0), last_status_at) AS known_to
    FROM planned CROSS JOIN LATERAL (
        SELECT CASE WHEN begins_ms IS NOT NULL THEN coalesce(ended_ms, planned_ms, last_slice_ms, begins_ms) END AS end_ms
    ) e
), pace AS (
    -- Slices due at a time, out of 2 * duration_minutes.
    SELECT p.twap_id, max(abs(p.done * (2 * w.duration_minutes) - w.size_requested * due.slices))
               AS most, w.size_requested * (2 * w.duration_minutes) AS whole
    FROM (
        SELECT twap_id, time_ms, sum(sum(sz)) OVER (PARTITION BY twap_id ORDER BY time_ms) AS done
        FROM (SELECT twap_id, time_ms, sz FROM slices UNION ALL SELECT twap_id, end_ms, 0 FROM windows WHERE end_ms IS NOT NULL) moments
        GROUP BY twap_id, time_ms
    ) p
    JOIN windows w USING (twap_id)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN p.time_ms < w.begins_ms THEN 0
                    ELSE least(2 * w.duration_minutes, (p.time_ms - w.begins_ms) / 30000 + 1) END AS slices
    ) due
    WHERE w.duration_minutes > 0 AND w.size_requested > 0
    GROUP BY p.twap_id, w.size_requested, w.duration_minutes
), days AS (
    SELECT d.date, d.candles_at IS NOT NULL AS has_candles,
           CASE WHEN hl.has_bad_lines(d.date) THEN false WHEN d.state = 'whole' THEN true
                WHEN d.state IN ('incomplete', 'pending') THEN false END AS is_complete
    FROM hl.fills_days d
), seen AS (
    SELECT w.twap_id, bool_and(coalesce(days.has_candles, false)) AS has_candles,
           CASE WHEN bool_or(days.date IS NULL OR NOT days.is_complete) THEN false
                WHEN bool_and(days.is_complete IS NOT NULL) THEN true END AS is_complete
    FROM windows w
    CROSS JOIN LATERAL generate_series(date_trunc('day', w.known_from, 'UTC'), greatest(w.known_to, w.known_from), '1 day') day
    LEFT JOIN days ON days.date = (day AT TIME ZONE 'UTC')::date
    GROUP BY w.twap_id
), own AS (
    SELECT w.twap_id, sum(s.sz) AS volume, sum(s.px * s.sz) AS notional
    FROM windows w JOIN slices s USING (twap_id)
    WHERE s.time_ms >= w.first_minute * 60000 AND s.time_ms < (w.first_minute + w.whole_minutes) * 60000
    GROUP BY w.twap_id
), figures AS (
    SELECT w.*, coalesce(w.told_wallet, w.slice_wallet) AS wallet, coalesce(w.told_coin, w.slice_coin) AS coin,
           coalesce(w.told_side, w.slice_side) AS side, CASE coalesce(w.told_side, w.slice_side) WHEN 'B' THEN 1 ELSE -1 END AS sign,
           seen.is_complete, CASE WHEN w.whole_minutes IS NOT NULL THEN coalesce(own.volume, 0) END AS own_volume,
           CASE WHEN w.whole_minutes IS NOT NULL THEN coalesce(own.notional, 0) END AS own_notional,
           CASE WHEN seen.has_candles AND w.whole_minutes > 0 THEN market.volume END AS market_volume,
           CASE WHEN seen.has_candles AND w.whole_minutes > 0 THEN market.notional END AS market_notional,
           arrival.px AS arrival_px, pace.most, pace.whole
    FROM windows w
    JOIN seen USING (twap_id) LEFT JOIN own USING (twap_id) LEFT JOIN pace USING (twap_id)
    LEFT JOIN LATERAL (
        SELECT CASE WHEN count(volume) = count(*) AND count(notional) = count(*) THEN coalesce(sum(volume), 0) END AS volume,
               CASE WHEN count(volume) = count(*) AND count(notional) = count(*) THEN coalesce(sum(notional), 0) END AS notional
        FROM hl.candles c
        WHERE c.coin = coalesce(w.told_coin, w.slice_coin) AND c.time >= to_timestamp(w.first_minute * 60)
          AND c.time < to_timestamp((w.first_minute + w.whole_minutes) * 60)
    ) market ON true
    LEFT JOIN LATERAL (
        SELECT c.close AS px FROM hl.candles c
        WHERE c.coin = coalesce(w.told_coin, w.slice_coin) AND c.time <= w.begins_at - interval '1 minute'
          AND c.time >= w.begins_at - interval '60 minutes'
        ORDER BY c.time DESC LIMIT 1
    ) arrival ON true
)
INSERT INTO hl.twaps
SELECT twap_id, wallet, coin, side, status, error,
       CASE WHEN differ THEN 'conflict'
            WHEN status = 'waitingForTrigger' AND slices = 0 THEN 'waiting'
            WHEN statuses = 0 THEN 'status_missing'
            WHEN NOT is_end AND EXISTS (
                SELECT FROM hl.twap_days t
                WHERE t.date = (to_timestamp(due_ms / 1000.0) AT TIME ZONE 'UTC')::date AND t.state <> 'pending'
            ) THEN 'status_missing'
            WHEN NOT is_end THEN 'running'
            WHEN size_reported IS NULL THEN 'unreported'
            WHEN status = 'error' AND size = 0 AND size_reported = 0 THEN 'failed'
            WHEN size = size_reported THEN 'match'
            WHEN size > size_reported THEN 'excess_fills'
            WHEN NOT is_complete THEN 'hole'
            ELSE 'missing_fills' END,
       started_at, begins_at, to_timestamp(planned_ms / 1000.0), to_timestamp(ended_ms / 1000.0), duration_minutes, reduce_only,
       randomize, statuses, size_requested, size_reported, notional_reported, fills, slices,
       CASE WHEN duration_minutes IS NULL OR begins_ms IS NULL THEN NULL WHEN end_ms < begins_ms THEN 0
            ELSE least(2 * duration_minutes, (end_ms - begins_ms) / 30000 + 1) END,
       size, notional, first_slice_at, last_slice_at, hl.ratio(notional, size, 10), whole_minutes,
       market_volume, market_notional, hl.ratio(market_notional, market_volume, 10), own_volume, own_notional,
       CASE WHEN market_volume > own_volume THEN hl.ratio(market_notional - own_notional, market_volume - own_volume, 10) END,
       hl.ratio(own_volume, market_volume, 10), arrival_px,
       hl.ratio(sign * 10000 * (notional * market_volume - market_notional * size), size * market_notional, 4),
       CASE WHEN market_volume > own_volume THEN
           hl.ratio(sign * 10000 * (notional * (market_volume - own_volume) - (market_notional - own_notional) * size),
                    size * (market_notional - own_notional), 4) END,
       hl.ratio(sign * 10000 * (notional - arrival_px * size), arrival_px * size, 4),
       hl.ratio(most, whole, 10), hl.ratio(maker_size, size, 10), fees, closed_pnl, is_complete,
       least(known_from, first_status_at, first_slice_at) - interval '60 minutes',
       greatest(begins_at, last_status_at, last_slice_at, end_at, CASE WHEN NOT is_end THEN to_timestamp(due_ms / 1000.0) END)
FROM figures
