"""The acceptance kit: does all of this work on the device at hand? `tools/check_device.py` runs it.

`registry` says what a check is and lists them all, `checks/` has them, `runner` runs them in processes of their own,
`report` writes what came out. A check is a function of a `Context`:

    @check("nms/sizes", title="…", advice="…", limit=60, seconds=5)
    def sizes(context: Context) -> Outcome: ...

It returns an `Outcome`, or raises `Failed` or `Skipped`; any other exception is a failure as well. Importing this
package, and every file of `checks/`, loads no paddle: that happens inside the functions, in the process that runs them.
"""
