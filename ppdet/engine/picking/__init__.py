"""`ppdet data pick`: which images of a folder to label next (`pick.py`), and the page that shows them (`page.py`)."""
