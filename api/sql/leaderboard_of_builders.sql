, valued AS (
    SELECT name, CASE %(sort)s::text WHEN 'fees_in_quote' THEN fees_in_quote WHEN 'notional' THEN notional
                                     WHEN 'fills' THEN fills::numeric END AS value
    FROM summed
)
