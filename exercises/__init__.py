"""Checks of the lessons' exercises, one module a lesson; the solutions stand in `exercises.solutions`."""
