"""`python -m ppdet` is the console command `ppdet`."""

from ppdet.cli.commands import main

if __name__ == "__main__":
    main()
