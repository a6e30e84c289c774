"""Forecasting a column of a CSV file: the jobs behind `openrnn forecast` and `openrnn predict`.

They need the extra `train`; nothing of it is imported before a job runs.

- `openrnn.forecast.settings`: what to do, as a `Settings`
- `openrnn.forecast.job`: `run_forecast`, from a file to a trained model and its scores
- `openrnn.forecast.predict`: `predict`, from a model and a file to what comes next
"""
