"""Training, evaluation, prediction and export of detectors.

Nothing is imported here, so that `ppdet.engine.device_choice` can be imported before paddle is loaded.
"""
