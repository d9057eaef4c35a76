"""Inputs that mean harm, thousands of each kind, against the code that opens them; docs/RELIABILITY.md has figures.

`run.py` is the command. `case.py`: what a case is. `draw.py`: random decisions and values; `mutate.py`: damage to
honest files. One file per kind makes its cases and says what is done with them: `weights.py`, `configurations.py`,
`annotations.py`, `pictures.py`, `http_requests.py`, `batch_lists.py`. `sandbox.py` runs one case and judges what
happened; `workers.py` runs many cases in processes with limits; `kinds.py` lists the kinds.
"""
