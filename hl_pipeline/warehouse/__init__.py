"""PostgreSQL: connections, migrations, loads, ledgers, queries. Neither the lake nor the sources are known here."""
