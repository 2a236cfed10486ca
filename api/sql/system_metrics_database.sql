SELECT 'hl_schema_version', ARRAY[]::text[], version_num::double precision FROM hl.alembic_version
UNION ALL
SELECT 'hl_database_size_bytes', ARRAY[]::text[], pg_database_size(current_database())::double precision
