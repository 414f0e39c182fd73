"""Solutions and plausible wrong answers, one module a lesson. Try the exercise first."""
