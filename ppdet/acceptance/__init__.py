'''The acceptance kit: checks whether training, evaluation, export and inference work on a device.

`ppdet check-device` runs it (`command.py`, `kit.py`). `checks/` holds the checks, `check_registry` lists them, `runner`
runs them in processes of their own (`check_process`), and `report_files` writes the report.

A check is a function that takes a `Context`. Its docstring is shown in reports and docs/GPU.md:

    @check("nms/sizes", seconds=5)
    def sizes(context: Context) -> Outcome:
        """What is compared with what, in one line

        What a failure means, and what to do about it, in a few sentences.
        """

It returns an `Outcome`, or raises `Failed` or `Skipped`. Any other exception also counts as a failure. Importing this
package and the modules of `checks/` does not import paddle. The check functions import it, in the process that runs
them.
'''
