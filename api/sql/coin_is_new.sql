-- Whether a coin is in the fills of a day whose statistics are not made yet. This is separate from coin_is_seen.sql because
-- PostgreSQL plans this query for the table of every day.
SELECT EXISTS (
    SELECT FROM hl.fills_days d JOIN hl.fills f ON f.time >= d.date::timestamp AT TIME ZONE 'UTC'
                                               AND f.time < (d.date + 1)::timestamp AT TIME ZONE 'UTC'
    WHERE d.daily_stats_at IS NULL AND f.coin = %(coin)s)
