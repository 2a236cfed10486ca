"""The explorer: HTML pages of what the REST API answers. Handlers are in api/routes/pages.py; nothing here reads the database."""
