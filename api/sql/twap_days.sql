-- The first and last day on which a TWAP may have slices, from its known slices and its window. NULL if there is no such TWAP.
SELECT min(first) AS first, max(last) AS last
FROM (
    SELECT date AS first, date AS last FROM hl.twap_slice_days WHERE twap_id = %(twap_id)s
    UNION ALL
    SELECT begins_at::date, coalesce(ended_at, planned_end, last_slice_at, begins_at)::date
    FROM hl.twaps WHERE twap_id = %(twap_id)s
    UNION ALL
    SELECT least(started_at, time)::date, greatest(time, started_at + duration_minutes * interval '1 minute')::date
    FROM hl.twap_statuses WHERE twap_id = %(twap_id)s
) known
