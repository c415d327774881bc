"""`python -m jaxfdsl.cli` is `jaxfdsl`."""

from jaxfdsl.cli import run

if __name__ == "__main__":
    run()
