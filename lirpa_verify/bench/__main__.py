"""`python -m lirpa_verify.bench` is `lirpa-bench`."""

from lirpa_verify.bench.cli import main

if __name__ == "__main__":
    main()
