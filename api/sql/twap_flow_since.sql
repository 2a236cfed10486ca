-- Follows twap_flow_running.sql: since when slices must be added up, because some come after the moment.
SELECT min(first_slice_at) FROM running WHERE last_slice_at > %(at)s AND first_slice_at <= %(at)s
