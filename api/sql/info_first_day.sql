-- The first day whose fills are loaded. Earlier ranges need not be searched.
SELECT min(date)::timestamp AT TIME ZONE 'UTC' FROM hl.fills_days
