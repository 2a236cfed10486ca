"""Candles and statistics; object_id follows from the object; how a day was judged; the other order of a leg of node_trades."""

from alembic import op

revision = "0002"
down_revision = "0001"
REWRITES = ("hl.fills",)

UPGRADE = """
CREATE TEMP TABLE renumbered ON COMMIT DROP AS
SELECT object_id AS old, (object_date - '2023-01-01'::date) * 24 + object_hour
       + CASE source WHEN 'node_trades' THEN 1000000 WHEN 'node_fills' THEN 2000000 ELSE 3000000 END AS new,
       -- An hour that came or failed under two names has two rows: what came goes before what failed, the later one first.
       row_number() OVER (PARTITION BY source, object_date, object_hour
                          ORDER BY fetched_at DESC NULLS LAST, object_id DESC) AS place
FROM hl.s3_ingest_log;
CREATE TEMP TABLE given ON COMMIT DROP AS
SELECT o.date, r.new AS object_id, (array_agg(o.etag ORDER BY r.place))[1] AS etag, sum(o.rows) AS rows
FROM hl.fills_day_objects o JOIN renumbered r ON r.old = o.object_id GROUP BY 1, 2;
ALTER TABLE hl.s3_ingest_log ALTER COLUMN object_id DROP IDENTITY;
TRUNCATE hl.fills_day_objects;
DELETE FROM hl.s3_ingest_log USING renumbered WHERE object_id = old AND place > 1;
UPDATE hl.s3_ingest_log SET object_id = new FROM renumbered WHERE object_id = old;
INSERT INTO hl.fills_day_objects SELECT * FROM given;
UPDATE hl.fills SET object_id = new FROM renumbered WHERE object_id = old;
COMMENT ON COLUMN hl.s3_ingest_log.object_id IS
    'Source (1 node_trades, 2 node_fills, 3 node_fills_by_block) in millions, and the hours since 2023: the same wherever made';

ALTER TABLE hl.fills ADD COLUMN counterparty_oid bigint;
COMMENT ON COLUMN hl.fills.counterparty_oid IS 'Order of the other leg; of node_trades only, where no tid is known';
COMMENT ON COLUMN hl.fills.tid IS 'Trade: both legs share it, 0 for dust; NULL: known from node_trades alone';

ALTER TABLE hl.fills_days
    ADD COLUMN state text CHECK (state IN ('whole', 'unprovable', 'pending', 'incomplete', 'no source')),
    ADD COLUMN explanation text,
    ADD COLUMN thinned_at timestamptz,
    ADD COLUMN candles_at timestamptz,
    ADD COLUMN daily_stats_at timestamptz,
    ADD COLUMN user_stats_at timestamptz;
COMMENT ON COLUMN hl.fills_days.state IS 'How the day was judged when it was loaded; explanation says it in words';
COMMENT ON COLUMN hl.fills_days.thinned_at IS 'When its rows left hl.fills (hl drop, HL_FILLS_KEEP_DAYS); the lake has them';

CREATE TABLE hl.candles (
    coin      text NOT NULL,
    time      timestamptz NOT NULL,
    open      numeric NOT NULL,
    high      numeric NOT NULL,
    low       numeric NOT NULL,
    close     numeric NOT NULL,
    volume    numeric,
    notional  numeric,
    trades    bigint NOT NULL,
    date      date NOT NULL,
    PRIMARY KEY (coin, time)
);
CREATE INDEX candles_date ON hl.candles (date);
COMMENT ON TABLE hl.candles IS 'One row per coin and minute with a trade (UTC)';

CREATE TABLE hl.daily_stats (
    date                  date NOT NULL,
    coin                  text NOT NULL,
    kind                  text NOT NULL CHECK (kind IN ('perp', 'spot', 'hip3', 'outcome')),
    fills                 bigint NOT NULL,
    non_market_rows       bigint NOT NULL,
    fees_known            bigint NOT NULL,
    fees_in_quote         numeric,
    trades                bigint NOT NULL,
    volume                numeric,
    notional              numeric,
    buys                  bigint,
    sells                 bigint,
    buy_volume            numeric,
    sell_volume           numeric,
    buy_notional          numeric,
    sell_notional         numeric,
    liquidations          bigint,
    liquidation_notional  numeric,
    twap_volume           numeric,
    twap_notional         numeric,
    builder_volume        numeric,
    builder_notional      numeric,
    wallets               bigint NOT NULL,
    open                  numeric,
    high                  numeric,
    low                   numeric,
    close                 numeric,
    fees                  json,
    is_complete           boolean,
    vwap                  numeric GENERATED ALWAYS AS (round(notional / nullif(volume, 0), 10)) STORED,
    PRIMARY KEY (date, coin)
);
CREATE INDEX daily_stats_coin ON hl.daily_stats (coin, date);
COMMENT ON TABLE hl.daily_stats IS 'One row per day (UTC) and coin; a sum over something unknown is NULL';

CREATE TABLE hl.user_stats (
    date              date NOT NULL,
    wallet            text NOT NULL,
    fills             bigint NOT NULL,
    non_market_rows   bigint NOT NULL,
    maker_fills       bigint,
    taker_fills       bigint,
    maker_notional    numeric,
    taker_notional    numeric,
    closed_pnl        numeric,
    closed_pnl_known  bigint NOT NULL,
    fees_known        bigint NOT NULL,
    coins             bigint NOT NULL,
    twaps             bigint NOT NULL,
    first_fill        timestamptz NOT NULL,
    last_fill         timestamptz NOT NULL,
    fees              json,
    sources           text[] NOT NULL,
    is_complete       boolean,
    PRIMARY KEY (date, wallet)
);
CREATE INDEX user_stats_wallet ON hl.user_stats (wallet, date);
COMMENT ON TABLE hl.user_stats IS 'One row per day (UTC) and wallet that had a fill; a sum over something unknown is NULL';

CREATE FUNCTION hl.daily_stats_by(period text, first_day date DEFAULT '-infinity', last_day date DEFAULT 'infinity')
RETURNS TABLE (period_start date, days bigint, coin text, kind text, fills numeric, non_market_rows numeric, trades numeric,
               volume numeric, notional numeric, buys numeric, sells numeric, buy_volume numeric, sell_volume numeric,
               buy_notional numeric, sell_notional numeric, liquidations numeric, liquidation_notional numeric,
               twap_volume numeric, twap_notional numeric, builder_volume numeric, builder_notional numeric,
               open numeric, high numeric, low numeric, close numeric, vwap numeric,
               fees_known numeric, fees_in_quote numeric, fees json, is_complete boolean)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM hl.check_period(period);
    RETURN QUERY
    WITH chosen AS (
        SELECT hl.start_of_period(period, s.date) AS start, s.* FROM hl.daily_stats s WHERE s.date BETWEEN first_day AND last_day
    ), by_token AS (
        SELECT c.start, c.coin, f.key AS token, sum(f.value::numeric) AS amount
        FROM chosen c CROSS JOIN LATERAL json_each_text(c.fees) f GROUP BY 1, 2, 3
    ), paid AS (
        SELECT b.start, b.coin, json_object_agg(b.token, trim_scale(b.amount)::text ORDER BY b.token) AS fees
        FROM by_token b GROUP BY 1, 2
    )
    SELECT nullif(c.start, '-infinity'), count(*), c.coin, c.kind, sum(c.fills), sum(c.non_market_rows), sum(c.trades),
           CASE WHEN count(c.volume) = count(*) THEN sum(c.volume) END,
           CASE WHEN count(c.notional) = count(*) THEN sum(c.notional) END,
           CASE WHEN count(c.buys) = count(*) THEN sum(c.buys) END,
           CASE WHEN count(c.sells) = count(*) THEN sum(c.sells) END,
           CASE WHEN count(c.buy_volume) = count(*) THEN sum(c.buy_volume) END,
           CASE WHEN count(c.sell_volume) = count(*) THEN sum(c.sell_volume) END,
           CASE WHEN count(c.buy_notional) = count(*) THEN sum(c.buy_notional) END,
           CASE WHEN count(c.sell_notional) = count(*) THEN sum(c.sell_notional) END,
           CASE WHEN count(c.liquidations) = count(*) THEN sum(c.liquidations) END,
           CASE WHEN count(c.liquidation_notional) = count(*) THEN sum(c.liquidation_notional) END,
           CASE WHEN count(c.twap_volume) = count(*) THEN sum(c.twap_volume) END,
           CASE WHEN count(c.twap_notional) = count(*) THEN sum(c.twap_notional) END,
           CASE WHEN count(c.builder_volume) = count(*) THEN sum(c.builder_volume) END,
           CASE WHEN count(c.builder_notional) = count(*) THEN sum(c.builder_notional) END,
           (array_agg(c.open ORDER BY c.date) FILTER (WHERE c.trades > 0))[1], max(c.high), min(c.low),
           (array_agg(c.close ORDER BY c.date DESC) FILTER (WHERE c.trades > 0))[1],
           CASE WHEN count(c.notional) = count(*) AND count(c.volume) = count(*)
                THEN round(sum(c.notional) / nullif(sum(c.volume), 0), 10) END,
           sum(c.fees_known), CASE WHEN count(c.fees_in_quote) = count(*) THEN sum(c.fees_in_quote) END,
           CASE WHEN bool_and(c.fees IS NOT NULL) THEN (array_agg(p.fees))[1] END,
           CASE WHEN bool_or(NOT c.is_complete) THEN false WHEN bool_and(c.is_complete IS NOT NULL) THEN true END
    FROM chosen c LEFT JOIN paid p ON (p.start, p.coin) = (c.start, c.coin)
    GROUP BY c.start, c.coin, c.kind ORDER BY c.start, c.coin;
END $$;

CREATE FUNCTION hl.user_stats_by(period text, first_day date DEFAULT '-infinity', last_day date DEFAULT 'infinity',
                                 only_wallet text DEFAULT NULL)
RETURNS TABLE (period_start date, days bigint, wallet text, fills numeric, non_market_rows numeric, maker_fills numeric,
               taker_fills numeric, maker_notional numeric, taker_notional numeric, closed_pnl numeric, closed_pnl_known numeric,
               fees_known numeric, first_fill timestamptz, last_fill timestamptz, fees json, is_complete boolean)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM hl.check_period(period);
    RETURN QUERY
    WITH chosen AS (
        SELECT hl.start_of_period(period, s.date) AS start, s.* FROM hl.user_stats s
        WHERE s.date BETWEEN first_day AND last_day AND (only_wallet IS NULL OR s.wallet = lower(only_wallet))
    ), by_token AS (
        SELECT c.start, c.wallet, f.key AS token, sum(f.value::numeric) AS amount
        FROM chosen c CROSS JOIN LATERAL json_each_text(c.fees) f GROUP BY 1, 2, 3
    ), paid AS (
        SELECT b.start, b.wallet, json_object_agg(b.token, trim_scale(b.amount)::text ORDER BY b.token) AS fees
        FROM by_token b GROUP BY 1, 2
    ), summed AS (
        SELECT c.start, count(*) AS days, c.wallet, sum(c.fills) AS fills, sum(c.non_market_rows) AS non_market_rows,
               CASE WHEN count(c.maker_fills) = count(*) THEN sum(c.maker_fills) END AS maker_fills,
               CASE WHEN count(c.taker_fills) = count(*) THEN sum(c.taker_fills) END AS taker_fills,
               CASE WHEN count(c.maker_notional) = count(*) THEN sum(c.maker_notional) END AS maker_notional,
               CASE WHEN count(c.taker_notional) = count(*) THEN sum(c.taker_notional) END AS taker_notional,
               CASE WHEN count(c.closed_pnl) = count(*) THEN sum(c.closed_pnl) END AS closed_pnl,
               sum(c.closed_pnl_known) AS closed_pnl_known, sum(c.fees_known) AS fees_known,
               min(c.first_fill) AS first_fill, max(c.last_fill) AS last_fill, bool_and(c.fees IS NOT NULL) AS fees_are_known,
               CASE WHEN bool_or(NOT c.is_complete) THEN false WHEN bool_and(c.is_complete IS NOT NULL) THEN true END AS complete
        FROM chosen c GROUP BY c.start, c.wallet
    )
    SELECT nullif(s.start, '-infinity'), s.days, s.wallet, s.fills, s.non_market_rows, s.maker_fills, s.taker_fills,
           s.maker_notional, s.taker_notional, s.closed_pnl, s.closed_pnl_known, s.fees_known, s.first_fill, s.last_fill,
           CASE WHEN s.fees_are_known THEN p.fees END, s.complete
    FROM summed s LEFT JOIN paid p ON (p.start, p.wallet) = (s.start, s.wallet) ORDER BY s.start, s.wallet;
END $$;
"""

