"""The parameters of each route, by kind of answer. What several routes share is in api/parameters.py."""
