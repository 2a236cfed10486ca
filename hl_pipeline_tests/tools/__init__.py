"""Programs for people who work on the project. None of them is a test."""
