"""``python -m slim`` is the command ``slim``."""

from slim.cli.main import main as command

if __name__ == "__main__":
    command(prog_name="slim")
