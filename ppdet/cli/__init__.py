"""The console command `ppdet`: one module per command, which parses the arguments and does the work.

`commands.py` lists the commands. Each module has `main(argv, program)`; the files of tools/ and deploy/python/ call the
same functions. Nothing here is imported by other parts of the package.
"""
