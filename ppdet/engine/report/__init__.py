"""The report on a trained model: one HTML page of what it finds, what it misses, and where the labels may be wrong.

`model_report.py` writes the folder of a report. `model_analysis.py` computes the figures from the detections of an
evaluation (with hotcoco), `judged_boxes.py` names the error of each box, `model_page.py` and `model_pictures.py` show
all of it, and `thresholds_file.py` keeps the best thresholds.
"""
