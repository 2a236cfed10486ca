-- What was asked of TWAPs, what they did, and the market meanwhile.
SELECT * FROM hl.twaps WHERE twap_id = ANY(%(twap_ids)s)
