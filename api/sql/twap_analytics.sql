-- Requested and observed figures of TWAPs, and of the market during them. A condition appended to this selects the TWAPs.
SELECT * FROM hl.twaps