HELPERS = """
CREATE FUNCTION hl.check_period(period text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF period IS NULL OR period NOT IN ('day', 'week', 'month', 'year', 'all') THEN
        RAISE EXCEPTION 'period is %, must be day, week, month, year or all', coalesce(quote_literal(period), 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;
COMMENT ON FUNCTION hl.check_period IS 'Raises invalid_parameter_value for a period that hl.daily_stats_by does not know';

CREATE FUNCTION hl.start_of_period(period text, day date) RETURNS date LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN period = 'all' THEN '-infinity' ELSE date_trunc(period, day::timestamp)::date END
$$;
COMMENT ON FUNCTION hl.start_of_period IS 'The first day of the period (weeks begin on Monday); -infinity for all';
"""

VIEW = """
CREATE OR REPLACE VIEW hl.fills_readable AS
SELECT time, coin, wallet, side, trim_scale(px) AS px, trim_scale(sz) AS sz, dir, crossed,
       trim_scale(start_position) AS start_position, trim_scale(closed_pnl) AS closed_pnl,
       trim_scale(fee) AS fee, fee_token, trim_scale(builder_fee) AS builder_fee, builder,
       trim_scale(deployer_fee) AS deployer_fee, trim_scale(priority_gas) AS priority_gas,
       tid, oid, twap_id, '0x' || encode(hash, 'hex') AS hash, '0x' || encode(cloid, 'hex') AS cloid,
       liquidated_user, trim_scale(liquidation_mark_px) AS liquidation_mark_px, liquidation_method,
       block_number, block_time_ns, object_key, extra, counterparty_oid
FROM hl.fills JOIN hl.s3_ingest_log USING (object_id);
"""

