-- The sums of each builder in the range, as `summed`. Its name is '' if only its fees are known.
WITH chosen AS (
    SELECT coalesce(builder, '') AS name, b.* FROM hl.builder_stats b
    WHERE date BETWEEN %(start)s AND %(end)s AND (%(coin)s::text IS NULL OR coin = %(coin)s)
), by_token AS (
    SELECT c.name, f.key AS token, sum(f.value::numeric) AS amount
    FROM chosen c CROSS JOIN LATERAL json_each_text(c.fees) f GROUP BY 1, 2
), paid AS (
    SELECT name, json_object_agg(token, trim_scale(amount)::text ORDER BY token COLLATE "C") AS fees FROM by_token GROUP BY 1
), added AS (
    SELECT name, min(builder) AS builder, count(DISTINCT date) AS days, count(DISTINCT coin) AS coins, sum(fills)::bigint AS fills,
           sum(non_market_rows)::bigint AS non_market_rows, sum(fills_with_fee)::bigint AS fills_with_fee,
           CASE WHEN count(notional) = count(*) THEN trim_scale(sum(notional)) END AS notional,
           CASE WHEN count(fees_in_quote) = count(*) THEN trim_scale(sum(fees_in_quote)) END AS fees_in_quote,
           CASE WHEN bool_or(NOT is_complete) THEN false WHEN bool_and(is_complete IS NOT NULL) THEN true END AS is_complete,
           bool_and(fees IS NOT NULL) AS fees_are_known
    FROM chosen GROUP BY name
), summed AS (
    SELECT a.*, CASE WHEN fees_are_known THEN coalesce(fees, '{}') END AS fees FROM added a LEFT JOIN paid USING (name)
)
