"""hl.user_stats gets fees_in_quote, hl.user_stats_by too; a period in which no fee was paid has fees {}, not NULL."""

from alembic import op

revision = "0013"
down_revision = "0012"

DAILY_STATS_BY = """
CREATE OR REPLACE FUNCTION hl.daily_stats_by(period text, first_day date DEFAULT '-infinity', last_day date DEFAULT 'infinity')
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
           CASE WHEN bool_and(c.fees IS NOT NULL) THEN coalesce((array_agg(p.fees))[1], '{}') END,
           CASE WHEN bool_or(NOT c.is_complete) THEN false WHEN bool_and(c.is_complete IS NOT NULL) THEN true END
    FROM chosen c LEFT JOIN paid p ON (p.start, p.coin) = (c.start, c.coin)
    GROUP BY c.start, c.coin, c.kind ORDER BY c.start, c.coin;
END $$;
"""

USER_STATS_BY = """
CREATE FUNCTION hl.user_stats_by(period text, first_day date DEFAULT '-infinity', last_day date DEFAULT 'infinity',
                                 only_wallet text DEFAULT NULL)
RETURNS TABLE (period_start date, days bigint, wallet text, fills numeric, non_market_rows numeric, maker_fills numeric,
               taker_fills numeric, maker_notional numeric, taker_notional numeric, closed_pnl numeric, closed_pnl_known numeric,
               fees_known numeric, fees_in_quote numeric,
               first_fill timestamptz, last_fill timestamptz, fees json, is_complete boolean)
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
               CASE WHEN count(c.fees_in_quote) = count(*) THEN sum(c.fees_in_quote) END AS fees_in_quote,
               min(c.first_fill) AS first_fill, max(c.last_fill) AS last_fill, bool_and(c.fees IS NOT NULL) AS fees_are_known,
               CASE WHEN bool_or(NOT c.is_complete) THEN false WHEN bool_and(c.is_complete IS NOT NULL) THEN true END AS complete
        FROM chosen c GROUP BY c.start, c.wallet
    )
    SELECT nullif(s.start, '-infinity'), s.days, s.wallet, s.fills, s.non_market_rows, s.maker_fills, s.taker_fills,
           s.maker_notional, s.taker_notional, s.closed_pnl, s.closed_pnl_known, s.fees_known, s.fees_in_quote,
           s.first_fill, s.last_fill,
           CASE WHEN s.fees_are_known THEN coalesce(p.fees, '{}') END, s.complete
    FROM summed s LEFT JOIN paid p ON (p.start, p.wallet) = (s.start, s.wallet) ORDER BY s.start, s.wallet;
END $$;
"""

OLD_DAILY_STATS_BY = DAILY_STATS_BY.replace("coalesce((array_agg(p.fees))[1], '{}')", "(array_agg(p.fees))[1]")
OLD_USER_STATS_BY = USER_STATS_BY
for new, old in (
    (" fees_in_quote numeric,", ""),
    ("CASE WHEN count(c.fees_in_quote) = count(*) THEN sum(c.fees_in_quote) END AS fees_in_quote,", ""),
    (" s.fees_in_quote,", ""),
    ("coalesce(p.fees, '{}')", "p.fees"),
):
    OLD_USER_STATS_BY = OLD_USER_STATS_BY.replace(new, old)


def upgrade() -> None:
    op.execute("ALTER TABLE hl.user_stats ADD COLUMN fees_in_quote numeric")
    op.execute(DAILY_STATS_BY)
    op.execute("DROP FUNCTION hl.user_stats_by")
    op.execute(USER_STATS_BY)


def downgrade() -> None:
    op.execute("DROP FUNCTION hl.user_stats_by")
    op.execute(OLD_USER_STATS_BY)
    op.execute(OLD_DAILY_STATS_BY)
    op.execute("ALTER TABLE hl.user_stats DROP COLUMN fees_in_quote")
