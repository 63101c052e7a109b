"""How a prediction is measured and shown: exact counts, scores, calibration, tables, pictures, the report."""