DOWNGRADE = """
DROP FUNCTION hl.user_stats_by, hl.daily_stats_by, hl.start_of_period, hl.check_period;
DROP TABLE hl.user_stats, hl.daily_stats, hl.candles;
ALTER TABLE hl.fills_days DROP COLUMN state, DROP COLUMN explanation, DROP COLUMN thinned_at, DROP COLUMN candles_at,
    DROP COLUMN daily_stats_at, DROP COLUMN user_stats_at;
DROP VIEW hl.fills_readable;
ALTER TABLE hl.fills DROP COLUMN counterparty_oid;
COMMENT ON COLUMN hl.fills.tid IS NULL;
COMMENT ON COLUMN hl.s3_ingest_log.object_id IS NULL;
DO $$ BEGIN
    EXECUTE format('ALTER TABLE hl.s3_ingest_log ALTER COLUMN object_id ADD GENERATED ALWAYS AS IDENTITY (START WITH %s)',
                   (SELECT coalesce(max(object_id), 0) + 1 FROM hl.s3_ingest_log));
END $$;
"""

OLD_VIEW = (
    VIEW.replace(", counterparty_oid\nFROM", "\nFROM")
    + """
COMMENT ON VIEW hl.fills_readable IS
    'hl.fills for people: hash and cloid as 0x…, numbers without trailing zeros, the object by its key';
"""
)


def upgrade() -> None:
    for text in (HELPERS, UPGRADE, VIEW):
        op.execute(text)


def downgrade() -> None:
    op.execute(DOWNGRADE)
    op.execute(OLD_VIEW)
