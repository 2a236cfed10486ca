, signed AS (
    SELECT name, CASE %(order)s::text WHEN 'asc' THEN -value ELSE value END AS value FROM valued
), placed AS (
    SELECT name, value, rank() OVER (ORDER BY value DESC NULLS LAST) AS rank,
           row_number() OVER (ORDER BY value DESC NULLS LAST, name) AS place
    FROM signed
), cut AS (
    SELECT %(after_value)s::numeric * CASE %(order)s::text WHEN 'asc' THEN -1 ELSE 1 END AS after_value
), shown AS (
    -- Equal values share a rank; an unknown value has none.
    SELECT place, name, CASE WHEN value IS NOT NULL THEN rank END AS rank
    FROM placed, cut
    WHERE (%(top)s::bigint IS NULL OR place <= %(top)s)
      AND (%(after_name)s::text IS NULL OR value < after_value OR value IS NULL AND after_value IS NOT NULL
           OR value IS NOT DISTINCT FROM after_value AND name > %(after_name)s)
    ORDER BY place LIMIT %(limit)s
)
