-- What was asked of TWAPs, what they did, and the market meanwhile. Which TWAPs, a condition behind this says.
SELECT * FROM hl.twaps
