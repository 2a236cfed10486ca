-- The first and last day that has fills or TWAP statuses.
SELECT min(date), max(date) FROM (
    SELECT date, state FROM hl.fills_days UNION ALL SELECT date, state FROM hl.twap_days
) loaded_days
WHERE state IS DISTINCT FROM 'no source'
